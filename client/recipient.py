"""Queries whose answers a relying party learns, and this device does not.

    result = client.for_recipient("recipient.cert").verify("alice", "door.jpg", challenge=challenge)
    send_to_the_bank(result.export())

Each organisation seals its share of the answer to the recipient and signs what it is about; the device carries both.
docs/recipients.md.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from veilmatch.client.card import Card, comparing
from veilmatch.client.given.arguments import checked_model, checked_name, checked_views
from veilmatch.client.given.quoting import naming
from veilmatch.client.operations.cards import require_presentable
from veilmatch.client.operations.device import Device, Embedding, Probe
from veilmatch.client.operations.queries import Way, require_views, stated
from veilmatch.client.wire.connection import Answered, Connection
from veilmatch.client.wire.labels import Labels, agreed_labels
from veilmatch.client.wire.pairs import assurance
from veilmatch.client.wire.signing import Draft
from veilmatch.client.wire.transport import Matcher
from veilmatch.crypto.answer_share import SEARCHES
from veilmatch.crypto.digests import DIGEST_BYTES
from veilmatch.crypto.errors import (
    ClientUseError,
    ConfigurationError,
    GalleryMismatchError,
    IntegrityError,
    RecipientCertificateError,
    UnknownSubjectError,
)
from veilmatch.crypto.keys.parties import PAIRS, Pair
from veilmatch.crypto.keys.recipient_certificate import RecipientCertificate
from veilmatch.crypto.requests import VERIFICATIONS, Operation, request_digest
from veilmatch.crypto.sealed_answer import SealedAnswer
from veilmatch.protos.v1 import matcher_pb2, request_pb2

if TYPE_CHECKING:
    from veilmatch.client.capture.image import ImageSource
    from veilmatch.client.capture.quality.assessment import Quality
    from veilmatch.client.liveness.shot import Shot

_R = TypeVar("_R")
_OPERATIONS: dict[Operation, request_pb2.Operation.ValueType] = {
    "verify": request_pb2.OPERATION_VERIFY,
    "candidates": request_pb2.OPERATION_CANDIDATES,
    "identify": request_pb2.OPERATION_IDENTIFY,
    "known": request_pb2.OPERATION_KNOWN,
    "present": request_pb2.OPERATION_PRESENT,
}


@dataclass(frozen=True, slots=True)
class SealedResult:
    """An answer that this device cannot read. In a condition it raises ClientUseError: it is neither yes nor no.

    answer: for the recipient; `export` writes it. pairs: who answered. requests: digest of each request, 32 bytes, for
    a recipient that expects it. request_id: of the last. total_s: seconds from the call to its result. quality: of the
    photo, None for an embedding.
    """

    answer: SealedAnswer = field(repr=False)
    operation: Operation
    pairs: tuple[Pair, ...]
    requests: tuple[bytes, ...] = field(repr=False)
    request_id: str
    total_s: float
    quality: Quality | None = field(default=None, repr=False, compare=False)

    def export(self) -> bytes:
        """Return the document that the recipient opens: JSON."""
        return self.answer.encode()

    def __bool__(self) -> NoReturn:
        raise ClientUseError(
            "the answer is sealed: only the recipient learns whether there is a match", expected="to be sent to it"
        )


@dataclass(frozen=True, slots=True)
class _Question:
    """What a caller asks for the recipient. subject: "" for a search, a card that is presented. The rest: see the
    methods of `_Queries`."""

    operation: Operation
    subject: str | Card
    challenge: bytes
    threshold: float | None
    assured: bool | None
    timeout_s: float | None
    views: Sequence[Any]
    mirror: bool = False


class _Asking:
    """Asks the servers, and gives their statements back; `AsyncForRecipient` says what it is made of."""

    def __init__(
        self,
        device: Device,
        connection: Connection,
        way: Callable[[bool | None, float | None], Way],
        recipient: RecipientCertificate,
    ) -> None:
        self._device = device
        self._connection = connection
        self._way = way
        self._recipient = recipient
        #: Of the last search: servers send what has changed since.
        self._known = Labels()

    async def of_photo(self, question: _Question, photo: ImageSource | Shot) -> SealedResult:
        started, question = time.perf_counter(), self._checked(question)
        t, way = self._terms(question)
        views = checked_views(question.views, question.mirror)
        probe = await self._device.probe(photo, question.operation, views, bool(question.mirror))
        return replace(await self._ask(started, question, probe, t, way), quality=probe.quality)

    async def of_embedding(self, question: _Question, embedding: Embedding, model: str) -> SealedResult:
        started, question = time.perf_counter(), self._checked(question)
        self._device.require_no_liveness(question.operation)
        t, way = self._terms(question)
        probe = Probe([embedding, *checked_views(question.views)], checked_model(model))
        return await self._ask(started, question, probe, t, way)

    def _checked(self, question: _Question) -> _Question:
        """Return the question with its subject in NFC, if the client is open and the question is one."""
        self._connection.open()
        if not isinstance(question.challenge, bytes):
            raise ClientUseError("a challenge is bytes", got=type(question.challenge).__name__, expected="bytes")
        if isinstance(question.subject, Card) or question.operation not in VERIFICATIONS:
            return question
        return replace(question, subject=checked_name(question.subject))

    def _terms(self, question: _Question) -> tuple[int, Way]:
        """Return threshold and way, before anything is captured. Raises DeviceRightsError as `Device.threshold`."""
        t = self._device.threshold(question.operation, question.threshold, for_recipient=True)
        return t, self._way(question.assured, question.timeout_s)

    async def _ask(self, started: float, question: _Question, probe: Probe, t: int, way: Way) -> SealedResult:
        operation, claimed = question.operation, question.subject
        await require_views(self._connection, probe)
        draft = Draft(
            _OPERATIONS[operation], await self._device.lanes(*probe.embeddings), t, model=probe.model,
            views=probe.views, recipient=self._recipient, challenge=question.challenge,
            liveness=await stated(self._device, self._connection, probe.liveness),
        )  # fmt: skip
        if isinstance(claimed, Card):
            await require_presentable(claimed, self._device, self._connection)
            draft = replace(draft, subject=claimed.subject, salt=claimed.salt, card=claimed.signed.encode())
        else:
            draft = replace(draft, subject=claimed)
        known = self._known if operation in SEARCHES else Labels()

        def ask(matcher: Matcher, signed: request_pb2.SignedRequest, left: float) -> Awaitable[matcher_pb2.MatchReply]:
            asked = matcher_pb2.MatchRequest(request=signed, known_chain=known.chain, known_sequence=known.sequence)
            return matcher.match(asked, left)

        def opening(a: matcher_pb2.MatchReply, b: matcher_pb2.MatchReply, pair: Pair) -> _Sealed:
            return _sealed(a, b, pair, known)

        async def ask_pair(pair: Pair, left: float) -> Answered[matcher_pb2.MatchReply, _Sealed]:
            return await self._connection.ask_one(draft, pair, left, ask, opening)

        with naming(draft.subject):
            if way.assured:
                # What is said nobody here knows. Of a search all must be about one list of subjects.
                about = (lambda one: one.opened.labels.chain) if operation in SEARCHES else (lambda one: None)
                found = await assurance.assured(ask_pair, about, f"{operation} for a recipient", way.timeout_s)
                answers = [found[pair] for pair in PAIRS]
            else:
                answers = [await self._connection.ask(draft, way.timeout_s, ask, opening)]
        newest = answers[-1].opened
        if operation in SEARCHES:
            self._known = newest.labels
        statements = tuple(statement for answer in answers for statement in answer.opened.statements)
        return SealedResult(
            answer=SealedAnswer(statements, draft.salt if draft.subject else b"", _subjects(newest)),
            operation=operation,
            pairs=tuple(answer.pair for answer in answers),
            requests=tuple(request_digest(answer.request.body) for answer in answers),
            request_id=answers[-1].request_id,
            total_s=time.perf_counter() - started,
        )


class _Queries(Generic[_R]):
    """The queries of one device for one recipient. Errors: as of the methods of AsyncClient.

    assured: statements of all three pairs, for a recipient that wants them; default: the settings. Whether they agree
    only the recipient finds out. views, mirror: see `AsyncClient.verify`; the recipient is told how many there are, and
    opens no answer about more than it allows.
    """

    def __init__(self, asking: _Asking, run: Callable[[Coroutine[Any, Any, SealedResult]], _R]) -> None:
        self._asking = asking
        self._run = run

    def verify(
        self,
        subject: str | Card,
        photo: ImageSource | Shot,
        *,
        views: Sequence[ImageSource | Shot] = (),
        mirror: bool = False,
        challenge: bytes = b"",
        threshold: float | None = None,
        assured: bool | None = None,
        timeout_s: float | None = None,
    ) -> _R:
        """`AsyncClient.verify` for the recipient. challenge: up to 64 bytes that it gave for this question."""
        question = _Question(comparing(subject), subject, challenge, threshold, assured, timeout_s, views, mirror)
        return self._run(self._asking.of_photo(question, photo))

    def verify_embedding(
        self,
        subject: str | Card,
        embedding: Embedding,
        *,
        model: str,
        views: Sequence[Embedding] = (),
        challenge: bytes = b"",
        threshold: float | None = None,
        assured: bool | None = None,
        timeout_s: float | None = None,
    ) -> _R:
        """`verify` for an embedding."""
        question = _Question(comparing(subject), subject, challenge, threshold, assured, timeout_s, views)
        return self._run(self._asking.of_embedding(question, embedding, model))

    def identify(
        self,
        photo: ImageSource | Shot,
        *,
        views: Sequence[ImageSource | Shot] = (),
        mirror: bool = False,
        challenge: bytes = b"",
        threshold: float | None = None,
        assured: bool | None = None,
        timeout_s: float | None = None,
    ) -> _R:
        """`AsyncClient.identify` for the recipient."""
        question = _Question("identify", "", challenge, threshold, assured, timeout_s, views, mirror)
        return self._run(self._asking.of_photo(question, photo))

    def identify_embedding(
        self,
        embedding: Embedding,
        *,
        model: str,
        views: Sequence[Embedding] = (),
        challenge: bytes = b"",
        threshold: float | None = None,
        assured: bool | None = None,
        timeout_s: float | None = None,
    ) -> _R:
        """`identify` for an embedding."""
        question = _Question("identify", "", challenge, threshold, assured, timeout_s, views)
        return self._run(self._asking.of_embedding(question, embedding, model))

    def candidates(
        self,
        photo: ImageSource | Shot,
        *,
        views: Sequence[ImageSource | Shot] = (),
        mirror: bool = False,
        challenge: bytes = b"",
        threshold: float | None = None,
        assured: bool | None = None,
        timeout_s: float | None = None,
    ) -> _R:
        """`AsyncClient.candidates` for the recipient."""
        question = _Question("candidates", "", challenge, threshold, assured, timeout_s, views, mirror)
        return self._run(self._asking.of_photo(question, photo))

    def candidates_embedding(
        self,
        embedding: Embedding,
        *,
        model: str,
        views: Sequence[Embedding] = (),
        challenge: bytes = b"",
        threshold: float | None = None,
        assured: bool | None = None,
        timeout_s: float | None = None,
    ) -> _R:
        """`candidates` for an embedding."""
        question = _Question("candidates", "", challenge, threshold, assured, timeout_s, views)
        return self._run(self._asking.of_embedding(question, embedding, model))

    def known(
        self,
        photo: ImageSource | Shot,
        *,
        views: Sequence[ImageSource | Shot] = (),
        mirror: bool = False,
        challenge: bytes = b"",
        threshold: float | None = None,
        assured: bool | None = None,
        timeout_s: float | None = None,
    ) -> _R:
        """`AsyncClient.known` for the recipient."""
        question = _Question("known", "", challenge, threshold, assured, timeout_s, views, mirror)
        return self._run(self._asking.of_photo(question, photo))

    def known_embedding(
        self,
        embedding: Embedding,
        *,
        model: str,
        views: Sequence[Embedding] = (),
        challenge: bytes = b"",
        threshold: float | None = None,
        assured: bool | None = None,
        timeout_s: float | None = None,
    ) -> _R:
        """`known` for an embedding."""
        question = _Question("known", "", challenge, threshold, assured, timeout_s, views)
        return self._run(self._asking.of_embedding(question, embedding, model))


class AsyncForRecipient(_Queries[Coroutine[Any, Any, SealedResult]]):
    """Queries of one device for one recipient, each to be awaited; `AsyncClient.for_recipient` makes it."""

    def __init__(
        self,
        device: Device,
        connection: Connection,
        way: Callable[[bool | None, float | None], Way],
        recipient: RecipientCertificate,
    ) -> None:
        """way: how a query is answered, of what its caller said of `assured` and of the time-out."""
        super().__init__(_Asking(device, connection, way, recipient), lambda call: call)


class ForRecipient(_Queries[SealedResult]):
    """The same for `Client`, which makes it. run: waits for a call of the asynchronous twin."""

    def __init__(
        self, queries: AsyncForRecipient, run: Callable[[Coroutine[Any, Any, SealedResult]], SealedResult]
    ) -> None:
        super().__init__(queries._asking, run)


def read_recipient(certificate: RecipientCertificate | str | Path) -> RecipientCertificate:
    """Return a recipient's certificate that two organisations have signed; the servers find out whether rightly.

    Raises ConfigurationError if the file cannot be read, RecipientCertificateError if it is no certificate, or a
    request for one.
    """
    if isinstance(certificate, RecipientCertificate):
        found = certificate
    else:
        try:
            found = RecipientCertificate.decode(Path(certificate).read_bytes())
        except OSError as error:
            raise ConfigurationError(
                "the recipient's certificate cannot be read", got=f"{certificate}: {error.strerror}"
            ) from None
        except RecipientCertificateError as error:
            raise RecipientCertificateError(
                f"{certificate}: {error.message}", got=error.got, expected=error.expected
            ) from None
    found.require_two()
    found.statement.require_valid(time.time())
    return found


@dataclass(frozen=True, slots=True)
class _Sealed:
    statements: tuple[str, ...]
    labels: Labels


def _subjects(sealed: _Sealed) -> tuple[str, ...]:
    return tuple(sealed.labels.subjects.tolist())


def _sealed(a: matcher_pb2.MatchReply, b: matcher_pb2.MatchReply, pair: Pair, known: Labels) -> _Sealed:
    """Return the statements of both organisations, and whom they are about, if the two say the same.

    The recipient checks what is stated itself. What is found here is told where the device can ask again.
    """
    if (a.sequence, a.chain) != (b.sequence, b.chain):
        raise GalleryMismatchError(
            "the two matchers do not hold the same gallery", got=f"sequence {b.sequence}", expected=f"{a.sequence}"
        )
    if a.count == 0 == b.count:
        raise UnknownSubjectError("the gallery is empty: there is nothing to state an answer about")
    if (a.session_id, a.count) != (b.session_id, b.count) or len(a.session_id) != DIGEST_BYTES:
        raise IntegrityError("the two matchers answer from different sessions", got=b.count, expected=a.count)
    for reply in (a, b):
        if not reply.statement or not reply.statement.isascii() or reply.share or reply.valid_share:
            raise IntegrityError("an answer that is not sealed to the recipient", expected="a statement")
    return _Sealed((a.statement.decode(), b.statement.decode()), agreed_labels(a, b, pair, known))
