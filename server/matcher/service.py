"""The gRPC face of a matcher: one service for devices, one for the other matchers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from functools import partial

from veilmatch.crypto.errors import InvalidInputError, ProtocolError, RequestSignatureError
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.crypto.requests import (
    WITH_PROBE,
    Operation,
    bulk_digest,
    bulk_pack_digest,
    check_subject,
)
from veilmatch.crypto.terms import require_lasting
from veilmatch.protos.v1 import matcher_pb2 as pb
from veilmatch.protos.v1 import matcher_pb2_grpc as rpc
from veilmatch.protos.v1 import request_pb2
from veilmatch.server.admission.requests import (
    CheckedRequest,
    check_payload,
)
from veilmatch.server.ground.request_id import about_request
from veilmatch.server.matcher.admission import Admission
from veilmatch.server.matcher.agreement.meetings import others_of
from veilmatch.server.matcher.bulk_room import BulkRoom, BulkStream
from veilmatch.server.matcher.change.issuing import issue, revoke
from veilmatch.server.matcher.change.mutating import ReadyPack, enrol, enrol_bulk, erase
from veilmatch.server.matcher.change.retaining import Retaining, retain
from veilmatch.server.matcher.change.rotating import rotate
from veilmatch.server.matcher.entrance import Entrance
from veilmatch.server.matcher.follow.followed import Followed
from veilmatch.server.matcher.follow.serving import FollowedServicer
from veilmatch.server.matcher.gallery.disk.checks import record_bytes
from veilmatch.server.matcher.gallery.disk.reading import Detail
from veilmatch.server.matcher.gallery.labels import Known
from veilmatch.server.matcher.query.budgets import budgets
from veilmatch.server.matcher.query.matching import Matched, Surroundings, in_parts, match
from veilmatch.server.matcher.query.presenting import present
from veilmatch.server.matcher.query.verifying import verify
from veilmatch.server.monitoring import calls
from veilmatch.server.transport.channels import Context, caller, require_caller
from veilmatch.server.transport.links import AcceptedLink
from veilmatch.server.transport.status import streaming, unary
from veilmatch.server.transport.streams import first_message, next_message, silent

#: What `Mutate` serves.
_CHANGES: tuple[Operation, ...] = ("enrol", "erase", "retain", "issue", "revoke")
#: Of one message: 4 MiB with the longest names.
_PART_SUBJECTS = 1 << 14
_PART_DETAILS = 1 << 11


class MatcherService(rpc.MatcherServicer):
    """For devices. bulk_s: how long a bulk enrolment may take to arrive."""

    def __init__(
        self,
        entrance: Entrance,
        admission: Admission,
        on: Surroundings,
        bulk_room: BulkRoom,
        bulk_s: float,
        retaining: Retaining,
        card_days: int,
    ) -> None:
        """card_days: that a card may be good for."""
        self._card_days = card_days
        self._entrance = entrance
        self._admission = admission
        self._on = on
        self.server = on.server
        self._bulk_room = bulk_room
        self._bulk_s = bulk_s
        self._retaining = retaining

    @streaming
    async def Match(self, request: pb.MatchRequest, context: Context) -> AsyncIterator[pb.MatchReply]:
        """See matcher.proto."""
        signed = request.request
        async with self._entrance.meeting(signed, context, *WITH_PROBE) as (meeting, looked):
            admitted = await self._admission.admit_looked(looked, signed)
            checked, gallery = admitted.checked, admitted.gallery
            self._check_lanes(checked, signed)
            counted = partial(self._admission.count, admitted, signed.subject)
            if admitted.card is not None:
                matched = Matched(await present(checked, signed, admitted.card, gallery, meeting, self._on, counted))
            elif checked.operation == "verify":
                matched = Matched(await verify(checked, signed, admitted.model, gallery, meeting, self._on, counted))
                self._retaining.asked.note(gallery.name, gallery.index.slots_of(signed.subject))
            else:
                known = Known(request.known_sequence, request.known_chain)
                matched = await match(checked, signed, admitted.model, known, gallery, meeting, self._on)
        timings = matched.reply.timings
        calls.stages(convert=timings.convert_s, match=timings.match_s, decide=timings.decide_s)
        # The turn is over: a device may read as slowly as it likes.
        async for part in in_parts(matched):
            yield part

    @unary
    async def Mutate(self, request: request_pb2.SignedRequest, context: Context) -> pb.MutateReply:
        """See matcher.proto."""
        async with self._entrance.meeting(request, context, *_CHANGES, changes=True) as (meeting, looked):
            admitted = await self._admission.admit_looked(looked, request)
            checked, gallery = admitted.checked, admitted.gallery
            if checked.operation == "erase":
                check_payload(checked, [])
                return await erase(checked, request, gallery, meeting, self._on)
            if checked.operation == "retain":
                check_payload(checked, [])
                return await retain(checked, request, gallery, meeting, self._on, self._retaining)
            if checked.operation == "revoke":
                check_payload(checked, [])
                return await revoke(checked, gallery, meeting, self._on)
            self._check_lanes(checked, request)
            if checked.operation == "issue":
                return await issue(checked, request, admitted.model, gallery, meeting, self._on, self._card_days)
            return await enrol(checked, request, admitted.model, gallery, meeting, self._on)

    @unary
    async def BulkEnrol(self, _chunks: AsyncIterator[pb.BulkChunk], context: Context) -> pb.MutateReply:
        """See matcher.proto."""
        device = caller(context)
        with self._bulk_room.stream(device) as stream:
            first = await first_message(context, pb.BulkChunk, "header", device)
            stream.take(first.ByteSize())
            admitted = await self._admission.admit(first.header, context, "bulk")
            try:
                async with asyncio.timeout(self._bulk_s):
                    ready = await self._receive_packs(context, admitted.checked, stream)
            except TimeoutError:
                raise silent(device, self._bulk_s) from None
            return await enrol_bulk(admitted.checked, ready, admitted.model, admitted.gallery, self._on)

    @streaming
    async def Subjects(self, request: request_pb2.SignedRequest, context: Context) -> AsyncIterator[pb.SubjectsReply]:
        """See matcher.proto."""
        async with self._entrance.meeting(request, context, "subjects") as (meeting, looked):
            admitted = await self._admission.admit_looked(looked, request)
            check_payload(admitted.checked, [])
            # One of the two may be behind, as the third organisation of a change a moment ago.
            async with self._on.agreement.reading(meeting, admitted.gallery):
                # In a thread: tens of thousands of them take as long as a verification.
                gallery, state = admitted.gallery, admitted.gallery.state
                listed: Sequence[tuple[str, int]] = []
                details: Sequence[Detail] = []
                if admitted.checked.details:
                    details = await gallery.details(request.subject if admitted.checked.subject_digest else "")
                else:
                    listed = await asyncio.to_thread(gallery.index.subjects)
        reply = pb.SubjectsReply(sequence=state.sequence, chain=state.chain)
        size = _PART_DETAILS if details else _PART_SUBJECTS
        for start in range(0, max(1, len(listed), len(details)), size):
            part = slice(start, start + size)
            await asyncio.to_thread(self._list_subjects, reply, listed[part], details[part])
            yield reply
            reply = pb.SubjectsReply()

    @unary
    async def Rotate(self, request: request_pb2.SignedRequest, context: Context) -> pb.RotateReply:
        """See matcher.proto."""
        async with self._entrance.meeting(request, context, "rotate", changes=True) as (meeting, looked):
            admitted = await self._admission.admit_looked(looked, request)
            check_payload(admitted.checked, [])
            return await rotate(admitted.checked, request, admitted.gallery, meeting, self._on)

    @unary
    async def Budgets(self, _request: pb.BudgetsQuestion, context: Context) -> pb.BudgetsReply:
        """See matcher.proto."""
        return await budgets(caller(context), self._on)

    def _check_lanes(self, checked: CheckedRequest, request: request_pb2.SignedRequest) -> None:
        check_payload(checked, request.ciphertexts)
        self._on.scheme.parse_many(request.ciphertexts)

    async def _receive_packs(self, context: Context, checked: CheckedRequest, stream: BulkStream) -> list[ReadyPack]:
        """Take in the whole stream; every ciphertext of it is checked before the next pack is read."""
        ready, digests = [], []
        while (chunk := await next_message(context, checked.device)) is not None:
            if chunk.WhichOneof("content") != "pack":
                raise ProtocolError("a pack was expected", got=chunk.WhichOneof("content"))
            stream.take(chunk.ByteSize())
            pack = ReadyPack(
                chunk.pack.ciphertexts,
                [(t.subject, t.record) for t in chunk.pack.templates],
                [t.consent for t in chunk.pack.templates],
            )
            await asyncio.to_thread(self._check_pack, pack)
            for consent in filter(None, pack.consents):
                require_lasting(consent, checked.made_s)
            digests.append(bulk_pack_digest(pack.ciphertexts, pack.templates, pack.consents))
            ready.append(pack)
        if not ready:
            raise InvalidInputError("a bulk enrolment without packs")
        if bulk_digest(digests) != checked.payload_digest:
            raise RequestSignatureError("the packs are not those that were signed")
        return ready

    def _list_subjects(
        self, reply: pb.SubjectsReply, listed: Sequence[tuple[str, int]], details: Sequence[Detail]
    ) -> None:
        reply.subjects.extend(pb.Subject(subject=subject, templates=count) for subject, count in listed)
        size = record_bytes(self._on.scheme.parameters)
        reply.templates.extend(pb.TemplateDetail(**one._asdict(), record_bytes=size) for one in details)

    def _check_pack(self, pack: ReadyPack) -> None:
        parameters: ParameterSet = self._on.scheme.parameters
        size = parameters.ciphertext_bytes
        if len(pack.ciphertexts) != parameters.dimension * size:
            raise InvalidInputError(
                "a pack of the wrong size", got=len(pack.ciphertexts), expected=parameters.dimension * size
            )
        if not 1 <= len(pack.templates) <= parameters.slots:
            raise InvalidInputError("templates in a pack", got=len(pack.templates), expected=f"1..{parameters.slots}")
        data = pack.ciphertexts
        for subject, record in pack.templates:
            check_subject(subject)
            if len(record) != parameters.lane_ciphertexts * size:
                raise InvalidInputError(
                    "a record of the wrong size", got=len(record), expected=parameters.lane_ciphertexts * size
                )
        data += b"".join(record for _, record in pack.templates)
        self._on.scheme.parse_many([data[i : i + size] for i in range(0, len(data), size)])


class MatcherPeerService(FollowedServicer):
    """For the other matchers. The first of a pair calls, the second is called; whoever is behind follows."""

    def __init__(self, on: Surroundings, followed: Sequence[Followed]) -> None:
        super().__init__(on.server, lambda: followed)
        self._on = on

    @unary
    async def Exchange(self, _requests: AsyncIterator[pb.MatcherMessage], context: Context) -> None:  # type: ignore[override]
        """See matcher.proto."""
        peer = require_caller(context, *self._on.meetings.leaders)
        first = await first_message(context, pb.MatcherMessage, "rendezvous", peer)
        about_request(first.rendezvous.request_digest)
        link: AcceptedLink[pb.MatcherMessage] = AcceptedLink(
            context, peer, self._on.meetings.without(peer), others_of(self._on.meetings.pair_with(peer)), first
        )
        self._on.meetings.bring(first.rendezvous.request_digest, link)
        await link.feed()

    @unary
    async def Meet(self, _requests: AsyncIterator[pb.MatcherFrames], context: Context) -> None:  # type: ignore[override]
        """See matcher.proto."""
        peer = require_caller(context, *self._on.meetings.leaders)
        first = await first_message(context, pb.MatcherFrames, None, peer)
        await self._on.meetings.carry(peer, context, first)

    def stop(self) -> None:
        """End what would go on for ever: the daemon is stopping."""
        super().stop()
        self._on.meetings.stop()
