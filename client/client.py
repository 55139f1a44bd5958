"""The synchronous SDK: `Client`, with the methods of `AsyncClient`.

    with Client.from_config("device.toml") as client:
        client.enrol("alice", "alice.jpg")
        if client.verify("alice", "door.jpg"):
            ...

An event loop in a thread of its own does the work; any number of threads may call the client at once.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from concurrent.futures import CancelledError
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from veilmatch.client.async_client import AsyncClient
from veilmatch.client.config import DeviceSettings
from veilmatch.client.device import Capture, Embedding, Progress
from veilmatch.client.results import (
    Candidates,
    Enrolment,
    Erasure,
    IdentifyResult,
    Rotation,
    SubjectEntry,
    Verification,
)
from veilmatch.client.wire.transport import Matcher
from veilmatch.crypto.errors import ConfigurationError, UnavailableError, VeilmatchError

if TYPE_CHECKING:
    from veilmatch.client.capture.image import ImageSource

_R = TypeVar("_R")


class Client:
    """One device, both matchers. Use as a context manager, or call `close`.

    Arguments, results and errors are those of AsyncClient. progress and skipped are called in the client's
    own thread. Ctrl-C in a waiting thread cancels its call at both matchers.
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
        self._client = AsyncClient(settings, matchers=matchers, capture=capture, now=now, workers=workers)
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(_without_poller_noise)
        self._thread = threading.Thread(target=self._loop.run_forever, name="veilmatch-client", daemon=True)
        self._thread.start()
        self._closing = threading.Lock()
        self._closed = False

    @classmethod
    def from_config(cls, path: str | Path) -> Client:
        """Return a client for a device.toml. Raises ConfigurationError, KeyFileError."""
        return cls(DeviceSettings.load(Path(path)))

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End calls under way, close both connections and the thread. Closing twice is fine."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
        asyncio.run_coroutine_threadsafe(self._shut_down(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def verify(
        self,
        subject: str,
        photo: ImageSource,
        *,
        threshold: float | None = None,
        timeout_s: float | None = None,
    ) -> Verification:
        """See AsyncClient.verify."""
        return self._run(self._client.verify(subject, photo, threshold=threshold, timeout_s=timeout_s))

    def verify_embedding(
        self,
        subject: str,
        embedding: Embedding,
        *,
        model: str,
        threshold: float | None = None,
        timeout_s: float | None = None,
    ) -> Verification:
        """See AsyncClient.verify_embedding."""
        return self._run(
            self._client.verify_embedding(subject, embedding, model=model, threshold=threshold, timeout_s=timeout_s)
        )

    def candidates(
        self, photo: ImageSource, *, threshold: float | None = None, timeout_s: float | None = None
    ) -> Candidates:
        """See AsyncClient.candidates."""
        return self._run(self._client.candidates(photo, threshold=threshold, timeout_s=timeout_s))

    def candidates_embedding(
        self,
        embedding: Embedding,
        *,
        model: str,
        threshold: float | None = None,
        timeout_s: float | None = None,
    ) -> Candidates:
        """See AsyncClient.candidates_embedding."""
        return self._run(
            self._client.candidates_embedding(embedding, model=model, threshold=threshold, timeout_s=timeout_s)
        )

    def identify(
        self, photo: ImageSource, *, threshold: float | None = None, timeout_s: float | None = None
    ) -> IdentifyResult:
        """See AsyncClient.identify."""
        return self._run(self._client.identify(photo, threshold=threshold, timeout_s=timeout_s))

    def identify_embedding(
        self,
        embedding: Embedding,
        *,
        model: str,
        threshold: float | None = None,
        timeout_s: float | None = None,
    ) -> IdentifyResult:
        """See AsyncClient.identify_embedding."""
        return self._run(
            self._client.identify_embedding(embedding, model=model, threshold=threshold, timeout_s=timeout_s)
        )

    def enrol(
        self,
        subject: str,
        *photos: ImageSource,
        token: bytes | None = None,
        once: bool = False,
        timeout_s: float | None = None,
    ) -> Enrolment:
        """See AsyncClient.enrol."""
        return self._run(self._client.enrol(subject, *photos, token=token, once=once, timeout_s=timeout_s))

    def enrol_embedding(
        self,
        subject: str,
        *embeddings: Embedding,
        model: str,
        token: bytes | None = None,
        timeout_s: float | None = None,
    ) -> Enrolment:
        """See AsyncClient.enrol_embedding."""
        return self._run(
            self._client.enrol_embedding(subject, *embeddings, model=model, token=token, timeout_s=timeout_s)
        )

    def enrol_many(
        self,
        photos: Mapping[str, ImageSource] | Iterable[tuple[str, ImageSource]],
        *,
        progress: Progress | None = None,
        skipped: Callable[[str, VeilmatchError], None] | None = None,
        token: bytes | None = None,
        once: bool = False,
        timeout_s: float | None = None,
    ) -> Enrolment:
        """See AsyncClient.enrol_many."""
        call = self._client.enrol_many(
            photos, progress=progress, skipped=skipped, token=token, once=once, timeout_s=timeout_s
        )
        return self._run(call)

    def enrol_many_embeddings(
        self,
        embeddings: Mapping[str, Embedding] | Iterable[tuple[str, Embedding]],
        *,
        model: str,
        progress: Progress | None = None,
        token: bytes | None = None,
        timeout_s: float | None = None,
    ) -> Enrolment:
        """See AsyncClient.enrol_many_embeddings."""
        return self._run(
            self._client.enrol_many_embeddings(
                embeddings, model=model, progress=progress, token=token, timeout_s=timeout_s
            )
        )

    def erase(self, subject: str, *, token: bytes | None = None, timeout_s: float | None = None) -> Erasure:
        """See AsyncClient.erase."""
        return self._run(self._client.erase(subject, token=token, timeout_s=timeout_s))

    def take_back(
        self, subject: str, enrolment: bytes, *, token: bytes | None = None, timeout_s: float | None = None
    ) -> Erasure:
        """See AsyncClient.take_back."""
        return self._run(self._client.take_back(subject, enrolment, token=token, timeout_s=timeout_s))

    def subjects(self, *, timeout_s: float | None = None) -> list[SubjectEntry]:
        """See AsyncClient.subjects."""
        return self._run(self._client.subjects(timeout_s=timeout_s))

    def rotate(
        self, new_key_id: bytes, *, progress: Progress | None = None, timeout_s: float | None = None
    ) -> Rotation:
        """See AsyncClient.rotate."""
        return self._run(self._client.rotate(new_key_id, progress=progress, timeout_s=timeout_s))

    def _run(self, call: Coroutine[Any, Any, _R]) -> _R:
        if self._closed:
            call.close()
            raise ConfigurationError("the client is closed", expected="calls inside `with`")
        future = asyncio.run_coroutine_threadsafe(call, self._loop)
        try:
            return future.result()
        except CancelledError:
            # Only `close` cancels, from another thread.
            raise UnavailableError("the client was closed during the call") from None
        except BaseException:
            future.cancel()
            raise

    async def _shut_down(self) -> None:
        running = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await self._client.aclose()
        await self._loop.shutdown_default_executor()


def _without_poller_noise(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Event loops of one process share gRPC's poller: all are woken, and all but one then report EAGAIN.

    Harmless (grpc/grpc issue 25364), but it would look like an error of the caller's.
    """
    if "PollerCompletionQueue" not in context.get("message", ""):
        loop.default_exception_handler(context)
