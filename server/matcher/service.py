"""The gRPC face of a matcher: one service for devices, one for the other matcher."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import TypeVar

import structlog

from veilmatch.crypto.digests import digest
from veilmatch.crypto.errors import InvalidInputError, ProtocolError, RequestSignatureError, UnknownGalleryError
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.crypto.requests import (
    WITH_PROBE,
    Operation,
    bulk_digest,
    bulk_pack_digest,
    check_model,
    check_subject,
    request_digest,
    subject_digest,
)
from veilmatch.protos.v1 import matcher_pb2 as pb
from veilmatch.protos.v1 import matcher_pb2_grpc as rpc
from veilmatch.protos.v1 import request_pb2
from veilmatch.server.config import AdmissionLimits
from veilmatch.server.matcher.agreement.meeting import OTHERS, Meetings, answer_reconcile
from veilmatch.server.matcher.bulk_room import BulkRoom, BulkStream
from veilmatch.server.matcher.change.mutating import ReadyPack, enrol, enrol_bulk, erase
from veilmatch.server.matcher.change.rotating import rotate
from veilmatch.server.matcher.gallery.gallery import Gallery
from veilmatch.server.matcher.query.matching import Surroundings, match
from veilmatch.server.matcher.turns import Turns
from veilmatch.server.transport.budgets import Budgets
from veilmatch.server.transport.channels import Context, caller, require_caller
from veilmatch.server.transport.finishing import to_the_end
from veilmatch.server.transport.links import AcceptedLink
from veilmatch.server.transport.replay import ReplayLog
from veilmatch.server.transport.request_id import about_request
from veilmatch.server.transport.requests import (
    WITH_LANES,
    CheckedRequest,
    RequestChecker,
    check_payload,
    require_device,
)
from veilmatch.server.transport.status import unary
from veilmatch.server.transport.streams import first_message, next_message, silent

_T = TypeVar("_T")
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request that may be served, and its gallery. model: of the embeddings in it, "" where there are none."""

    checked: CheckedRequest
    gallery: Gallery
    model: str


class Entrance:
    """Where requests of devices come in: a turn at the matcher that leads, the leader's call at the one that follows.

    Nothing that costs is done for a request before that: no nonce is noted and no budget charged for one that will be
    told to come again.
    """

    def __init__(self, limits: AdmissionLimits, meetings: Meetings, server: str, cores: int) -> None:
        at_once, waiting = limits.resolved(cores)
        self._meetings = meetings
        self._wait_s = limits.wait_s
        if meetings.leads:
            self._turns = Turns(at_once, waiting, limits.wait_s, server)
        else:
            # All that the leader may hold, and as many again that it is about to refuse.
            self._turns = Turns(2 * (at_once + waiting), 0, limits.wait_s, server)

    def turn(self, context: Context) -> AbstractAsyncContextManager[None]:
        """Hold a turn for the device that calls. Raises OverloadedError."""
        return self._turns.turn(caller(context))

    def called(self, request: request_pb2.SignedRequest) -> AbstractAsyncContextManager[None]:
        """Do the body once the matcher that leads has called about the request; it is told what error that ends in."""
        return self._meetings.called(request_digest(request.body), self._wait_s)


class Admission:
    """What every request of a device passes before anything is done for it.

    budgets: of subjects; those of devices and galleries are at the key holders.
    """

    def __init__(
        self, checker: RequestChecker, replays: ReplayLog, budgets: Budgets, galleries: dict[str, Gallery]
    ) -> None:
        self._checker = checker
        self._replays = replays
        self._budgets = budgets
        self._galleries = galleries

    def look(self, request: request_pb2.SignedRequest, context: Context, *operations: Operation) -> None:
        """Raise what `admit` raises for a request that is not right by itself; notes and reads nothing."""
        require_device(self._checker.check(request, *operations), caller(context))

    async def admit(self, request: request_pb2.SignedRequest, context: Context, *operations: Operation) -> Admitted:
        """Return the checked request, its gallery and its model; the nonce is noted durably."""
        checked = self._checker.check(request, *operations)
        require_device(checked, caller(context))
        if checked.subject_digest:
            check_subject(request.subject)
            if subject_digest(request.subject_salt, request.subject) != checked.subject_digest:
                raise RequestSignatureError("the subject is not the one that was signed")
        model = _signed_model(request, checked.operation)
        gallery = self._galleries.get(checked.gallery)
        if gallery is None:
            raise UnknownGalleryError(
                "no such gallery here", got=checked.gallery[:60], expected=", ".join(self._galleries)
            )
        if checked.operation == "verify":
            # A subject whose budget is used up costs no commit to disk and no check of ciphertexts.
            await asyncio.to_thread(self._budgets.look, _budget_names(request.subject, checked.gallery), _ONE)
        await asyncio.to_thread(self._replays.register, checked.nonce, checked.expires_at_ms)
        _log.info("admitted", operation=checked.operation, device=checked.device, gallery=checked.gallery)
        return Admitted(checked, gallery, model)

    async def count(self, subject: str, gallery: Gallery) -> None:
        """Count a verification of the subject; one that is not in the gallery is refused without being counted."""
        gallery.index.require(subject)
        await asyncio.to_thread(self._budgets.admit, _budget_names(subject, gallery.name), _ONE)


