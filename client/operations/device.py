"""What happens on the device before anything is sent: capture, quantise, encrypt, sign.

Slow steps run in threads, so that the event loop of the caller goes on. No network here; the vectors
live in local variables and are gone when a method returns.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from veilmatch.client.capture.quantiser import quantise
from veilmatch.client.certificate import OwnCertificate
from veilmatch.client.given.arguments import checked_cosine, checked_model
from veilmatch.client.given.quoting import about, quoted_name
from veilmatch.client.given.tokens import EnrolmentTokens
from veilmatch.client.operations import bulk
from veilmatch.client.wire.encryption import Encryptor
from veilmatch.client.wire.signing import DeviceKey, Draft, RequestSigner
from veilmatch.common.public_file import read_public_file
from veilmatch.crypto.encryption.knowledge import KnownCiphertexts
from veilmatch.crypto.errors import UnfitModelError, VeilmatchError
from veilmatch.crypto.keys.parties import Pair
from veilmatch.crypto.packing.fields import Array
from veilmatch.crypto.requests import Operation
from veilmatch.protos.v1 import matcher_pb2, request_pb2

if TYPE_CHECKING:
    from veilmatch.client.capture.image import ImageSource
    from veilmatch.client.config import DeviceSettings

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


class Device:
    """The keys of one device, its capture pipeline and its encryption.

    capture: None for the installed models, which are loaded with the first photo. Raises ConfigurationError,
    KeyFileError, KeyMismatchError or DeviceCertificateError if a key file or certificate of the settings is not usable.
    """

    def __init__(self, settings: DeviceSettings, capture: Capture | None, now: Callable[[], float]) -> None:
        public = read_public_file(settings.public_key)
        public_key, key = public.public_key, DeviceKey.from_file(settings.signing_key)
        self.parameters = public_key.parameters
        self._encryptor = Encryptor(public_key)
        self._signer = RequestSigner(
            key, settings.device, settings.gallery, public_key, settings.request_lifetime_s, now
        )
        #: Tokens of enrolments, made of what is enrolled.
        self.tokens = EnrolmentTokens(key, settings.device, settings.gallery, public_key.key_id)
        self._certificate = (
            None
            if settings.certificate is None
            else OwnCertificate.read(settings.certificate, settings.device, key.public_bytes(), public)
        )
        self._default_threshold = settings.threshold
        self._capture = capture
        self._loading = threading.Lock()

    def sign(self, draft: Draft, pair: Pair) -> request_pb2.SignedRequest:
        """Return the draft, signed, with a fresh nonce and proof; the first proof builds a table."""
        return self._signer.sign(draft, pair)

    def threshold(self, operation: Operation, cosine: float | None, *, for_recipient: bool = False) -> int:
        """Return t for a cosine, or for that of the settings. for_recipient: whether the answer is for one.

        Raises ParameterError if it is out of range, LowThresholdError if the device's certificate is known and does
        not allow the operation from there on, DeviceRightsError if it does not allow it at all, or for a recipient
        only.
        """
        t = self.parameters.threshold(self._default_threshold if cosine is None else checked_cosine(cosine))
        if self._certificate is not None:
            self._certificate.require(operation, t, for_recipient)
        return t

    async def embed(self, photo: ImageSource) -> Embedding:
        """Return the embedding of the one face in the photo. Raises ImageError, NoFaceError, ModelError ..."""
        return await asyncio.to_thread(lambda: self._loaded().embed_photo(photo))

    async def capture(self, photo: ImageSource, with_digest: bool) -> tuple[Embedding, bytes]:
        """Return the embedding of a photo, and the digest of the photo or b"". Errors: see `embed`."""
        if not with_digest:
            return await self.embed(photo), b""
        from veilmatch.client.capture.image import fetched, photo_digest

        photo = await asyncio.to_thread(fetched, photo)
        return await self.embed(photo), await asyncio.to_thread(photo_digest, photo)

    async def model(self) -> str:
        """Return the name of the model that photos are embedded with. Raises ModelError, KeyMismatchError."""
        return checked_model((await asyncio.to_thread(self._loaded)).model_id)

    async def lanes(self, embedding: Embedding) -> KnownCiphertexts:
        """Return the lane ciphertexts of an embedding. Raises EmbeddingError if it cannot be one of a face."""
        vector = quantise(embedding, self.parameters)
        return await asyncio.to_thread(self._encryptor.lanes, vector)

    def quantised(self, subject: str, embedding: Embedding) -> Array:
        """Return the template of one subject among many. Raises EmbeddingError naming the subject."""
        try:
            return quantise(embedding, self.parameters)
        except VeilmatchError as error:
            raise about(quoted_name(subject), error) from None

    async def packs(
        self, subjects: Sequence[str], templates: Sequence[Array], workers: int | None, progress: Progress | None
    ) -> list[matcher_pb2.BulkPack]:
        """Return the packs of these templates, subject i having template i."""
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
                made.append(bulk.bulk_pack(pack, group))
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

                self._capture = CapturePipeline.default()
        if self._capture.dimension != self.parameters.dimension:
            raise UnfitModelError(
                "the face model does not fit the parameter set",
                got=f"{self._capture.dimension} coordinates",
                expected=f"{self.parameters.dimension} ({self.parameters.name})",
            )
        return self._capture


async def tell(callback: Callable[..., Awaitable[None] | None] | None, *values: object) -> None:
    """Call a callback of the caller's, if there is one, and wait for it if it is a coroutine function."""
    waiting = None if callback is None else callback(*values)
    if inspect.isawaitable(waiting):
        await waiting
