"""Queries of a device: a probe to the matchers of a pair, or of all pairs, and from their answers to a result.

What stands behind `verify`, `candidates`, `identify` and `known` of the clients. Labels of a gallery are kept from one
search to the next, so that servers send what has changed since.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, replace

from veilmatch.client.card import Card
from veilmatch.client.given.quoting import naming
from veilmatch.client.operations.device import Device, Probe
from veilmatch.client.results import Candidates, IdentifyResult, Known, Timings, Verification
from veilmatch.client.wire import agreement
from veilmatch.client.wire.connection import Answered, Connection, Opening
from veilmatch.client.wire.labels import Labels
from veilmatch.client.wire.pairs.assurance import assured
from veilmatch.client.wire.signing import Draft
from veilmatch.client.wire.transport import Matcher
from veilmatch.crypto.keys.parties import PAIRS, Pair
from veilmatch.crypto.liveness import Verdict
from veilmatch.crypto.versions import Feature
from veilmatch.protos.v1 import matcher_pb2, request_pb2

Answer = Answered[matcher_pb2.MatchReply, agreement.Opened]


@dataclass(frozen=True, slots=True)
class Way:
    """How a query is to be answered. assured: by all three pairs alike. hedge: by a second pair if one is slow."""

    timeout_s: float
    assured: bool
    hedge: bool


@dataclass(frozen=True, slots=True)
class _Answers:
    """What was answered: the answer that counts, and the requests of all pairs where it is an assured one."""

    newest: Answer
    all: Collection[Answer]
    request_ids: tuple[str, ...]


class Queries:
    """One device's queries to one gallery."""

    def __init__(self, device: Device, connection: Connection) -> None:
        self._device = device
        self._connection = connection
        self._labels = Labels()

    async def verify(self, started: float, claimed: str | Card, probe: Probe, t: int, way: Way) -> Verification:
        """Return whether the probe is the subject's, as enrolled or as on a card. started: when the call began; t: the
        threshold in 1..S^2."""
        if isinstance(claimed, Card):
            subject = claimed.subject
            draft = await self._draft(request_pb2.OPERATION_PRESENT, probe, t, subject)
            draft = replace(draft, card=claimed.signed.encode(), salt=claimed.salt)
        else:
            subject = claimed
            draft = await self._draft(request_pb2.OPERATION_VERIFY, probe, t, subject)
        prepared = time.perf_counter()
        with naming(subject):
            answers = await self._match(draft, Labels(), way, agreement.open_verification, _decision)
        answered = answers.newest
        return Verification(
            decision=_decision(answered.opened),
            subject=subject,
            sequence=answered.opened.sequence,
            pair=answered.pair,
            shares=(answered.replies[0].share, answered.replies[1].share),
            probe_bytes=answered.request.ByteSize(),
            request_id=answered.request_id,
            timings=_timings(started, prepared, answers.all),
            request_ids=answers.request_ids,
        )

    async def candidates(self, started: float, probe: Probe, t: int, way: Way) -> Candidates:
        """Return every subject that the probe matches. started, t: see `verify`."""
        draft = await self._draft(request_pb2.OPERATION_CANDIDATES, probe, t)
        prepared = time.perf_counter()
        known = self._labels
        answers = await self._match(
            draft,
            known,
            way,
            lambda a, b, pair: self._told(agreement.open_candidates(a, b, pair, known)),
            lambda opened: sorted(agreement.matching_subjects(opened)),
        )
        answered = answers.newest
        return Candidates(
            subjects=agreement.matching_subjects(answered.opened),
            compared=len(answered.opened.bits),
            sequence=answered.opened.sequence,
            pair=answered.pair,
            shares=(answered.replies[0].share, answered.replies[1].share),
            probe_bytes=answered.request.ByteSize(),
            request_id=answered.request_id,
            timings=_timings(started, prepared, answers.all),
            request_ids=answers.request_ids,
        )

    async def identify(self, started: float, probe: Probe, t: int, way: Way) -> IdentifyResult:
        """Return the subject that the probe matches best. started, t: see `verify`."""
        draft = await self._draft(request_pb2.OPERATION_IDENTIFY, probe, t)
        prepared = time.perf_counter()
        known = self._labels
        answers = await self._match(
            draft,
            known,
            way,
            lambda a, b, pair: self._told(agreement.open_identification(a, b, pair, known)),
            agreement.best_subject,
        )
        answered = answers.newest
        return IdentifyResult(
            subject=agreement.best_subject(answered.opened),
            compared=len(answered.opened.labels.subjects),
            sequence=answered.opened.sequence,
            pair=answered.pair,
            shares=(answered.replies[0].share, answered.replies[1].share),
            probe_bytes=answered.request.ByteSize(),
            request_id=answered.request_id,
            timings=_timings(started, prepared, answers.all),
            request_ids=answers.request_ids,
        )

    async def known(self, started: float, probe: Probe, t: int, way: Way) -> Known:
        """Return whether the probe matches anybody. started, t: see `verify`."""
        draft = await self._draft(request_pb2.OPERATION_KNOWN, probe, t)
        prepared = time.perf_counter()
        answers = await self._match(draft, Labels(), way, agreement.open_known, _decision)
        answered = answers.newest
        return Known(
            decision=_decision(answered.opened),
            sequence=answered.opened.sequence,
            pair=answered.pair,
            shares=(answered.replies[0].share, answered.replies[1].share),
            probe_bytes=answered.request.ByteSize(),
            request_id=answered.request_id,
            timings=_timings(started, prepared, answers.all),
            request_ids=answers.request_ids,
        )

    def _told(self, opened: agreement.Opened) -> agreement.Opened:
        """Keep the labels of an answer, whatever it is: servers see with the next search which ones are kept."""
        self._labels = opened.labels
        return opened

    async def _draft(
        self, operation: request_pb2.Operation.ValueType, probe: Probe, t: int, subject: str = ""
    ) -> Draft:
        """Return a request about a probe. Raises VersionError if it has several views and a matcher takes one."""
        await require_views(self._connection, probe)
        lanes = await self._device.lanes(*probe.embeddings)
        liveness = await stated(self._device, self._connection, probe.liveness)
        return Draft(operation, lanes, t, subject, model=probe.model, views=probe.views, liveness=liveness)

    async def _match(
        self,
        draft: Draft,
        known: Labels,
        way: Way,
        opening: Opening[matcher_pb2.MatchReply, agreement.Opened],
        said: Callable[[agreement.Opened], object],
    ) -> _Answers:
        """said: what an answer says, whatever the state of the gallery. Raises as `agreement.require_valid` does."""

        def ask(matcher: Matcher, signed: request_pb2.SignedRequest, left: float) -> Awaitable[matcher_pb2.MatchReply]:
            asked = matcher_pb2.MatchRequest(request=signed, known_chain=known.chain, known_sequence=known.sequence)
            return matcher.match(asked, left)

        async def ask_pair(pair: Pair, left: float) -> Answer:
            return await self._connection.ask_one(draft, pair, left, ask, opening)

        if not way.assured:
            answer = await self._connection.ask(draft, way.timeout_s, ask, opening, hedge=way.hedge)
            agreement.require_valid(answer.opened, answer.request_id)
            return _Answers(answer, [answer], ())
        question = request_pb2.Operation.Name(draft.operation).removeprefix("OPERATION_").lower()

        def valid_said(answer: Answer) -> object:
            agreement.require_valid(answer.opened, answer.request_id)
            return said(answer.opened)

        answers = await assured(ask_pair, valid_said, question, way.timeout_s)
        newest = max(answers.values(), key=lambda answer: answer.opened.sequence)
        return _Answers(newest, answers.values(), tuple(answers[pair].request_id for pair in PAIRS))


def _decision(opened: agreement.Opened) -> bool:
    return bool(opened.bits.any())


def _timings(started: float, prepared: float, answers: Collection[Answer]) -> Timings:
    each = [reply.timings for answer in answers for reply in answer.replies]
    return Timings(
        device_s=prepared - started,
        convert_s=max(timings.convert_s for timings in each),
        match_s=max(timings.match_s for timings in each),
        decide_s=max(timings.decide_s for timings in each),
        total_s=time.perf_counter() - started,
    )


async def require_views(connection: Connection, probe: Probe) -> None:
    """Raise VersionError if a probe has several views and a matcher that answers takes one."""
    if probe.views > 1:
        await connection.require(Feature.VIEWS, "several views of a face in one request")


async def stated(device: Device, connection: Connection, verdict: Verdict | None) -> Verdict | None:
    """Return the verdict of liveness if it goes into a request: each matcher that answers knows verdicts, or the device
    may not ask without.
    """
    if verdict is None or device.must_say_live or await connection.lacking(Feature.LIVENESS_VERDICTS) is None:
        return verdict
    return None