#: What a verification costs its subject.
_ONE = {"requests": 1}


def _budget_names(subject: str, gallery: str) -> dict[str, str]:
    """Return under which pseudonym a subject of a gallery is counted."""
    return {"subject": digest("budget subject", gallery, subject).hex()}


def _signed_model(request: request_pb2.SignedRequest, operation: Operation) -> str:
    """Return the embedding model that a checked request names; it must where it brings vectors, and only there."""
    model = request_pb2.RequestBody.FromString(request.body).model
    if operation in WITH_LANES or operation == "bulk":
        return check_model(model)
    if model:
        raise InvalidInputError("a field of the request has no sense here", got="model", expected=operation)
    return model


class MatcherService(rpc.MatcherServicer):
    """For devices. bulk_s: how long a bulk enrolment may take to arrive."""

    def __init__(
        self, entrance: Entrance, admission: Admission, on: Surroundings, bulk_room: BulkRoom, bulk_s: float
    ) -> None:
        self._entrance = entrance
        self._admission = admission
        self._on = on
        self.server = on.server
        self._bulk_room = bulk_room
        self._bulk_s = bulk_s

    @unary
    async def Match(self, request: pb.MatchRequest, context: Context) -> pb.MatchReply:
        """See matcher.proto."""
        signed = request.request
        async with self._entrance.turn(context):
            self._admission.look(signed, context, *WITH_PROBE)
            async with self._entrance.called(signed):
                admitted = await self._admission.admit(signed, context, *WITH_PROBE)
                checked, gallery = admitted.checked, admitted.gallery
                self._check_lanes(checked, signed)
                gallery.require_model(admitted.model)
                if checked.operation == "verify":
                    await self._admission.count(signed.subject, gallery)
            return await match(checked, signed, admitted.model, request.known_chain, gallery, self._on)

    @unary
    async def Mutate(self, request: request_pb2.SignedRequest, context: Context) -> pb.MutateReply:
        """See matcher.proto."""
        async with self._entrance.turn(context):
            self._admission.look(request, context, "enrol", "erase")
            async with self._entrance.called(request):
                admitted = await self._admission.admit(request, context, "enrol", "erase")
                checked, gallery = admitted.checked, admitted.gallery
                if checked.operation == "erase":
                    check_payload(checked, [])
                else:
                    self._check_lanes(checked, request)
            if checked.operation == "erase":
                return await to_the_end(erase(checked, request, gallery, self._on))
            return await to_the_end(enrol(checked, request, admitted.model, gallery, self._on))

    @unary
    async def BulkEnrol(self, _chunks: AsyncIterator[pb.BulkChunk], context: Context) -> pb.MutateReply:
        """See matcher.proto."""
        device = caller(context)
        with ExitStack() as place:
            stream = place.enter_context(self._bulk_room.stream(device))
            first = await first_message(context, pb.BulkChunk, "header", device)
            stream.take(first.ByteSize())
            admitted = await self._admission.admit(first.header, context, "bulk")
            try:
                async with asyncio.timeout(self._bulk_s):
                    ready = await self._receive_packs(context, admitted.checked, stream)
            except TimeoutError:
                raise silent(device, self._bulk_s) from None
            # Held until the work ends, which may be after this call.
            held = place.pop_all()
        return await to_the_end(_holding(held, admitted, ready, self._on))

    @unary
    async def Subjects(self, request: request_pb2.SignedRequest, context: Context) -> pb.SubjectsReply:
        """See matcher.proto."""
        admitted = await self._admission.admit(request, context, "subjects")
        gallery = admitted.gallery
        check_payload(admitted.checked, [])
        async with gallery.lock.shared():
            subjects = [pb.Subject(subject=s, templates=n) for s, n in gallery.index.subjects()]
            return pb.SubjectsReply(sequence=gallery.state.sequence, chain=gallery.state.chain, subjects=subjects)

    @unary
    async def Rotate(self, request: request_pb2.SignedRequest, context: Context) -> pb.RotateReply:
        """See matcher.proto."""
        admitted = await self._admission.admit(request, context, "rotate")
        check_payload(admitted.checked, [])
        return await to_the_end(rotate(admitted.checked, request, admitted.gallery, self._on))

    def _check_lanes(self, checked: CheckedRequest, request: request_pb2.SignedRequest) -> None:
        expected = self._on.scheme.parameters.lane_ciphertexts
        if len(request.ciphertexts) != expected:
            raise InvalidInputError("number of lane ciphertexts", got=len(request.ciphertexts), expected=expected)
        check_payload(checked, request.ciphertexts)
        self._on.scheme.parse_many(request.ciphertexts)

    async def _receive_packs(self, context: Context, checked: CheckedRequest, stream: BulkStream) -> list[ReadyPack]:
        """Take in the whole stream; every ciphertext of it is checked before the next pack is read."""
        ready, digests = [], []
        while (chunk := await next_message(context, checked.device)) is not None:
            if chunk.WhichOneof("content") != "pack":
                raise ProtocolError("a pack was expected", got=chunk.WhichOneof("content"))
            stream.take(chunk.ByteSize())
            pack = ReadyPack(chunk.pack.ciphertexts, [(t.subject, t.record) for t in chunk.pack.templates])
            await asyncio.to_thread(self._check_pack, pack)
            digests.append(bulk_pack_digest(pack.ciphertexts, pack.templates))
            ready.append(pack)
        if not ready:
            raise InvalidInputError("a bulk enrolment without packs")
        if bulk_digest(digests) != checked.payload_digest:
            raise RequestSignatureError("the packs are not those that were signed")
        return ready

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


