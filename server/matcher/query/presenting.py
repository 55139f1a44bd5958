"""A card at a matcher: a verification whose record comes with the request, and not from the gallery. docs/cards.md.

The gallery says of a card whether it was issued and not revoked; both matchers look while they hold the same log. The
key holder takes the record out of the card in the signed request itself, and has checked both signatures by then.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from veilmatch.crypto.card import SignedCard
from veilmatch.protos.v1 import matcher_pb2 as pb
from veilmatch.protos.v1 import request_pb2
from veilmatch.server.admission.requests import CheckedRequest
from veilmatch.server.matcher.agreement.meeting import Meeting
from veilmatch.server.matcher.gallery.gallery import Gallery
from veilmatch.server.matcher.query.matching import Surroundings, take_answer


async def present(
    checked: CheckedRequest,
    request: request_pb2.SignedRequest,
    card: SignedCard,
    gallery: Gallery,
    meeting: Meeting,
    on: Surroundings,
    counted: Callable[[], Awaitable[None]],
) -> pb.MatchReply:
    """Serve a verification with a card that was found right by itself.

    counted: counts the request, once both hold the same and the card is a good one. Raises CardError for a card that
    was not issued in this gallery as it is, CardRevokedError.
    """
    async with on.agreement.reading(meeting, gallery):
        gallery.cards.require_good(card)
        await counted()
        reply = pb.MatchReply(sequence=gallery.state.sequence, chain=gallery.state.chain)
        started = time.perf_counter()
        async with on.open_session(checked, request, gallery.state) as call:
            await take_answer(reply, call, checked, 1, 2 * on.scheme.parameters.lane_ciphertexts)
        reply.timings.decide_s = time.perf_counter() - started
        return reply
