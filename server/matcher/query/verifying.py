"""A verification at a matcher: the records of one subject go to the key holder, and a half of the answer comes back.

No pack is multiplied, and nothing passes between the two matchers but what they say when they meet: both give their key
holders the same records, which the key holders compare. docs/protocol.md.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from veilmatch.crypto.errors import InvalidInputError
from veilmatch.crypto.pair.request import MAX_TEMPLATES
from veilmatch.protos.v1 import matcher_pb2 as pb
from veilmatch.protos.v1 import request_pb2
from veilmatch.server.admission.requests import CheckedRequest
from veilmatch.server.matcher.agreement.meeting import Meeting
from veilmatch.server.matcher.gallery.gallery import Gallery
from veilmatch.server.matcher.query.matching import Surroundings, take_answer
from veilmatch.server.matcher.query.records import records_of


async def verify(
    checked: CheckedRequest,
    request: request_pb2.SignedRequest,
    model: str,
    gallery: Gallery,
    meeting: Meeting,
    on: Surroundings,
    counted: Callable[[], Awaitable[None]],
) -> pb.MatchReply:
    """Serve verify with a probe of this embedding model.

    counted: counts the request, once both hold the same: one of them may not have had the subject before. Raises
    UnknownSubjectError for a subject that is not there, InvalidInputError for one with too many templates,
    ModelMismatchError for a probe that cannot be compared.

    Records are read before the gallery is held, as for an erasure: one that is damaged at one matcher ends the request
    at both then. They are read again if the gallery was changed until it is held.
    """
    read = await gallery.records(gallery.index.slots_of(request.subject))
    async with on.agreement.reading(meeting, gallery):
        gallery.require_model(model)
        await counted()
        places = gallery.index.require(request.subject)
        if len(places) > MAX_TEMPLATES:
            raise InvalidInputError(
                "the subject has more templates than one verification compares",
                got=len(places),
                expected=f"<= {MAX_TEMPLATES}",
            )
        # In the order of their places, which is the same at both.
        read = await gallery.records(places, read)
        found = [read.at(place) for place in places]
        reply = pb.MatchReply(sequence=gallery.state.sequence, chain=gallery.state.chain)
        started = time.perf_counter()
        vectors = checked.views + len(found)
        records = records_of(found, on.scheme.parameters)
        async with on.open_session(checked, request, gallery.state, records) as call:
            await take_answer(reply, call, checked, 1, vectors * on.scheme.parameters.lane_ciphertexts)
        reply.timings.decide_s = time.perf_counter() - started
        return reply
