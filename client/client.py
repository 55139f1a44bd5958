"""The synchronous SDK: `Client`, with the methods of `AsyncClient`.

    with Client.from_config("device.toml") as client:
        client.enrol("alice", "alice.jpg")
        if client.verify("alice", "door.jpg"):
            ...

An event loop in a thread of its own does the work (loop_thread.py); any number of threads may call the client at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from veilmatch.client.async_client import AsyncClient
from veilmatch.client.card import Card
from veilmatch.client.config import DeviceSettings
from veilmatch.client.given.arguments import checked_names, checked_pairs
from veilmatch.client.given.tables import TableSource
from veilmatch.client.loop_thread import Caller, LoopThread
from veilmatch.client.operations.device import Capture, Embedding, Progress, Skipped
from veilmatch.client.recipient import ForRecipient
from veilmatch.client.results import (
    Budgets,
    Candidates,
    Comparison,
    Enrolment,
    Erasure,
    Erasures,
    IdentifyResult,
    Known,
    Retained,
    Revocation,
    Rotation,
    Subjects,
    TemplateEntry,
    Verification,
)
from veilmatch.client.wire.transport import Matcher
from veilmatch.crypto.consent import Consent
from veilmatch.crypto.keys.parties import Party
from veilmatch.crypto.parameters import ParameterSet

if TYPE_CHECKING:
    from veilmatch.client.capture.image import ImageSource
    from veilmatch.client.capture.quality.assessment import Quality
    from veilmatch.client.liveness.shot import Shot
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

    @property
    def parameters(self) -> ParameterSet:
        """See AsyncClient.parameters."""
        return self._client.parameters

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
        subject: str | Card,
        photo: ImageSource | Shot,
        *,
        views: Sequence[ImageSource | Shot] = (),
        mirror: bool = False,
        threshold: float | None = None,
        assured: bool | None = None,
        hedge: bool | None = None,
        timeout_s: float | None = None,
    ) -> Verification:
        """See AsyncClient.verify."""
        return self._run(
            self._client.verify(
                subject, photo, views=views, mirror=mirror, threshold=threshold, assured=assured, hedge=hedge,
                timeout_s=timeout_s,
            )
        )  # fmt: skip

    def verify_embedding(
        self,
        subject: str | Card,
        embedding: Embedding,
        *,
        model: str,
        views: Sequence[Embedding] = (),
        threshold: float | None = None,
        assured: bool | None = None,
        hedge: bool | None = None,
        timeout_s: float | None = None,
    ) -> Verification:
        """See AsyncClient.verify_embedding."""
        return self._run(
            self._client.verify_embedding(
                subject, embedding, model=model, views=views, threshold=threshold, assured=assured, hedge=hedge,
                timeout_s=timeout_s,
            )
        )  # fmt: skip

    def candidates(
        self,
        photo: ImageSource | Shot,
        *,
        views: Sequence[ImageSource | Shot] = (),
        mirror: bool = False,
        threshold: float | None = None,
        assured: bool | None = None,
        hedge: bool | None = None,
        timeout_s: float | None = None,
    ) -> Candidates:
        """See AsyncClient.candidates."""
        return self._run(
            self._client.candidates(
                photo, views=views, mirror=mirror, threshold=threshold, assured=assured, hedge=hedge,
                timeout_s=timeout_s,
            )
        )  # fmt: skip

    def candidates_embedding(
        self,
        embedding: Embedding,
        *,
        model: str,
        views: Sequence[Embedding] = (),
        threshold: float | None = None,
        assured: bool | None = None,
        hedge: bool | None = None,
        timeout_s: float | None = None,
    ) -> Candidates:
        """See AsyncClient.candidates_embedding."""
        return self._run(
            self._client.candidates_embedding(
                embedding, model=model, views=views, threshold=threshold, assured=assured, hedge=hedge,
                timeout_s=timeout_s,
            )
        )  # fmt: skip

    def identify(
        self,
        photo: ImageSource | Shot,
        *,
        views: Sequence[ImageSource | Shot] = (),
        mirror: bool = False,
        threshold: float | None = None,
        assured: bool | None = None,
        hedge: bool | None = None,
        timeout_s: float | None = None,
    ) -> IdentifyResult:
        """See AsyncClient.identify."""
        return self._run(
            self._client.identify(
                photo, views=views, mirror=mirror, threshold=threshold, assured=assured, hedge=hedge,
                timeout_s=timeout_s,
            )
        )  # fmt: skip

    def identify_embedding(
        self,
        embedding: Embedding,
        *,
        model: str,
        views: Sequence[Embedding] = (),
        threshold: float | None = None,
        assured: bool | None = None,
        hedge: bool | None = None,
        timeout_s: float | None = None,
    ) -> IdentifyResult:
        """See AsyncClient.identify_embedding."""
        return self._run(
            self._client.identify_embedding(
                embedding, model=model, views=views, threshold=threshold, assured=assured, hedge=hedge,
                timeout_s=timeout_s,
            )
        )  # fmt: skip

    def quality(self, photo: ImageSource) -> Quality:
        """See AsyncClient.quality."""
        return self._run(self._client.quality(photo))

    def known(
        self,
        photo: ImageSource | Shot,
        *,
        views: Sequence[ImageSource | Shot] = (),
        mirror: bool = False,
        threshold: float | None = None,
        assured: bool | None = None,
        hedge: bool | None = None,
        timeout_s: float | None = None,
    ) -> Known:
        """See AsyncClient.known."""
        return self._run(
            self._client.known(
                photo, views=views, mirror=mirror, threshold=threshold, assured=assured, hedge=hedge,
                timeout_s=timeout_s,
            )
        )  # fmt: skip

    def known_embedding(
        self,
        embedding: Embedding,
        *,
        model: str,
        views: Sequence[Embedding] = (),
        threshold: float | None = None,
        assured: bool | None = None,
        hedge: bool | None = None,
        timeout_s: float | None = None,
    ) -> Known:
        """See AsyncClient.known_embedding."""
        return self._run(
            self._client.known_embedding(
                embedding, model=model, views=views, threshold=threshold, assured=assured, hedge=hedge,
                timeout_s=timeout_s,
            )
        )  # fmt: skip

    def compare(self, photo: ImageSource, other: ImageSource, *, threshold: float | None = None) -> Comparison:
        """See AsyncClient.compare."""
        return self._run(self._client.compare(photo, other, threshold=threshold))

    def for_recipient(self, certificate: RecipientCertificate | str | Path) -> ForRecipient:
        """See AsyncClient.for_recipient."""
        return ForRecipient(self._client.for_recipient(certificate), self._run)

    def enrol(
        self,
        subject: str,
        *photos: ImageSource | Shot,
        token: bytes | None = None,
        once: bool = False,
        consent: Consent | None = None,
        accept_any: bool = False,
        replace: bool = False,
        unless_known: bool = False,
        threshold: float | None = None,
        keep_empty: bool = False,
        mean: bool = False,
        timeout_s: float | None = None,
    ) -> Enrolment:
        """See AsyncClient.enrol."""
        return self._run(
            self._client.enrol(
                subject,
                *photos,
                token=token,
                once=once,
                consent=consent,
                accept_any=accept_any,
                replace=replace,
                unless_known=unless_known,
                threshold=threshold,
                keep_empty=keep_empty,
                mean=mean,
                timeout_s=timeout_s,
            )
        )

    def enrol_embedding(
        self,
        subject: str,
        *embeddings: Embedding,
        model: str,
        token: bytes | None = None,
        consent: Consent | None = None,
        replace: bool = False,
        unless_known: bool = False,
        threshold: float | None = None,
        keep_empty: bool = False,
        timeout_s: float | None = None,
    ) -> Enrolment:
        """See AsyncClient.enrol_embedding."""
        call = self._client.enrol_embedding(
            subject, *embeddings, model=model, token=token, consent=consent, replace=replace,
            unless_known=unless_known, threshold=threshold, keep_empty=keep_empty, timeout_s=timeout_s,
        )  # fmt: skip
        return self._run(call)

    def enrol_many(
        self,
        photos: Mapping[str, ImageSource | Shot] | Iterable[tuple[str, ImageSource | Shot]] | TableSource,
        *,
        progress: Progress | None = None,
        skipped: Skipped | None = None,
        token: bytes | None = None,
        once: bool = False,
        consent: Consent | Mapping[str, Consent] | None = None,
        accept_any: bool = False,
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
            consent=consent,
            accept_any=accept_any,
            timeout_s=timeout_s,
        )
        return self._run(call, caller)

    def enrol_many_embeddings(
        self,
        embeddings: Mapping[str, Embedding] | Iterable[tuple[str, Embedding]] | TableSource,
        *,
        model: str,
        progress: Progress | None = None,
        token: bytes | None = None,
        consent: Consent | Mapping[str, Consent] | None = None,
        timeout_s: float | None = None,
    ) -> Enrolment:
        """See AsyncClient.enrol_many_embeddings."""
        caller = Caller()
        call = self._client.enrol_many_embeddings(
            checked_pairs("embedding", embeddings),
            model=model,
            progress=progress and caller.relayed(progress),
            token=token,
            consent=consent,
            timeout_s=timeout_s,
        )
        return self._run(call, caller)

    def erase(self, subject: str, *, token: bytes | None = None, timeout_s: float | None = None) -> Erasure:
        """See AsyncClient.erase."""
        return self._run(self._client.erase(subject, token=token, timeout_s=timeout_s))

    def erase_many(
        self,
        subjects: Iterable[str],
        *,
        missing_ok: bool = False,
        progress: Progress | None = None,
        token: bytes | None = None,
        timeout_s: float | None = None,
    ) -> Erasures:
        """See AsyncClient.erase_many."""
        caller = Caller()
        call = self._client.erase_many(
            checked_names(subjects),
            missing_ok=missing_ok,
            progress=progress and caller.relayed(progress),
            token=token,
            timeout_s=timeout_s,
        )
        return self._run(call, caller)

    def take_back(
        self, subject: str, enrolment: bytes, *, token: bytes | None = None, timeout_s: float | None = None
    ) -> Erasure:
        """See AsyncClient.take_back."""
        return self._run(self._client.take_back(subject, enrolment, token=token, timeout_s=timeout_s))

    def issue(
        self,
        subject: str,
        photo: ImageSource | Shot,
        *,
        days: float,
        consent: Consent | None = None,
        accept_any: bool = False,
        timeout_s: float | None = None,
    ) -> Card:
        """See AsyncClient.issue."""
        call = self._client.issue(
            subject, photo, days=days, consent=consent, accept_any=accept_any, timeout_s=timeout_s
        )
        return self._run(call)

    def issue_embedding(
        self,
        subject: str,
        embedding: Embedding,
        *,
        model: str,
        days: float,
        consent: Consent | None = None,
        timeout_s: float | None = None,
    ) -> Card:
        """See AsyncClient.issue_embedding."""
        call = self._client.issue_embedding(
            subject, embedding, model=model, days=days, consent=consent, timeout_s=timeout_s
        )
        return self._run(call)

    def revoke_card(self, serial: str, *, timeout_s: float | None = None) -> Revocation:
        """See AsyncClient.revoke_card."""
        return self._run(self._client.revoke_card(serial, timeout_s=timeout_s))

    def subjects(self, *, timeout_s: float | None = None) -> Subjects:
        """See AsyncClient.subjects."""
        return self._run(self._client.subjects(timeout_s=timeout_s))

    def retain(self, *, timeout_s: float | None = None) -> Retained:
        """See AsyncClient.retain."""
        return self._run(self._client.retain(timeout_s=timeout_s))

    def budgets(self, *, timeout_s: float | None = None) -> Budgets:
        """See AsyncClient.budgets."""
        return self._run(self._client.budgets(timeout_s=timeout_s))

    def templates(self, subject: str | None = None, *, timeout_s: float | None = None) -> list[TemplateEntry]:
        """See AsyncClient.templates."""
        return self._run(self._client.templates(subject, timeout_s=timeout_s))

    def rotate(
        self, new_key_id: bytes, *, progress: Progress | None = None, timeout_s: float | None = None
    ) -> Rotation:
        """See AsyncClient.rotate."""
        caller = Caller()
        call = self._client.rotate(new_key_id, progress=progress and caller.relayed(progress), timeout_s=timeout_s)
        return self._run(call, caller)

    def _run(self, call: Coroutine[Any, Any, _R], caller: Caller | None = None) -> _R:
        return (caller or Caller()).wait(self._thread.start(call))
