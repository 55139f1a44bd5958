"""Queries of a device: a probe to both matchers, and from both answers to a result.

What stands behind `verify`, `candidates` and `identify` of the clients. Labels of a gallery are kept from one search to
the next, so that servers send them once for each state of the gallery.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable

from veilmatch.client.device import Device, Embedding
from veilmatch.client.quoting import naming
from veilmatch.client.results import Candidates, IdentifyResult, Timings, Verification
from veilmatch.client.wire import agreement
from veilmatch.client.wire.connection import Answered, Connection, Opening
from veilmatch.client.wire.signing import Draft
from veilmatch.client.wire.transport import Matcher
from veilmatch.protos.v1 import matcher_pb2, request_pb2


class Queries:
    """One device's queries to one gallery."""

    def __init__(self, device: Device, connection: Connection, limit: Callable[[float | None], float]) -> None:
        """limit: the seconds that a call may take, given what its caller said."""
        self._device = device
        self._connection = connection
        self._limit = limit
        self._labels = agreement.Labels()

    async def verify(
        self,
        started: float,
        subject: str,
        embedding: Embedding,
        model: str,
        t: int,
        timeout_s: float | None,
    ) -> Verification:
        """Return whether the probe is the subject's. started: when the call began; t: the threshold in 1..S^2."""
        probe = await self._device.lanes(embedding)
        draft = Draft(request_pb2.OPERATION_VERIFY, probe, t, subject, model=model)
        prepared = time.perf_counter()
        with naming(subject):
            answered = await self._match(draft, b"", timeout_s, agreement.open_verification)
        opened = answered.opened
        return Verification(
            decision=bool(opened.bits[0]),
            subject=subject,
            sequence=opened.sequence,
            pair=answered.pair,
            shares=(answered.replies[0].share, answered.replies[1].share),
            probe_bytes=answered.request.ByteSize(),
            request_id=answered.request_id,
            timings=_timings(started, prepared, answered.replies),
        )

    async def candidates(
        self, started: float, embedding: Embedding, model: str, t: int, timeout_s: float | None
    ) -> Candidates:
        """Return every subject that the probe matches. started, t: see `verify`."""
        probe = await self._device.lanes(embedding)
        draft = Draft(request_pb2.OPERATION_CANDIDATES, probe, t, model=model)
        prepared = time.perf_counter()
        known = self._labels
        answered = await self._match(draft, known.chain, timeout_s, lambda a, b: agreement.open_candidates(a, b, known))
        opened = answered.opened
        self._labels = opened.labels
        return Candidates(
            subjects=agreement.matching_subjects(opened),
            compared=len(opened.bits),
            sequence=opened.sequence,
            pair=answered.pair,
            shares=(answered.replies[0].share, answered.replies[1].share),
            probe_bytes=answered.request.ByteSize(),
            request_id=answered.request_id,
            timings=_timings(started, prepared, answered.replies),
        )

    async def identify(
        self, started: float, embedding: Embedding, model: str, t: int, timeout_s: float | None
    ) -> IdentifyResult:
        """Return the subject that the probe matches best. started, t: see `verify`."""
        probe = await self._device.lanes(embedding)
        draft = Draft(request_pb2.OPERATION_IDENTIFY, probe, t, model=model)
        prepared = time.perf_counter()
        known = self._labels
        answered = await self._match(
            draft, known.chain, timeout_s, lambda a, b: agreement.open_identification(a, b, known)
        )
        opened = answered.opened
        self._labels = opened.labels
        return IdentifyResult(
            subject=agreement.best_subject(opened),
            compared=len(opened.labels.subjects),
            sequence=opened.sequence,
            pair=answered.pair,
            shares=(answered.replies[0].share, answered.replies[1].share),
            probe_bytes=answered.request.ByteSize(),
            request_id=answered.request_id,
            timings=_timings(started, prepared, answered.replies),
        )

    async def _match(
        self,
        draft: Draft,
        known_chain: bytes,
        timeout_s: float | None,
        opening: Opening[matcher_pb2.MatchReply, agreement.Opened],
    ) -> Answered[matcher_pb2.MatchReply, agreement.Opened]:
        def ask(matcher: Matcher, signed: request_pb2.SignedRequest, left: float) -> Awaitable[matcher_pb2.MatchReply]:
            return matcher.match(matcher_pb2.MatchRequest(request=signed, known_chain=known_chain), left)

        return await self._connection.ask(draft, self._limit(timeout_s), ask, opening)


def _timings(started: float, prepared: float, replies: Iterable[matcher_pb2.MatchReply]) -> Timings:
    a, b = (reply.timings for reply in replies)
    return Timings(
        device_s=prepared - started,
        convert_s=max(a.convert_s, b.convert_s),
        match_s=max(a.match_s, b.match_s),
        decide_s=max(a.decide_s, b.decide_s),
        total_s=time.perf_counter() - started,
    )
