"""The synchronous SDK: `Client`, with the methods of `AsyncClient`.

    with Client.from_config("device.toml") as client:
        client.enrol("alice", "alice.jpg")
        if client.verify("alice", "door.jpg"):
            ...

An event loop in a thread of its own does the work (loop_thread.py); any number of threads may call the client at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from veilmatch.client.async_client import AsyncClient
from veilmatch.client.config import DeviceSettings
from veilmatch.client.given.arguments import checked_pairs
from veilmatch.client.loop_thread import Caller, LoopThread
from veilmatch.client.operations.device import Capture, Embedding, Progress, Skipped
from veilmatch.client.recipient import ForRecipient
from veilmatch.client.results import (
    Candidates,
    Enrolment,
    Erasure,
    IdentifyResult,
    Rotation,
    Subjects,
    Verification,
)
from veilmatch.client.wire.transport import Matcher
from veilmatch.crypto.keys.parties import Party

if TYPE_CHECKING:
    from veilmatch.client.capture.image import ImageSource
    from veilmatch.crypto.keys.recipient_certificate import RecipientCertificate

_R = TypeVar("_R")


class Client:
    """One device, and the matchers of its installation. Use as a context manager, or call `close`.

    Arguments, results and errors are those of AsyncClient. progress and skipped are called in the thread that waits for
    the call, and may use the client. Ctrl-C in a waiting thread cancels its call at the matchers. A call blocks its
    thread: in an async function use AsyncClient.

    A client belongs to the process of its first call. Made before a fork and not used, it works in the parent and in
    every child, each with its own connections. One that was used raises ClientUseError in a child, and so does every
    client there if one was open in the parent: make clients after the fork, or start processes by spawn or forkserver.
    ClientUseError also after `close`, and within a call of its own.
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
        self._client = AsyncClient(settings, matchers=matchers, capture=capture, now=now, workers=workers)
        self._thread = LoopThread()

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
        """End calls under way, close all connections and the thread. Closing twice is fine.

        In a child process nothing of the parent's is closed.
        """
        self._thread.close(self._client.aclose)

    def verify(
        self,
        subject: str,
        photo: ImageSource,
        *,
        threshold: float | None = None,
        assured: bool | None = None,
        hedge: bool | None = None,
        timeout_s: float | None = None,
    ) -> Verification:
        """See AsyncClient.verify."""
        return self._run(
            self._client.verify(subject, photo, threshold=threshold, assured=assured, hedge=hedge, timeout_s=timeout_s)
        )

    def verify_embedding(
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
        """See AsyncClient.verify_embedding."""
        return self._run(
            self._client.verify_embedding(
                subject, embedding, model=model, threshold=threshold, assured=assured, hedge=hedge, timeout_s=timeout_s
            )
        )

    def candidates(
        self,
        photo: ImageSource,
        *,
        threshold: float | None = None,
        assured: bool | None = None,
        hedge: bool | None = None,
        timeout_s: float | None = None,
    ) -> Candidates:
        """See AsyncClient.candidates."""
        return self._run(
            self._client.candidates(photo, threshold=threshold, assured=assured, hedge=hedge, timeout_s=timeout_s)
        )

    def candidates_embedding(
        self,
        embedding: Embedding,
        *,
        model: str,
        threshold: float | None = None,
        assured: bool | None = None,
        hedge: bool | None = None,
        timeout_s: float | None = None,
    ) -> Candidates:
        """See AsyncClient.candidates_embedding."""
        return self._run(
            self._client.candidates_embedding(
                embedding, model=model, threshold=threshold, assured=assured, hedge=hedge, timeout_s=timeout_s
            )
        )

    def identify(
        self,
        photo: ImageSource,
        *,
        threshold: float | None = None,
        assured: bool | None = None,
        hedge: bool | None = None,
        timeout_s: float | None = None,
    ) -> IdentifyResult:
        """See AsyncClient.identify."""
        return self._run(
            self._client.identify(photo, threshold=threshold, assured=assured, hedge=hedge, timeout_s=timeout_s)
        )

    def identify_embedding(
        self,
        embedding: Embedding,
        *,
        model: str,
        threshold: float | None = None,
        assured: bool | None = None,
        hedge: bool | None = None,
        timeout_s: float | None = None,
    ) -> IdentifyResult:
        """See AsyncClient.identify_embedding."""
        return self._run(
            self._client.identify_embedding(
                embedding, model=model, threshold=threshold, assured=assured, hedge=hedge, timeout_s=timeout_s
            )
        )

    def for_recipient(self, certificate: RecipientCertificate | str | Path) -> ForRecipient:
        """See AsyncClient.for_recipient."""
        return ForRecipient(self._client.for_recipient(certificate), self._run)

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
        skipped: Skipped | None = None,
        token: bytes | None = None,
        once: bool = False,
        timeout_s: float | None = None,
    ) -> Enrolment:
        """See AsyncClient.enrol_many."""
        caller = Caller()
        call = self._client.enrol_many(
            checked_pairs("photo", photos),
            progress=progress and caller.relayed(progress),
            skipped=skipped and caller.relayed(skipped),
            token=token,
            once=once,
            timeout_s=timeout_s,
        )
        return self._run(call, caller)

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
        caller = Caller()
        call = self._client.enrol_many_embeddings(
            checked_pairs("embedding", embeddings),
            model=model,
            progress=progress and caller.relayed(progress),
            token=token,
            timeout_s=timeout_s,
        )
        return self._run(call, caller)

    def erase(self, subject: str, *, token: bytes | None = None, timeout_s: float | None = None) -> Erasure:
        """See AsyncClient.erase."""
        return self._run(self._client.erase(subject, token=token, timeout_s=timeout_s))

    def take_back(
        self, subject: str, enrolment: bytes, *, token: bytes | None = None, timeout_s: float | None = None
    ) -> Erasure:
        """See AsyncClient.take_back."""
        return self._run(self._client.take_back(subject, enrolment, token=token, timeout_s=timeout_s))

    def subjects(self, *, timeout_s: float | None = None) -> Subjects:
        """See AsyncClient.subjects."""
        return self._run(self._client.subjects(timeout_s=timeout_s))

    def rotate(
        self, new_key_id: bytes, *, progress: Progress | None = None, timeout_s: float | None = None
    ) -> Rotation:
        """See AsyncClient.rotate."""
        caller = Caller()
        call = self._client.rotate(new_key_id, progress=progress and caller.relayed(progress), timeout_s=timeout_s)
        return self._run(call, caller)

    def _run(self, call: Coroutine[Any, Any, _R], caller: Caller | None = None) -> _R:
        return (caller or Caller()).wait(self._thread.start(call))
