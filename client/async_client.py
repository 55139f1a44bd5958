"""The asynchronous SDK: `AsyncClient`, one device's view of one gallery.

    async with AsyncClient.from_config("device.toml") as client:
        await client.enrol("alice", "alice-1.jpg", "alice-2.jpg")
        if await client.verify("alice", "door.jpg"):
            ...

Every method that takes a photo has a twin ending in `_embedding` for devices with their own capture; the
twins work without the `device` extra. They take the name of that model, and have no default for it: a gallery
holds embeddings of one model, and refuses those of another. `client.Client` is the synchronous one. All errors are
VeilmatchErrors, and every call ends within its time.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeAlias, TypeVar

from veilmatch.client.config import DeviceSettings
from veilmatch.client.given.arguments import (
    checked_key_id,
    checked_model,
    checked_name,
    checked_pairs,
    checked_token,
    finite_seconds,
)
from veilmatch.client.operations.changes import Changes
from veilmatch.client.operations.device import Capture, Device, Embedding, Progress, Skipped
from veilmatch.client.operations.queries import Queries, Way
from veilmatch.client.recipient import AsyncForRecipient, read_recipient
from veilmatch.client.results import (
    Candidates,
    Enrolment,
    Erasure,
    IdentifyResult,
    Rotation,
    SubjectEntry,
    Subjects,
    Verification,
)
from veilmatch.client.wire import agreement
from veilmatch.client.wire.connection import Connection
from veilmatch.client.wire.signing import Draft
from veilmatch.client.wire.transport import Matcher
from veilmatch.crypto.errors import ClientUseError
from veilmatch.crypto.keys.parties import Party
from veilmatch.protos.v1 import request_pb2

if TYPE_CHECKING:
    from veilmatch.client.capture.image import ImageSource
    from veilmatch.crypto.keys.recipient_certificate import RecipientCertificate

_P = ParamSpec("_P")
_R = TypeVar("_R")
_Call: TypeAlias = Coroutine[Any, Any, _R]


def _in_its_loop(
    method: Callable[Concatenate[AsyncClient, _P], _Call[_R]],
) -> Callable[Concatenate[AsyncClient, _P], _Call[_R]]:
    """Let a method refuse calls after `aclose` and from elsewhere before it does anything else."""

    @functools.wraps(method)
    async def checked(self: AsyncClient, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        self._connection.open()
        return await method(self, *args, **kwargs)

    return checked


class AsyncClient:
    """One device, and the matchers of its installation. Use as an async context manager, within one event loop.

    matchers (by organisation), capture, now and workers replace the network, the capture pipeline, the clock and the
    number of processes of a bulk enrolment. Any number of calls may run at the same time. Callbacks are called in the
    event loop, and awaited if they are coroutine functions.

    Common to all methods: timeout_s bounds the exchange with the servers, all attempts together (default: the
    settings); capture and encryption come before it. When an organisation fails or gives no sign of life, the pairs
    without it are tried, and later calls try them first until it is back. A matcher that restarts is waited for, if no
    pair does without it; so is a server that is busy, once. All together a call makes one request more than there are
    pairs, at most. A deviation that a matcher reports about a request that was given up is raised, or logged as a
    warning (logger `veilmatch.client`) if that comes later.
    model names what made an embedding, 1 to 64 characters: the first templates of an empty gallery fix it. Raises
    UnavailableError, OverloadedError, GalleryMismatchError, ModelMismatchError, RequestRefusedError, KeyMismatchError,
    IntegrityError, and ServerDeviationError if the servers refuse what was encrypted as invalid: the quantiser here
    makes nothing that is, so one of them deviates. ClientUseError after `aclose`, in another event loop, and in another
    process (see `Client`).
    """

    def __init__(
        self,
        settings: DeviceSettings,
        *,
        matchers: Mapping[Party, Matcher] | None = None,
        capture: Capture | None = None,
        now: Callable[[], float] = time.time,
        workers: int | None = None,
    ) -> None:
        if not isinstance(settings, DeviceSettings):
            raise ClientUseError(
                "a client is made of settings",
                got=type(settings).__name__,
                expected="DeviceSettings",
                hint=f"Give the path of a device.toml to {type(self).__name__.removeprefix('Async')}.from_config(PATH),"
                " or to that of AsyncClient.",
            )
        self._settings = settings
        self._device = Device(settings, capture, now)
        self._connection = Connection(settings, self._device.sign, matchers)
        self._queries = Queries(self._device, self._connection)
        self._changes = Changes(self._device, self._connection, settings.timeout_s, workers)

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
        """Close all connections. The client cannot be used afterwards; closing twice is fine."""
        await self._connection.close()

    # -- matching ---------------------------------------------------------------------------------

    @_in_its_loop
    async def verify(
        self,
        subject: str,
        photo: ImageSource,
        *,
        threshold: float | None = None,
        assured: bool | None = None,
        hedge: bool | None = None,
        timeout_s: float | None = None,
    ) -> Verification:
        """Return whether the face in the photo is the subject's; with several templates, any of them.

        threshold: cosine in (0, 1], default of the settings. assured: whether all three pairs are asked, and their
        answer counts only if it is the same: one organisation that lies can make it fail, and not make it wrong. It
        counts three times in budgets; DisagreementError has what each pair said, ConfigurationError comes where an
        installation has fewer than three matchers, and the error of a pair that fails is raised. hedge: whether a
        second pair is asked if the first takes longer than 95 of 100 queries before it; that counts twice in budgets,
        and an assured answer makes no use of it. Default of both: the settings. Raises also LowThresholdError,
        UnknownSubjectError, ImageError, NoFaceError, UnusableFaceError, SeveralFacesError, ModelError, EmbeddingError.
        """
        started, t = time.perf_counter(), self._device.threshold("verify", threshold)
        way = self._way(assured, hedge, timeout_s)
        subject = checked_name(subject)
        embedding = await self._device.embed(photo)
        return await self._queries.verify(started, subject, embedding, await self._device.model(), t, way)

    @_in_its_loop
    async def verify_embedding(
        self,
        subject: str,
        embedding: Embedding,
        *,
        model: str,
        threshold: float | None = None,
        assured: bool | None = None,
        hedge: bool | None = None,
        timeout_s: float | None = None,
    ) -> Verification:
        """`verify` for an embedding: real numbers [D] of any length but zero."""
        started, t = time.perf_counter(), self._device.threshold("verify", threshold)
        way = self._way(assured, hedge, timeout_s)
        return await self._queries.verify(started, checked_name(subject), embedding, checked_model(model), t, way)

    @_in_its_loop
    async def candidates(
        self,
        photo: ImageSource,
        *,
        threshold: float | None = None,
        assured: bool | None = None,
        hedge: bool | None = None,
        timeout_s: float | None = None,
    ) -> Candidates:
        """Return every subject of the gallery that the face in the photo matches. Errors: see `verify`."""
        started, t = time.perf_counter(), self._device.threshold("candidates", threshold)
        way = self._way(assured, hedge, timeout_s)
        embedding = await self._device.embed(photo)
        return await self._queries.candidates(started, embedding, await self._device.model(), t, way)

    @_in_its_loop
    async def candidates_embedding(
        self,
        embedding: Embedding,
        *,
        model: str,
        threshold: float | None = None,
        assured: bool | None = None,
        hedge: bool | None = None,
        timeout_s: float | None = None,
    ) -> Candidates:
        """`candidates` for an embedding."""
        started, t = time.perf_counter(), self._device.threshold("candidates", threshold)
        way = self._way(assured, hedge, timeout_s)
        return await self._queries.candidates(started, embedding, checked_model(model), t, way)

    @_in_its_loop
    async def identify(
        self,
        photo: ImageSource,
        *,
        threshold: float | None = None,
        assured: bool | None = None,
        hedge: bool | None = None,
        timeout_s: float | None = None,
    ) -> IdentifyResult:
        """Return the one subject that the face in the photo matches best, if anyone. Errors: see `verify`.

        Subjects below the threshold are nobody; of equal scores the lower slot wins.
        """
        started, t = time.perf_counter(), self._device.threshold("identify", threshold)
        way = self._way(assured, hedge, timeout_s)
        embedding = await self._device.embed(photo)
        return await self._queries.identify(started, embedding, await self._device.model(), t, way)

    @_in_its_loop
    async def identify_embedding(
        self,
        embedding: Embedding,
        *,
        model: str,
        threshold: float | None = None,
        assured: bool | None = None,
        hedge: bool | None = None,
        timeout_s: float | None = None,
    ) -> IdentifyResult:
        """`identify` for an embedding."""
        started, t = time.perf_counter(), self._device.threshold("identify", threshold)
        way = self._way(assured, hedge, timeout_s)
        return await self._queries.identify(started, embedding, checked_model(model), t, way)

    def for_recipient(self, certificate: RecipientCertificate | str | Path) -> AsyncForRecipient:
        """Return queries whose answers are sealed to a relying party, so that this device does not learn them.

        certificate: that of the recipient, or the path of its file. Raises ConfigurationError,
        RecipientCertificateError. See docs/recipients.md.
        """

        def way(assured: bool | None, timeout_s: float | None) -> Way:
            return self._way(assured, False, timeout_s)

        return AsyncForRecipient(self._device, self._connection, way, read_recipient(certificate))

    # -- changing the gallery -----------------------------------------------------------------------

    @_in_its_loop
    async def enrol(
        self,
        subject: str,
        *photos: ImageSource,
        token: bytes | None = None,
        once: bool = False,
        timeout_s: float | None = None,
    ) -> Enrolment:
        """Add one template for each photo. Every photo is captured before the first one is sent.

        token: 16 bytes; the same call with the same token adds nothing twice, so that a caller who did
        not see the answer can repeat it. once: in its place, tokens are made of the photos (`tokens.py`): what this
        device enrolled of this subject from the same file, and what was not erased since, is not added again, whatever
        the order of the photos. Raises also InvalidInputError and what `verify` raises; an error about a photo says
        which. If the servers find a vector invalid, all are sent, then ServerDeviationError names the enrolments that
        left an empty template.
        """
        return await self._changes.enrol_photos(checked_name(subject), photos, token, once, timeout_s)

    @_in_its_loop
    async def enrol_embedding(
        self,
        subject: str,
        *embeddings: Embedding,
        model: str,
        token: bytes | None = None,
        timeout_s: float | None = None,
    ) -> Enrolment:
        """`enrol` for embeddings."""
        subject, model = checked_name(subject), checked_model(model)
        return await self._changes.enrol_embeddings(subject, embeddings, model, token, timeout_s)

    @_in_its_loop
    async def enrol_many(
        self,
        photos: Mapping[str, ImageSource] | Iterable[tuple[str, ImageSource]],
        *,
        progress: Progress | None = None,
        skipped: Skipped | None = None,
        token: bytes | None = None,
        once: bool = False,
        timeout_s: float | None = None,
    ) -> Enrolment:
        """Add one template for each (subject, photo), all of them in one change of the gallery or none.

        For an enrolling authority: the servers trust it for these templates. progress: told ("capture" or
        "encrypt", done, total). skipped: told the subject and the error of a photo that cannot be used, which says
        which photo; without it such a photo ends the call. token, once: see `enrol`; all photos have one token here,
        so a set with one more photo is another one and all of it is added. Default timeout_s: the settings and 2 s a
        pack.
        """
        pairs = checked_pairs("photo", photos)
        return await self._changes.enrol_many_photos(pairs, progress, skipped, token, once, timeout_s)

    @_in_its_loop
    async def enrol_many_embeddings(
        self,
        embeddings: Mapping[str, Embedding] | Iterable[tuple[str, Embedding]],
        *,
        model: str,
        progress: Progress | None = None,
        token: bytes | None = None,
        timeout_s: float | None = None,
    ) -> Enrolment:
        """`enrol_many` for embeddings."""
        pairs, model = checked_pairs("embedding", embeddings), checked_model(model)
        return await self._changes.enrol_many_embeddings(pairs, model, progress, token, timeout_s)

    @_in_its_loop
    async def erase(self, subject: str, *, token: bytes | None = None, timeout_s: float | None = None) -> Erasure:
        """Remove all templates of a subject. token: see `enrol`. Raises also UnknownSubjectError."""
        return await self._changes.erase(checked_name(subject), checked_token(token), timeout_s)

    @_in_its_loop
    async def take_back(
        self, subject: str, enrolment: bytes, *, token: bytes | None = None, timeout_s: float | None = None
    ) -> Erasure:
        """Remove the template that one enrolment by this device added. enrolment: the 16 bytes of its token.

        For what a ServerDeviationError leaves behind: an empty template, which matches nobody. It tells the servers
        that something was wrong with that enrolment, and so does enrolling again: look at the servers first. token: of
        this change, see `enrol`. Raises also UnknownSubjectError if there is no such template of this subject.
        """
        return await self._changes.erase(
            checked_name(subject), checked_token(token), timeout_s, checked_token(enrolment)
        )

    @_in_its_loop
    async def subjects(self, *, timeout_s: float | None = None) -> Subjects:
        """Return who is enrolled, in order of names."""
        answered = await self._connection.ask(
            Draft(request_pb2.OPERATION_SUBJECTS),
            self._limit(timeout_s),
            lambda m, signed, left: m.subjects(signed, left),
            agreement.agreed_subjects,
        )
        return Subjects((SubjectEntry(*entry) for entry in answered.opened), answered.request_id)

    @_in_its_loop
    async def rotate(
        self, new_key_id: bytes, *, progress: Progress | None = None, timeout_s: float | None = None
    ) -> Rotation:
        """Bring every template of the gallery under a new key, which all matchers are configured for.

        new_key_id: 16 bytes, of the public key of the new installation. The gallery is served all the time; in the
        end it is closed to changes. Repeat the call after an error: it goes on where it stopped. progress: told
        ("rotate", done, total). timeout_s: of each step; default: the settings and 60 s. Raises also
        ConfigurationError, BudgetExceededError and InvalidInputError.
        """
        return await self._changes.rotate(checked_key_id(new_key_id), progress, timeout_s)

    # -- parts --------------------------------------------------------------------------------------

    def _way(self, assured: bool | None, hedge: bool | None, timeout_s: float | None) -> Way:
        """Return how a query is answered. Raises ConfigurationError if it is to be assured and cannot be."""
        is_assured = self._settings.assurance == "all-pairs" if assured is None else bool(assured)
        if is_assured:
            self._connection.require_all()
        return Way(self._limit(timeout_s), is_assured, self._settings.hedge if hedge is None else bool(hedge))

    def _limit(self, timeout_s: float | None) -> float:
        return finite_seconds(self._settings.timeout_s if timeout_s is None else timeout_s)
