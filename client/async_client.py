"""The asynchronous SDK: `AsyncClient`, one device's view of one gallery.

    async with AsyncClient.from_config("device.toml") as client:
        await client.enrol("alice", "alice-1.jpg", "alice-2.jpg")
        if await client.verify("alice", "door.jpg"):
            ...

Every method that takes a photo has a twin ending in `_embedding` for devices with their own capture; the
twins work without the `device` extra. They take the name of that model: a gallery holds embeddings of one
model, and refuses those of another. `client.Client` is the synchronous one. All errors are
VeilmatchErrors, and every call ends within its time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from veilmatch.client import bulk
from veilmatch.client.arguments import checked_model, checked_name, checked_token, finite_seconds
from veilmatch.client.config import DeviceSettings
from veilmatch.client.device import Capture, Device, Embedding, Progress, about
from veilmatch.client.queries import Queries
from veilmatch.client.results import (
    Candidates,
    Enrolment,
    Erasure,
    IdentifyResult,
    Rotation,
    SubjectEntry,
    Verification,
)
from veilmatch.client.wire import agreement
from veilmatch.client.wire.connection import Answered, Ask, Connection
from veilmatch.client.wire.signing import Draft
from veilmatch.client.wire.transport import Matcher
from veilmatch.crypto.digests import digest
from veilmatch.crypto.encryption.public_key_format import KEY_ID_BYTES
from veilmatch.crypto.errors import InvalidInputError, VeilmatchError
from veilmatch.crypto.requests import EMBEDDING_MODEL, TOKEN_BYTES
from veilmatch.protos.v1 import matcher_pb2, request_pb2

if TYPE_CHECKING:
    from veilmatch.client.capture.image import ImageSource

#: Added to the time-out of the settings for every pack of a bulk enrolment.
BULK_PACK_S = 2.0
#: Added to the time-out of the settings for a step of a rotation.
ROTATION_STEP_S = 60.0

_R = TypeVar("_R")


class AsyncClient:
    """One device, both matchers. Use as an async context manager, within one event loop.

    matchers, capture, now and workers replace the network, the capture pipeline, the clock and the number
    of processes of a bulk enrolment. Any number of calls may run at the same time.

    Common to all methods: timeout_s bounds the exchange with the servers, all attempts together (default:
    the settings); capture and encryption come before it. When key holders are missing, the other pairs
    of the settings are tried. model names what made an embedding, 1 to 64 characters: the first templates
    of an empty gallery fix it. Raises UnavailableError, GalleryMismatchError, ModelMismatchError,
    RequestRefusedError, KeyMismatchError, IntegrityError, and ServerDeviationError if the servers refuse what was
    encrypted as invalid: the quantiser here makes nothing that is, so one of them deviates.
    """

    def __init__(
        self,
        settings: DeviceSettings,
        *,
        matchers: tuple[Matcher, Matcher] | None = None,
        capture: Capture | None = None,
        now: Callable[[], float] = time.time,
        workers: int | None = None,
    ) -> None:
        self._settings = settings
        self._device = Device(settings, capture, now)
        self._connection = Connection(settings, self._device.sign, matchers)
        self._queries = Queries(self._device, self._connection, self._limit)
        self._workers = workers

    @classmethod
    def from_config(cls, path: str | Path) -> AsyncClient:
        """Return a client for a device.toml. Raises ConfigurationError, KeyFileError."""
        return cls(DeviceSettings.load(Path(path)))

    async def __aenter__(self) -> AsyncClient:
        self._connection.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close both connections. The client cannot be used afterwards; closing twice is fine."""
        await self._connection.close()

    # -- matching ---------------------------------------------------------------------------------

    async def verify(
        self,
        subject: str,
        photo: ImageSource,
        *,
        threshold: float | None = None,
        timeout_s: float | None = None,
    ) -> Verification:
        """Return whether the face in the photo is the subject's; with several templates, any of them.

        threshold: cosine in (0, 1], default of the settings. Raises also LowThresholdError, UnknownSubjectError,
        ImageError, NoFaceError, UnusableFaceError, SeveralFacesError, ModelError, EmbeddingError.
        """
        started, t = time.perf_counter(), self._device.threshold("verify", threshold)
        checked_name(subject)
        embedding = await self._device.embed(photo)
        return await self._queries.verify(started, subject, embedding, await self._device.model(), t, timeout_s)

    async def verify_embedding(
        self,
        subject: str,
        embedding: Embedding,
        *,
        model: str = EMBEDDING_MODEL,
        threshold: float | None = None,
        timeout_s: float | None = None,
    ) -> Verification:
        """`verify` for an embedding: real numbers [D] of any length but zero."""
        started, t = time.perf_counter(), self._device.threshold("verify", threshold)
        return await self._queries.verify(started, checked_name(subject), embedding, checked_model(model), t, timeout_s)

    async def candidates(
        self, photo: ImageSource, *, threshold: float | None = None, timeout_s: float | None = None
    ) -> Candidates:
        """Return every subject of the gallery that the face in the photo matches. Errors: see `verify`."""
        started, t = time.perf_counter(), self._device.threshold("candidates", threshold)
        embedding = await self._device.embed(photo)
        return await self._queries.candidates(started, embedding, await self._device.model(), t, timeout_s)

    async def candidates_embedding(
        self,
        embedding: Embedding,
        *,
        model: str = EMBEDDING_MODEL,
        threshold: float | None = None,
        timeout_s: float | None = None,
    ) -> Candidates:
        """`candidates` for an embedding."""
        started, t = time.perf_counter(), self._device.threshold("candidates", threshold)
        return await self._queries.candidates(started, embedding, checked_model(model), t, timeout_s)

    async def identify(
        self, photo: ImageSource, *, threshold: float | None = None, timeout_s: float | None = None
    ) -> IdentifyResult:
        """Return the one subject that the face in the photo matches best, if anyone. Errors: see `verify`.

        Subjects below the threshold are nobody; of equal scores the lower slot wins.
        """
        started, t = time.perf_counter(), self._device.threshold("identify", threshold)
        embedding = await self._device.embed(photo)
        return await self._queries.identify(started, embedding, await self._device.model(), t, timeout_s)

    async def identify_embedding(
        self,
        embedding: Embedding,
        *,
        model: str = EMBEDDING_MODEL,
        threshold: float | None = None,
        timeout_s: float | None = None,
    ) -> IdentifyResult:
        """`identify` for an embedding."""
        started, t = time.perf_counter(), self._device.threshold("identify", threshold)
        return await self._queries.identify(started, embedding, checked_model(model), t, timeout_s)

    # -- changing the gallery -----------------------------------------------------------------------

    async def enrol(
        self, subject: str, *photos: ImageSource, token: bytes | None = None, timeout_s: float | None = None
    ) -> Enrolment:
        """Add one template for each photo. Every photo is captured before the first one is sent.

        token: 16 bytes; the same call with the same token adds nothing twice, so that a caller who did
        not see the answer can repeat it. Raises also InvalidInputError and what `verify` raises. If the servers find a
        vector invalid, all are sent, then ServerDeviationError names the enrolments that left an empty template.
        """
        checked_name(subject)
        embeddings = [await self._device.embed(photo) for photo in photos]
        return await self._enrol(subject, embeddings, await self._device.model(), token, timeout_s)

    async def enrol_embedding(
        self,
        subject: str,
        *embeddings: Embedding,
        model: str = EMBEDDING_MODEL,
        token: bytes | None = None,
        timeout_s: float | None = None,
    ) -> Enrolment:
        """`enrol` for embeddings."""
        return await self._enrol(checked_name(subject), embeddings, checked_model(model), token, timeout_s)

    async def enrol_many(
        self,
        photos: Mapping[str, ImageSource] | Iterable[tuple[str, ImageSource]],
        *,
        progress: Progress | None = None,
        skipped: Callable[[str, VeilmatchError], None] | None = None,
        token: bytes | None = None,
        timeout_s: float | None = None,
    ) -> Enrolment:
        """Add one template for each (subject, photo), all of them in one change of the gallery or none.

        For an enrolling authority: the servers trust it for these templates. progress: told ("capture" or
        "encrypt", done, total). skipped: told the subject and the error of a photo that cannot be used;
        without it such a photo ends the call. token: see `enrol`. Default timeout_s: the settings and 2 s a pack.
        """
        pairs = _listed(photos)
        embeddings: list[tuple[str, Embedding]] = []
        for done, (subject, photo) in enumerate(pairs):
            if progress is not None:
                progress("capture", done, len(pairs))
            try:
                embeddings.append((checked_name(subject), await self._device.embed(photo)))
            except InvalidInputError as error:
                if skipped is None:
                    raise about(subject, error) from None
                skipped(subject, error)
        model = await self._device.model()
        return await self.enrol_many_embeddings(
            embeddings, model=model, progress=progress, token=token, timeout_s=timeout_s
        )

    async def enrol_many_embeddings(
        self,
        embeddings: Mapping[str, Embedding] | Iterable[tuple[str, Embedding]],
        *,
        model: str = EMBEDDING_MODEL,
        progress: Progress | None = None,
        token: bytes | None = None,
        timeout_s: float | None = None,
    ) -> Enrolment:
        """`enrol_many` for embeddings."""
        pairs, model = _listed(embeddings), checked_model(model)
        if not pairs:
            raise InvalidInputError("nobody to enrol", got=0, expected="at least one subject")
        subjects = [checked_name(subject) for subject, _ in pairs]
        templates = [self._device.quantised(subject, embedding) for subject, embedding in pairs]
        packs = await self._device.packs(subjects, templates, self._workers, progress or _no_progress)
        limit = self._settings.timeout_s + BULK_PACK_S * len(packs) if timeout_s is None else timeout_s
        draft = Draft(
            request_pb2.OPERATION_BULK_ENROL,
            token=checked_token(token),
            bulk_digest=bulk.digest_of(packs),
            model=model,
        )
        answered = await self._ask(draft, limit, lambda m, signed, left: m.bulk_enrol(signed, packs, left))
        agreed = agreement.agreed_mutation(*answered.replies)
        return Enrolment(agreed.sequence, agreed.templates)

    async def erase(self, subject: str, *, token: bytes | None = None, timeout_s: float | None = None) -> Erasure:
        """Remove all templates of a subject. token: see `enrol`. Raises also UnknownSubjectError."""
        draft = Draft(
            request_pb2.OPERATION_ERASE,
            subject=checked_name(subject),
            token=checked_token(token),
        )
        agreed = agreement.agreed_mutation(*(await self._mutate(draft, timeout_s)).replies)
        return Erasure(agreed.sequence, agreed.templates)

    async def take_back(
        self, subject: str, enrolment: bytes, *, token: bytes | None = None, timeout_s: float | None = None
    ) -> Erasure:
        """Remove the template that one enrolment by this device added. enrolment: the 16 bytes of its token.

        For what a ServerDeviationError leaves behind: an empty template, which matches nobody. It tells the servers
        that something was wrong with that enrolment, and so does enrolling again: look at the servers first. token: of
        this change, see `enrol`. Raises also UnknownSubjectError if there is no such template of this subject.
        """
        draft = Draft(
            request_pb2.OPERATION_ERASE,
            subject=checked_name(subject),
            token=checked_token(token),
            enrolment=checked_token(enrolment),
        )
        agreed = agreement.agreed_mutation(*(await self._mutate(draft, timeout_s)).replies)
        return Erasure(agreed.sequence, agreed.templates)

    async def subjects(self, *, timeout_s: float | None = None) -> list[SubjectEntry]:
        """Return who is enrolled, in order of names."""
        draft = Draft(request_pb2.OPERATION_SUBJECTS)
        answered = await self._ask(draft, timeout_s, lambda m, signed, left: m.subjects(signed, left))
        return [SubjectEntry(subject, templates) for subject, templates in agreement.agreed_subjects(*answered.replies)]

    async def rotate(
        self, new_key_id: bytes, *, progress: Progress | None = None, timeout_s: float | None = None
    ) -> Rotation:
        """Bring every template of the gallery under a new key, which both matchers are configured for.

        new_key_id: 16 bytes, of the public key of the new installation. The gallery is served all the time; in the
        end it is closed to changes. Repeat the call after an error: it goes on where it stopped. progress: told
        ("rotate", done, total). timeout_s: of each step; default: the settings and 60 s. Raises also
        ConfigurationError, BudgetExceededError and InvalidInputError.
        """
        if len(new_key_id) != KEY_ID_BYTES:
            raise InvalidInputError("not the id of a key", got=f"{len(new_key_id)} bytes", expected=KEY_ID_BYTES)
        limit = self._settings.timeout_s + ROTATION_STEP_S if timeout_s is None else timeout_s
        empty: list[str] = []
        while True:
            draft = Draft(request_pb2.OPERATION_ROTATE, new_key_id=new_key_id)
            answered = await self._ask(draft, limit, lambda m, signed, left: m.rotate(signed, left))
            agreed, found = agreement.agreed_rotation(*answered.replies)
            empty += found
            if progress is not None:
                progress("rotate", agreed.converted, agreed.total)
            if agreed.done:
                return Rotation(agreed.sequence, agreed.converted, tuple(sorted(empty)))

    # -- parts --------------------------------------------------------------------------------------

    async def _enrol(
        self, subject: str, embeddings: Iterable[Embedding], model: str, token: bytes | None, timeout_s: float | None
    ) -> Enrolment:
        templates = [await self._device.lanes(embedding) for embedding in embeddings]
        if not templates:
            raise InvalidInputError("nothing to enrol", got="no photo", expected="at least one")
        ends = time.monotonic() + self._limit(timeout_s)
        first, added, sequence = checked_token(token), 0, 0
        refused: list[bytes] = []
        for number, lanes in enumerate(templates):
            # Derived, so that the whole call can be repeated under its one token.
            own = digest("enrolment token", first, number)[:TOKEN_BYTES] if number else first
            draft = Draft(request_pb2.OPERATION_ENROL, lanes, subject=subject, token=own, model=model)
            # The last instant is left to the exchange, which then says who did not answer.
            answered = await self._mutate(draft, max(ends - time.monotonic(), 0.001))
            agreed = agreement.agreed_mutation(*answered.replies)
            if not agreement.opened_enrolment(*answered.replies):
                # The others are sent all the same, and nothing is erased: servers would see that this one was refused.
                refused.append(own)
            added, sequence = added + agreed.templates, agreed.sequence
        if refused:
            raise agreement.refused_vector(refused)
        return Enrolment(sequence, added)

    async def _mutate(self, draft: Draft, timeout_s: float | None) -> Answered[matcher_pb2.MutateReply]:
        return await self._ask(draft, timeout_s, lambda m, signed, left: m.mutate(signed, left))

    async def _ask(self, draft: Draft, timeout_s: float | None, ask: Ask[_R]) -> Answered[_R]:
        return await self._connection.ask(draft, self._limit(timeout_s), ask)

    def _limit(self, timeout_s: float | None) -> float:
        return finite_seconds(self._settings.timeout_s if timeout_s is None else timeout_s)


def _listed(pairs: Mapping[str, _R] | Iterable[tuple[str, _R]]) -> list[tuple[str, _R]]:
    return list(pairs.items() if isinstance(pairs, Mapping) else pairs)


def _no_progress(stage: str, done: int, total: int) -> None:
    """For callers who do not want to know."""
