"""What happens on the device before anything is sent: capture, quantise, encrypt, sign.

Slow steps run in threads, so that the event loop of the caller goes on. No network here; the vectors
live in local variables and are gone when a method returns.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from veilmatch.client.capture.quantiser import quantise
from veilmatch.client.certificate import FollowedCertificate
from veilmatch.client.given.arguments import checked_cosine, checked_model
from veilmatch.client.given.quoting import about, quoted_name, quoted_photo
from veilmatch.client.given.tokens import EnrolmentTokens
from veilmatch.client.operations import bulk
from veilmatch.client.operations.comparing import compared
from veilmatch.client.receipt import ErasureReceipt
from veilmatch.client.results import Comparison
from veilmatch.client.wire.encryption import Encryptor
from veilmatch.client.wire.signing import DeviceKey, Draft, RequestSigner
from veilmatch.common.public_file import read_public_file
from veilmatch.crypto.encryption.knowledge import KnownCiphertexts
from veilmatch.crypto.errors import (
    ClientUseError,
    InvalidInputError,
    LivenessError,
    LowQualityError,
    ReceiptError,
    UnfitModelError,
    VeilmatchError,
)
from veilmatch.crypto.keys.parties import Pair
from veilmatch.crypto.liveness import Verdict
from veilmatch.crypto.packing.fields import Array
from veilmatch.crypto.requests import Operation
from veilmatch.protos.v1 import matcher_pb2, request_pb2

if TYPE_CHECKING:
    from veilmatch.client.capture.image import ImageSource
    from veilmatch.client.capture.pipeline import CapturedFace
    from veilmatch.client.capture.quality.assessment import Quality
    from veilmatch.client.card import Card
    from veilmatch.client.config import DeviceSettings
    from veilmatch.client.liveness.check import LivenessCheck
    from veilmatch.client.liveness.shot import Shot

_log = logging.getLogger(__name__)

Embedding: TypeAlias = npt.ArrayLike
"""Real numbers [D] along the direction of a face; the length does not count."""

Progress: TypeAlias = Callable[[str, int, int], Awaitable[None] | None]
"""Told ("capture" | "encrypt", done, total) during a bulk enrolment, ("rotate", done, total) during a rotation."""

Skipped: TypeAlias = Callable[[str, VeilmatchError], Awaitable[None] | None]
"""Told a subject and why its photo was left out of a bulk enrolment."""


class Capture(Protocol):
    """What turns a photo into an embedding; `CapturePipeline` is one."""

    @property
    def dimension(self) -> int:
        """Number of coordinates."""

    @property
    def model_id(self) -> str:
        """Names the embedding model: a gallery holds embeddings of one model only."""

    def embed_photo(self, source: ImageSource) -> npt.NDArray[np.float64]:
        """Return the embedding of the one face in the photo. Called from several threads."""


@runtime_checkable
class MeasuringCapture(Capture, Protocol):
    """A capture that also says how good a face is; with any other, nothing is refused or warned of."""

    def capture(self, source: ImageSource) -> CapturedFace:
        """Return the embedding of the one face in the photo, and its quality."""

    def quality(self, source: ImageSource) -> Quality:
        """Return how good the face in the photo is."""


class Unless(NamedTuple):
    """threshold: t at which a face is known and not enrolled. keep_empty: whether what it left then stays."""

    threshold: int
    keep_empty: bool


@dataclass(frozen=True, slots=True)
class Probe:
    """What servers are asked about: one embedding, or several views of one face, each real numbers [D].

    model: names what made them. quality: of the first photo, None for an embedding. liveness: the verdict of the checks
    that were made, of the first of them in time; None without one.
    """

    embeddings: Sequence[Embedding] = field(repr=False)
    model: str
    quality: Quality | None = field(default=None, repr=False)
    liveness: Verdict | None = None

    @property
    def views(self) -> int:
        """How many embeddings there are."""
        return len(self.embeddings)


class Enrolling(NamedTuple):
    """How photos are enrolled. once: with tokens made of them. accept_any: whatever their quality. replace: in the
    place of what a subject has. unless: only if the face is not known. mean: one template of all photos, their mean
    direction."""

    once: bool = False
    accept_any: bool = False
    replace: bool = False
    unless: Unless | None = None
    mean: bool = False


class Device:
    """The keys of one device, its capture pipeline and its encryption.

    capture: None for the installed models, which are loaded with the first photo. Raises ConfigurationError,
    KeyFileError, KeyMismatchError or DeviceCertificateError if a key file or certificate of the settings is not usable.
    """

    def __init__(self, settings: DeviceSettings, capture: Capture | None, now: Callable[[], float]) -> None:
        public = read_public_file(settings.public_key)
        public_key, key = public.public_key, DeviceKey.from_file(settings.signing_key)
        self.parameters = public_key.parameters
        self._public, self._gallery = public, settings.gallery
        self._encryptor = Encryptor(public_key)
        self._signer = RequestSigner(
            key, settings.device, settings.gallery, public_key, settings.request_lifetime_s, now
        )
        #: Tokens of enrolments, made of what is enrolled.
        self.tokens = EnrolmentTokens(key, settings.device, settings.gallery, public_key.key_id)
        self._now = now
        self._certificate = (
            None
            if settings.certificate is None
            else FollowedCertificate(settings.certificate, settings.device, key.public_bytes(), public, now)
        )
        self._default_threshold = settings.threshold
        self._capture_settings = settings.capture
        self._liveness = settings.liveness
        self._check: LivenessCheck | None = None
        self._capture = capture
        self._loading = threading.Lock()

    def sign(self, draft: Draft, pair: Pair) -> request_pb2.SignedRequest:
        """Return the draft, signed, with a fresh nonce and proof; the first proof builds a table."""
        if self._certificate is not None:
            self._certificate.look()
        return self._signer.sign(draft, pair)

    def receipt(
        self, changes: Sequence[matcher_pb2.CertifiedChange], subject: str, token: bytes, enrolment: bytes
    ) -> ErasureReceipt | None:
        """Return the first of these that is a good receipt of the erasure of `subject`; None if there are none.

        Raises ReceiptError if there are some and none is good: the erasure stands, and one of the servers deviates.
        """
        wrong: ReceiptError | None = None
        for change in changes:
            receipt = ErasureReceipt.of(change, self._gallery, self._public.public_key.key_id, token, enrolment)
            try:
                receipt.check(self._public, subject, taken_back=bool(enrolment))
            except ReceiptError as error:
                wrong = error
            else:
                return receipt
        if wrong is not None:
            raise wrong
        return None

    @property
    def gallery(self) -> str:
        """The gallery that all of its requests are about."""
        return self._gallery

    def require_own_key(self, card: Card) -> None:
        """Raise KeyMismatchError for a card under another key than the installation's, CardError of another one."""
        card.signed.statement.require_of(self._public)

    def check_card(self, card: Card) -> None:
        """Raise CardError unless two organisations of this installation have signed it; see Card.check."""
        card.check(self._public)

    def threshold(self, operation: Operation, cosine: float | None, *, for_recipient: bool = False) -> int:
        """Return t for a cosine, or for that of the settings. for_recipient: whether the answer is for one.

        Raises ParameterError if it is out of range, LowThresholdError if the device's certificate is known and does
        not allow the operation from there on, DeviceRightsError if it does not allow it at all, or for a recipient
        only.
        """
        t = self.parameters.threshold(self._default_threshold if cosine is None else checked_cosine(cosine))
        own = self._certificate.look() if self._certificate is not None else None
        if own is not None:
            own.require(operation, t, for_recipient)
            own.require_detector(operation, self._detector(operation))
        return t

    @property
    def must_say_live(self) -> bool:
        """Whether the device's certificate, where it is known, demands verdicts of liveness."""
        own = self._certificate.look() if self._certificate is not None else None
        return own is not None and bool(own.statement.liveness)

    def _detector(self, operation: Operation) -> bytes | None:
        """Return the id of the detector that is asked before this operation, None if there is none."""
        asked = self._liveness is not None and operation in self._liveness.operations
        return self._liveness.detector_id if self._liveness is not None and asked else None

    async def probe(
        self,
        photo: ImageSource | Shot,
        operation: Operation,
        views: Sequence[ImageSource | Shot] = (),
        mirror: bool = False,
    ) -> Probe:
        """Return what is asked about the one face in a photo, and other views of it; warns of low quality in the log.

        mirror: each photo as its mirror image as well, behind it. Raises ImageError, NoFaceError, ModelError ..., and
        what `LivenessCheck.require_live` does of each photo if it is asked for, saying which of several it is about.
        """
        photos = [photo, *views]
        found: list[tuple[Embedding, Quality | None]] = []
        verdicts: list[Verdict | None] = []
        for number, one in enumerate(photos, start=1):
            try:
                colour, verdict = await self._live(one, operation)
                verdicts.append(verdict)
                if not mirror:
                    found.append(await self._of_probe(colour))
                    continue
                from veilmatch.client.capture.image import load_image

                pixels = await asyncio.to_thread(load_image, colour)
                found.append(await self._of_probe(pixels))
                # Of the mirror image nothing new is to be said: its quality is that of the photo.
                found.append(await asyncio.to_thread(self._captured, np.ascontiguousarray(pixels[:, ::-1])))
            except InvalidInputError as error:
                if len(photos) == 1:
                    raise
                raise about(quoted_photo(one, number, len(photos)), error) from None
        live = min(filter(None, verdicts), key=lambda verdict: verdict.checked_at_ms, default=None)
        return Probe([embedding for embedding, _ in found], await self.model(), found[0][1], live)

    async def _of_probe(self, photo: ImageSource) -> tuple[Embedding, Quality | None]:
        embedding, quality = await asyncio.to_thread(self._captured, photo)
        if quality is not None and not quality:
            _log.warning("the probe may not match its own person: %s", "; ".join(map(str, quality.reasons)))
        return embedding, quality

    async def compare(self, photo: ImageSource, other: ImageSource, cosine: float | None) -> Comparison:
        """Return whether two photos show one person, see comparing.py. cosine: None for that of the settings."""
        threshold = self._default_threshold if cosine is None else cosine
        return await asyncio.to_thread(lambda: compared(self._loaded(), self.parameters, photo, other, threshold))

    async def capture(self, photo: ImageSource | Shot, options: Enrolling) -> tuple[Embedding, bytes]:
        """Return the embedding of a photo to enrol, and the digest of the photo or b"".

        Raises LowQualityError, and what `probe` raises.
        """
        photo, _ = await self._live(photo, "enrol")
        if options.once:
            from veilmatch.client.capture.image import fetched, photo_digest

            photo = await asyncio.to_thread(fetched, photo)
        embedding, quality = await asyncio.to_thread(self._captured, photo)
        if quality is not None and not quality and not options.accept_any:
            raise LowQualityError(
                "the photo is not good enough to enrol",
                got=", ".join(f"{reason.component} {reason.score}" for reason in quality.reasons),
                expected=", ".join(f"{reason.floor}" for reason in quality.reasons) + " or more",
                reasons=tuple(map(str, quality.reasons)),
            )
        return embedding, await asyncio.to_thread(photo_digest, photo) if options.once else b""

    def require_no_liveness(self, operation: Operation) -> None:
        """Raise LivenessError if [liveness] asks for a check before this operation: an embedding shows no face."""
        if self._liveness is not None and _shown_for(operation) in self._liveness.operations:
            raise LivenessError("[liveness] needs a photo", got="an embedding", expected=f"{operation} with a photo")

    async def _live(self, photo: ImageSource | Shot, operation: Operation) -> tuple[ImageSource, Verdict | None]:
        """Return the colour photo of a shot, once it is live where that is asked for, and the verdict then."""
        from veilmatch.client.liveness.shot import Shot

        shot = photo if isinstance(photo, Shot) else Shot(photo)
        if self._liveness is None or _shown_for(operation) not in self._liveness.operations:
            return shot.colour, None
        from veilmatch.client.capture.image import fetched

        # Read once: a file must not be another photo when it is embedded than when it was found live.
        colour = await asyncio.to_thread(fetched, shot.colour)
        check = self._liveness_check()
        verdict = await asyncio.to_thread(check.require_live, Shot(colour, shot.infrared, shot.depth))
        return colour, verdict

    def _liveness_check(self) -> LivenessCheck:
        with self._loading:
            if self._check is None:
                from veilmatch.client.liveness.check import LivenessCheck

                assert self._liveness is not None
                self._check = LivenessCheck(self._liveness, self._capture_settings, now=self._now)
            return self._check

    async def quality(self, photo: ImageSource) -> Quality:
        """Return how good the face in a photo is. Raises ClientUseError if the capture of the caller does not say."""
        loaded = await asyncio.to_thread(self._loaded)
        if not isinstance(loaded, MeasuringCapture):
            raise ClientUseError(
                "the capture of this client measures no quality",
                got=type(loaded).__name__,
                expected="one that has `quality`, as CapturePipeline",
            )
        return await asyncio.to_thread(loaded.quality, photo)

    def _captured(self, photo: ImageSource) -> tuple[Embedding, Quality | None]:
        loaded = self._loaded()
        if not isinstance(loaded, MeasuringCapture):
            return loaded.embed_photo(photo), None
        face = loaded.capture(photo)
        return face.embedding, face.quality

    async def model(self) -> str:
        """Return the name of the model that photos are embedded with. Raises ModelError, KeyMismatchError."""
        return checked_model((await asyncio.to_thread(self._loaded)).model_id)

    async def lanes(self, *views: Embedding) -> KnownCiphertexts:
        """Return the lane ciphertexts of an embedding, or of all views of a face.

        Raises EmbeddingError if one cannot be of a face.
        """
        vectors = [quantise(embedding, self.parameters) for embedding in views]
        return await asyncio.to_thread(self._encryptor.views, vectors)

    def quantised(self, subject: str, embedding: Embedding) -> Array:
        """Return the template of one subject among many. Raises EmbeddingError naming the subject."""
        try:
            return quantise(embedding, self.parameters)
        except VeilmatchError as error:
            raise about(quoted_name(subject), error) from None

    async def packs(
        self,
        subjects: Sequence[str],
        templates: Sequence[Array],
        consents: Mapping[str, bytes],
        workers: int | None,
        progress: Progress | None,
    ) -> list[matcher_pb2.BulkPack]:
        """Return the packs of these templates, subject i having template i. consents: by subject, encoded."""
        stacked = np.array(templates, dtype=np.int64).reshape(len(templates), self.parameters.dimension)
        names = bulk.split_subjects(subjects, self.parameters)
        made: list[matcher_pb2.BulkPack] = []
        encrypted = bulk.encrypted_packs(self._encryptor, stacked, workers)
        # One thread, so that a cancelled call closes the generator after its last step and not during it.
        thread = ThreadPoolExecutor(1, thread_name_prefix="veilmatch-bulk")
        loop = asyncio.get_running_loop()
        done = 0
        await tell(progress, "encrypt", 0, len(subjects))
        try:
            for group in names:
                pack = await loop.run_in_executor(thread, next, encrypted)
                made.append(bulk.bulk_pack(pack, group, consents))
                done += len(group)
                await tell(progress, "encrypt", done, len(subjects))
        finally:
            thread.submit(encrypted.close)
            thread.shutdown(wait=False)
        return made

    def _loaded(self) -> Capture:
        """Return the capture pipeline, whose embeddings have the size that the parameter set needs."""
        with self._loading:
            if self._capture is None:
                from veilmatch.client.capture.pipeline import CapturePipeline

                self._capture = CapturePipeline.default(self._capture_settings)
        if self._capture.dimension != self.parameters.dimension:
            raise UnfitModelError(
                "the face model does not fit the parameter set",
                got=f"{self._capture.dimension} coordinates",
                expected=f"{self.parameters.dimension} ({self.parameters.name})",
            )
        return self._capture


def _shown_for(operation: Operation) -> Operation:
    """Return the operation that [liveness] knows a probe by: with a card it is a verification like any other."""
    return "verify" if operation == "present" else operation


async def tell(callback: Callable[..., Awaitable[None] | None] | None, *values: object) -> None:
    """Call a callback of the caller's, if there is one, and wait for it if it is a coroutine function."""
    waiting = None if callback is None else callback(*values)
    if inspect.isawaitable(waiting):
        await waiting
