"""A query at a matcher: verify, candidates and identify, from the signed probe to this side's half of the answer.

DESIGN.md section 4. The matcher sees a uniformly random share of the probe, ciphertexts, and one
XOR share of the answer.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

import numpy as np

from veilmatch.crypto.encryption.paillier import Paillier
from veilmatch.crypto.gates.answer import answer_bits
from veilmatch.crypto.keys.shares import Pair, Seat, holder_at
from veilmatch.crypto.packing import slots
from veilmatch.protos.v1 import keyholder_pb2_grpc as keyholder_rpc
from veilmatch.protos.v1 import matcher_pb2 as pb
from veilmatch.protos.v1 import request_pb2
from veilmatch.server.matcher.agreement.meeting import Meeting, Meetings
from veilmatch.server.matcher.change.succession import Succession
from veilmatch.server.matcher.gallery.gallery import Gallery
from veilmatch.server.matcher.gallery.mutation import GalleryState
from veilmatch.server.matcher.query.keyholder_call import NO_RECORDS, KeyHolderCall, Records, opened
from veilmatch.server.matcher.query.pack_worker import PackWorkers
from veilmatch.server.transport.own_failures import Self
from veilmatch.server.transport.requests import CheckedRequest, require_current


@dataclass(frozen=True)
class Surroundings:
    """What the operations of a matcher work with."""

    seat: Seat
    scheme: Paillier
    workers: PackWorkers
    meetings: Meetings
    key_holders: dict[str, keyholder_rpc.KeyHolderAsyncStub]
    timeout_s: float
    #: Where a rotation goes; None if none is configured.
    succession: Succession | None = None

    @property
    def server(self) -> Self:
        """This matcher, for its own errors; no pair can do without it."""
        return Self(f"matcher-{self.seat}")

    def is_plus(self, pair: Pair) -> bool:
        """Return whether this matcher's key holder is the plus holder of `pair`."""
        return holder_at(pair, self.seat) == pair[0]

    def open_session(
        self,
        checked: CheckedRequest,
        request: request_pb2.SignedRequest,
        state: GalleryState,
        records: Records = NO_RECORDS,
        output_bits: int = 0,
    ) -> AbstractAsyncContextManager[KeyHolderCall]:
        """Open a session at the key holder that serves this matcher in the request's pair; see `opened`.

        Raises RequestExpiredError for a request that has waited too long here: what expired by the clock of this server
        says nothing about that of the key holder (requests.py).
        """
        require_current(checked, self.server.name)
        party = holder_at(checked.pair, self.seat)
        return opened(
            self.key_holders[party], party, checked.pair, request, state, records, self.scheme.parameters,
            is_plus=self.is_plus(checked.pair), timeout_s=self.timeout_s, output_bits=output_bits,
        )  # fmt: skip


async def match(
    checked: CheckedRequest,
    request: request_pb2.SignedRequest,
    model: str,
    known_chain: bytes,
    gallery: Gallery,
    meeting: Meeting,
    on: Surroundings,
) -> pb.MatchReply:
    """Serve verify, candidates or identify with a probe of this embedding model.

    Raises UnknownSubjectError for verify of a subject that is not there, ModelMismatchError for a probe that
    cannot be compared.
    """
    verify = checked.operation == "verify"
    async with on.meetings.agreed(meeting, gallery, gallery.lock.shared):
        gallery.require_model(model)  # the first templates may have come meanwhile
        index = gallery.index
        slots_asked = index.occupied_by(request.subject) if verify else index.occupied()
        reply = pb.MatchReply(sequence=gallery.state.sequence, chain=gallery.state.chain)
        packs = np.flatnonzero(slots_asked.any(axis=1)).tolist()
        if not packs:
            reply.session_id = checked.digest  # no session was needed
            return reply
        wanted = slots_asked[packs]
        started = time.perf_counter()
        count = answer_bits(checked.operation, int(wanted.sum()))
        async with on.open_session(checked, request, gallery.state, output_bits=count) as call:
            share = await call.probe_share()
            converted = time.perf_counter()
            mine = await on.workers.match(gallery.number, packs, share.values)
            theirs = await meeting.swap_results(share.session_id, mine)
            combined = _combine(mine, theirs, on, is_plus=on.is_plus(checked.pair))
            matched = time.perf_counter()
            await call.send_results(combined, wanted)
            reply.count = count
            reply.share, reply.valid_share = await call.decision_share(reply.count, len(packs))
            decided = time.perf_counter()
        reply.session_id = share.session_id
        reply.timings.convert_s = converted - started
        reply.timings.match_s = matched - converted
        reply.timings.decide_s = decided - matched
        # Last, so that the labels of a large gallery are not in memory together with its results.
        if not verify and known_chain != gallery.state.chain:
            reply.labels.extend(index.labels())
        return reply


def _combine(mine: Sequence[bytes], theirs: Sequence[bytes], on: Surroundings, *, is_plus: bool) -> list[bytes]:
    """Return V = R_plus * R_minus^-1 * half of every pack: the score of each slot plus 2^(B-1)."""
    scheme = on.scheme
    half = scheme.encode(slots.half(scheme.parameters))
    plus, minus = (mine, theirs) if is_plus else (theirs, mine)
    scores = scheme.divide_many(scheme.parse_many(plus), scheme.parse_many(minus))
    return [scheme.serialise(scheme.multiply(score, half)) for score in scores]