async def _holding(
    held: AbstractContextManager[object], admitted: Admitted, ready: Sequence[ReadyPack], on: Surroundings
) -> pb.MutateReply:
    """Do a bulk enrolment that has arrived, holding its place."""
    with held:
        return await enrol_bulk(admitted.checked, ready, admitted.model, admitted.gallery, on)


class MatcherPeerService(rpc.MatcherPeerServicer):
    """For the other matcher. Matcher a calls, matcher b is called."""

    def __init__(self, on: Surroundings, galleries: dict[str, Gallery]) -> None:
        self._on = on
        self.server = on.server
        self._galleries = galleries

    @unary
    async def Exchange(self, _requests: AsyncIterator[pb.MatcherMessage], context: Context) -> None:  # type: ignore[override]
        """See matcher.proto."""
        peer = require_caller(context, self._on.meetings.peer)
        first = await first_message(context, pb.MatcherMessage, "rendezvous", peer)
        about_request(first.rendezvous.request_digest)
        link: AcceptedLink[pb.MatcherMessage] = AcceptedLink(context, peer, others=OTHERS)
        self._on.meetings.rendezvous.bring(first.rendezvous.request_digest, link)
        await link.feed()

    @unary
    async def Reconcile(self, request: pb.GalleryState, context: Context) -> pb.GalleryState:
        """See matcher.proto."""
        require_caller(context, self._on.meetings.peer)
        return await to_the_end(answer_reconcile(self._gallery(request), request))

    def _gallery(self, theirs: pb.GalleryState) -> Gallery:
        """Return this side of a gallery: the one in service, or the one that a rotation is filling."""
        succession = self._on.succession
        here = [*self._galleries.values(), *(succession.galleries() if succession is not None else ())]
        by_name: dict[tuple[str, bytes], Gallery] = {(gallery.name, gallery.key_id): gallery for gallery in here}
        found = by_name.get((theirs.gallery, theirs.key_id))
        if found is None:
            expected = ", ".join(self._galleries)
            raise UnknownGalleryError("no such gallery here", got=theirs.gallery[:60], expected=expected)
        return found
