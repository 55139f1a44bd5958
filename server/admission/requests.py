"""Checking a device's signed request: signature, expiry, key, rights, what its fields may be, and lowest thresholds.

Both matcher and key holder check every request themselves; neither relies on the other.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol, cast

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from google.protobuf.message import DecodeError

from veilmatch.crypto.answer_share import CHALLENGE_BYTES
from veilmatch.crypto.card import LATEST_S, SERIAL_BYTES
from veilmatch.crypto.digests import DIGEST_BYTES, NONCE_BYTES
from veilmatch.crypto.encryption import knowledge
from veilmatch.crypto.encryption.paillier import PublicKey
from veilmatch.crypto.encryption.public_key_format import KEY_ID_BYTES
from veilmatch.crypto.errors import (
    CiphertextError,
    InvalidInputError,
    KeyMismatchError,
    KnowledgeProofError,
    PartyRefusedError,
    RequestExpiredError,
    RequestRefusedError,
    RequestSignatureError,
    WrongClockError,
)
from veilmatch.crypto.keys.device_certificate import Statement
from veilmatch.crypto.keys.parties import PAIRS, Pair
from veilmatch.crypto.keys.recipient_certificate import ID_BYTES
from veilmatch.crypto.keys.recipient_certificate import Statement as RecipientStatement
from veilmatch.crypto.liveness import Verdict
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.crypto.requests import (
    MAX_VIEWS,
    MIN_LIFETIME_S,
    TOKEN_BYTES,
    VERIFICATIONS,
    WITH_PROBE,
    Operation,
    payload_digest,
    request_digest,
    signed_bytes,
)
from veilmatch.protos.v1 import request_pb2 as pb
from veilmatch.server.admission.recipients import Recipients
from veilmatch.server.ground.request_id import about_request
from veilmatch.server.monitoring import calls

_OPERATIONS: dict[int, Operation] = {
    pb.OPERATION_VERIFY: "verify",
    pb.OPERATION_CANDIDATES: "candidates",
    pb.OPERATION_IDENTIFY: "identify",
    pb.OPERATION_KNOWN: "known",
    pb.OPERATION_ENROL: "enrol",
    pb.OPERATION_ERASE: "erase",
    pb.OPERATION_BULK_ENROL: "bulk",
    pb.OPERATION_SUBJECTS: "subjects",
    pb.OPERATION_ROTATE: "rotate",
    pb.OPERATION_RETAIN: "retain",
    pb.OPERATION_ISSUE: "issue",
    pb.OPERATION_PRESENT: "present",
    pb.OPERATION_REVOKE: "revoke",
}
#: What a request may take from one server to the next, generously, after the one has looked at its clock.
_MOMENT_MS = 10_000
WITH_LANES: tuple[Operation, ...] = (*WITH_PROBE, "enrol", "issue")
MUTATIONS: tuple[Operation, ...] = ("enrol", "erase", "bulk", "retain", "issue", "revoke")


@dataclass(frozen=True, slots=True)
class CheckedRequest:
    """A request whose signature, expiry, key, rights and form were found right. Replay is checked apart."""

    digest: bytes
    device: str
    #: What two organisations stated about the device when the signature was checked.
    certified: Statement
    gallery: str
    operation: Operation
    threshold: int
    pair: Pair
    nonce: bytes
    token: bytes
    expires_at_ms: int
    payload_digest: bytes
    subject_digest: bytes
    new_key_id: bytes
    #: Token of the one enrolment that an erasure takes back, b"" for all templates of the subject.
    enrolment: bytes
    #: Proof of knowledge, b"" without lane ciphertexts, and what it has to be bound to: see `check_knowledge`.
    knowledge: bytes
    knowledge_context: bytes
    #: To whom the answer is sealed, None for the device; and what it wants the statements to repeat.
    recipient: RecipientStatement | None = None
    challenge: bytes = b""
    #: When the change that this asks for is to say that it was made, whole seconds since 1970; 0 if not at all.
    made_s: int = 0
    #: Salted digest of the consent that an enrolment is under, b"" without one.
    consent_digest: bytes = b""
    #: Whether subjects are listed template by template.
    details: bool = False
    #: Digest of the card that is presented, the end of one that is issued, and the serial of one that is revoked.
    card_digest: bytes = b""
    card_expires_s: int = 0
    card_serial: bytes = b""
    #: Vectors of the probe, all of one face.
    views: int = 1
    #: Whether an enrolment is made only unless the face is known, at `threshold`.
    unless_known: bool = False

    @property
    def searches(self) -> bool:
        """Whether the probe is compared with a whole gallery."""
        return self.unless_known or (self.operation in WITH_PROBE and self.operation not in VERIFICATIONS)


class CertifiedDevices(Protocol):
    """Where a server finds its devices; `Devices` is one."""

    def find(self, name: str) -> Statement | None:
        """Return what two organisations state about a device of this name, if they do."""


class RequestChecker:
    """Checks requests against the certificates of an installation's devices.

    max_clock_skew_s: how far a request may be dated ahead of this server; max_lifetime_s: longest span from issue
    to expiry that is accepted. server: the name of this server; errors say that it is the one that refuses.
    after_another: whether requests are brought by a server that has just found them right by its own clock.
    recipients: of the installation; without, no request may name one.
    """

    def __init__(
        self,
        public_key: PublicKey,
        devices: CertifiedDevices,
        max_clock_skew_s: float,
        max_lifetime_s: float,
        server: str,
        now: Callable[[], float] = time.time,
        *,
        after_another: bool = False,
        recipients: Recipients | None = None,
    ) -> None:
        self.server = server
        self._recipients = recipients
        self._after_another = after_another
        self._public_key = public_key
        self._devices = devices
        self._skew_ms = int(max_clock_skew_s * 1000)
        self._lifetime_ms = int(max_lifetime_s * 1000)
        self._now = now

    @property
    def parameters(self) -> ParameterSet:
        """The parameter set of the requests that are taken."""
        return self._public_key.parameters

    def require_known(self, device: str) -> None:
        """Raise RequestSignatureError unless a device of this name has a certificate here, valid now or not."""
        try:
            self._known(device)
        except RequestRefusedError as error:
            error.party = self.server
            raise

    def _known(self, device: str) -> Statement:
        statement = self._devices.find(device)
        if statement is None:
            raise RequestSignatureError("signed by no device that has a good certificate here", got=device[:60])
        return statement

    def check(self, request: pb.SignedRequest, *operations: Operation) -> CheckedRequest:
        """Return the request's content.

        Raises RequestSignatureError; RequestExpiredError, saying whose clock it is and how far the request is from it,
        WrongClockError if that is further than any request that another server brings can be; KeyMismatchError;
        DeviceRightsError if the device's certificate does not allow it, LowThresholdError if it does at higher
        thresholds only, LivenessDemandedError if it does after a check of liveness only; InvalidInputError if it is for
        another operation than `operations` or a field has no sense;
        KnowledgeProofError if a proof of knowledge is due and what is in its place has another length. A refusal names
        this server as `party`.
        """
        try:
            body = pb.RequestBody.FromString(request.body)
        except DecodeError:
            raise InvalidInputError("the request's body cannot be read", expected="a RequestBody") from None
        about_request(request_digest(request.body), body.device[:60])
        calls.about(operation_said(body))
        with self._refusing():
            return self._checked(request, body, operations)

    def check_again(self, checked: CheckedRequest, request: pb.SignedRequest) -> CheckedRequest:
        """Return what `check` would return now for a request that it returned `checked` for, a moment ago.

        What may be another now is looked at: the clock, the device's certificate, its times and those of its recipient,
        and whether one of the two was revoked. What was signed, and with which key, stays right under the certificate
        that it was found right under; under another one all is checked again.
        """
        with self._refusing():
            if self._known(checked.device) == checked.certified:
                body = pb.RequestBody.FromString(request.body)
                self._check_times(body.issued_at_ms, body.expires_at_ms)
                self._require_rights(checked.certified, body, checked.operation)
                return replace(checked, recipient=self._recipient(request, body))
        return self.check(request, checked.operation)

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        """Let refusals name this server."""
        try:
            yield
        except WrongClockError:
            raise  # a failure of this server by itself: own_failures.py
        except RequestRefusedError as error:
            error.party = self.server
            raise

    def is_far(self, request: pb.SignedRequest, within_s: float) -> bool:
        """Return whether a request is so far from this clock that a server that takes it has another time.

        within_s: how long after the other one it may come here.
        """
        body, now_ms = pb.RequestBody.FromString(request.body), int(self._now() * 1000)
        beyond_ms = max(now_ms - body.expires_at_ms, body.issued_at_ms - now_ms - self._skew_ms)
        return self._is_wrong(beyond_ms - int(1000 * within_s))

    def _checked(
        self, request: pb.SignedRequest, body: pb.RequestBody, operations: Sequence[Operation]
    ) -> CheckedRequest:
        statement = self._check_signature(request, body.device)
        self._check_times(body.issued_at_ms, body.expires_at_ms)
        if body.parameter_set != self._public_key.parameters.name:
            raise KeyMismatchError(
                "another parameter set", got=body.parameter_set[:60], expected=self._public_key.parameters.name
            )
        if body.key_id != self._public_key.key_id:
            raise KeyMismatchError(
                "encrypted under another key", got=body.key_id.hex()[:32], expected=self._public_key.key_id.hex()
            )
        operation = _OPERATIONS.get(body.operation)
        if operation is None or operation not in operations:
            raise InvalidInputError("another operation than this call serves", got=operation, expected=operations)
        if bool(request.card) != (operation == "present"):
            raise InvalidInputError("a card belongs to a request that presents it", got=operation, expected="present")
        self._require_rights(statement, body, operation)
        self._check_fields(body, operation)
        if asked := "known" if body.unless_known else operation if operation in WITH_PROBE else None:
            statement.require_threshold(asked, body.threshold, self._public_key.parameters)
            statement.require_recipient(asked, named=bool(body.recipient))
            statement.require_liveness(asked, _verdict(body), body.issued_at_ms)
        return CheckedRequest(
            digest=request_digest(request.body),
            device=body.device,
            certified=statement,
            gallery=body.gallery,
            operation=operation,
            threshold=body.threshold,
            pair=cast(Pair, body.pair),
            nonce=body.nonce,
            token=body.token,
            expires_at_ms=body.expires_at_ms,
            payload_digest=body.payload_digest,
            subject_digest=body.subject_digest,
            new_key_id=body.new_key_id,
            enrolment=body.enrolment,
            knowledge=body.knowledge,
            knowledge_context=self._knowledge_context(body, statement.public_key),
            recipient=self._recipient(request, body),
            challenge=body.challenge,
            made_s=body.issued_at_ms // 1000 if body.dated else 0,
            consent_digest=body.consent_digest,
            details=body.details,
            card_digest=body.card_digest,
            card_expires_s=body.card_expires_s,
            card_serial=body.card_serial,
            views=body.views or 1,
            unless_known=body.unless_known,
        )

    def _require_rights(self, statement: Statement, body: pb.RequestBody, operation: Operation) -> None:
        right = operation
        # Taking back what a device has made itself is part of the right to make it; whose it is, matchers know.
        if operation == "erase" and body.enrolment:
            right = "enrol"
        elif operation == "revoke" and "revoke" not in statement.rights and "issue" in statement.rights:
            right = "issue"
        statement.require(right, body.gallery, self._now())
        if body.unless_known:
            statement.require("known", body.gallery, self._now())

    def _recipient(self, request: pb.SignedRequest, body: pb.RequestBody) -> RecipientStatement | None:
        """Return the recipient that the device has signed. Raises RecipientCertificateError, InvalidInputError."""
        if not body.recipient and not request.recipient_certificate:
            return None
        if not body.recipient or self._recipients is None:
            raise InvalidInputError("a recipient has no sense here", got="recipient", expected="none")
        return self._recipients.certified(request.recipient_certificate, body.recipient)

    def _check_signature(self, request: pb.SignedRequest, device: str) -> Statement:
        statement = self._known(device)
        try:
            key = Ed25519PublicKey.from_public_bytes(statement.public_key)
            key.verify(request.signature, signed_bytes(request.body))
        except (InvalidSignature, ValueError):
            raise RequestSignatureError("the signature is not that of the device", expected=device) from None
        return statement

    def _check_times(self, issued_at_ms: int, expires_at_ms: int) -> None:
        now_ms = int(self._now() * 1000)
        if now_ms > expires_at_ms:
            raise self._expired(now_ms - expires_at_ms)(
                f"the request has expired by the clock of {self.server}",
                got=f"issued {(now_ms - issued_at_ms) / 1000:.1f} s ago by that clock",
                expected=f"<= {max(expires_at_ms - issued_at_ms, 0) / 1000:.0f} s",
            )
        if issued_at_ms > now_ms + self._skew_ms:
            raise self._expired(issued_at_ms - now_ms - self._skew_ms)(
                f"the request is dated ahead of the clock of {self.server}",
                got=f"{(issued_at_ms - now_ms) / 1000:.1f} s ahead of that clock",
                expected=f"<= {self._skew_ms / 1000:.0f} s",
            )
        lives_ms = expires_at_ms - issued_at_ms
        if not MIN_LIFETIME_S * 1000 <= lives_ms <= self._lifetime_ms:
            raise RequestExpiredError(
                f"the request lives too {'long' if lives_ms > self._lifetime_ms else 'short a time'}",
                got=f"{lives_ms / 1000:.1f} s",
                expected=f"{MIN_LIFETIME_S:.0f}..{self._lifetime_ms / 1000:.0f} s",
            )

    def _expired(self, beyond_ms: int) -> type[RequestExpiredError]:
        """Return the class of the error for a request that is so far beyond what this server takes.

        The other server took it a moment ago. A device can aim at the moment between the two, and at what their clocks
        may differ by, but no further: beyond that one of the clocks is wrong, and this server knows of its own alone.
        """
        return WrongClockError if self._after_another and self._is_wrong(beyond_ms) else RequestExpiredError

    def _is_wrong(self, beyond_ms: int) -> bool:
        return beyond_ms > max(self._skew_ms, _MOMENT_MS)

    def _check_fields(self, body: pb.RequestBody, operation: Operation) -> None:
        limit = self._public_key.parameters.threshold_max
        probe, mutation = operation in WITH_PROBE, operation in MUTATIONS
        compared = probe or (operation == "enrol" and body.unless_known)
        named = operation in ("verify", "enrol", "erase", "issue", "present")
        may_name = operation == "subjects" and body.details
        may_consent = operation in ("enrol", "issue") and body.dated
        for name, right in (
            ("unless_known", operation == "enrol" or not body.unless_known),
            ("views", not body.views or (compared and 2 <= body.views <= MAX_VIEWS)),
            ("threshold", 1 <= body.threshold <= limit if compared else body.threshold == 0),
            ("pair", body.pair in PAIRS),
            ("nonce", len(body.nonce) == NONCE_BYTES),
            ("token", len(body.token) == (TOKEN_BYTES if mutation else 0)),
            ("payload_digest", len(body.payload_digest) == DIGEST_BYTES),
            ("subject_digest", len(body.subject_digest) in _sizes(DIGEST_BYTES, named, may_name)),
            ("details", operation == "subjects" or not body.details),
            ("new_key_id", len(body.new_key_id) == (KEY_ID_BYTES if operation == "rotate" else 0)),
            ("enrolment", len(body.enrolment) in ((0, TOKEN_BYTES) if operation == "erase" else (0,))),
            ("knowledge", operation in WITH_LANES or not body.knowledge),
            ("recipient", len(body.recipient) in ((0, ID_BYTES) if probe else (0,))),
            # The log keeps a card's digest for ever, and what would confirm a name never.
            ("dated", body.dated or operation not in ("issue", "revoke") if mutation else not body.dated),
            ("consent_digest", len(body.consent_digest) in _sizes(DIGEST_BYTES, False, may_consent)),
            ("card_digest", len(body.card_digest) == (DIGEST_BYTES if operation == "present" else 0)),
            ("card_serial", len(body.card_serial) == (SERIAL_BYTES if operation == "revoke" else 0)),
            (
                "card_expires_s",
                body.issued_at_ms // 1000 < body.card_expires_s <= LATEST_S
                if operation == "issue"
                else body.card_expires_s == 0,
            ),
            ("liveness", compared or not body.HasField("liveness")),
            ("challenge", len(body.challenge) <= (CHALLENGE_BYTES if body.recipient else 0)),
        ):
            if not right:
                raise InvalidInputError("a field of the request has no sense here", got=name, expected=operation)
        if (verdict := _verdict(body)) is not None and verdict.checked_at_ms > body.issued_at_ms:
            raise InvalidInputError("a verdict of liveness from after the request", expected="from before it")
        if operation in WITH_LANES and len(body.knowledge) != knowledge.proof_bytes(self._public_key):
            raise KnowledgeProofError()

    def _knowledge_context(self, body: pb.RequestBody, device_key: bytes) -> bytes:
        return knowledge.context_digest(
            parameter_set=body.parameter_set,
            key_id=body.key_id,
            device=body.device,
            device_key=device_key,
            gallery=body.gallery,
            operation=body.operation,
            threshold=body.threshold,
            pair=body.pair,
            nonce=body.nonce,
            token=body.token,
            issued_at_ms=body.issued_at_ms,
            expires_at_ms=body.expires_at_ms,
            payload_digest=body.payload_digest,
            subject_digest=body.subject_digest,
            model=body.model,
            recipient=body.recipient,
            challenge=body.challenge,
            dated=body.dated,
            consent_digest=body.consent_digest,
            card_digest=body.card_digest,
            card_expires_s=body.card_expires_s,
            views=body.views,
            unless_known=body.unless_known,
            liveness=_verdict(body),
        )


def _verdict(body: pb.RequestBody) -> Verdict | None:
    """Return what the device says of liveness, None if nothing. Raises InvalidInputError if it is no verdict."""
    said = body.liveness if body.HasField("liveness") else None
    return None if said is None else Verdict(said.detector, said.checked_at_ms)


def _sizes(size: int, must: bool, may: bool) -> tuple[int, ...]:
    """Return which sizes a field may have that has to be there, or may be."""
    return (size,) if must else (0, size) if may else (0,)


def operation_said(body: pb.RequestBody) -> str:
    """Return which operation a request names, whether it is right or not; "" for none that there is."""
    return _OPERATIONS.get(body.operation, "")


def device_said(request: pb.SignedRequest) -> str:
    """Return who a request says it is from, before anything of it is known to be right; "" if it does not say.

    All that is logged of this call is about that request from here on.
    """
    try:
        body = pb.RequestBody.FromString(request.body)
    except DecodeError:
        body = pb.RequestBody()
    about_request(request_digest(request.body), body.device[:60])
    calls.about(operation_said(body))
    return body.device


def check_ciphertexts(checked: CheckedRequest, ciphertexts: Sequence[bytes], parameters: ParameterSet) -> None:
    """Raise InvalidInputError unless these are as many as the operation takes, CiphertextError if a size is wrong."""
    expected = checked.views * parameters.lane_ciphertexts if checked.operation in WITH_LANES else 0
    if len(ciphertexts) != expected:
        raise InvalidInputError("number of lane ciphertexts", got=len(ciphertexts), expected=expected)
    for one in ciphertexts:
        if len(one) != parameters.ciphertext_bytes:
            raise CiphertextError(
                "a lane ciphertext of the wrong size", got=len(one), expected=f"{parameters.ciphertext_bytes} bytes"
            )


def check_payload(checked: CheckedRequest, ciphertexts: Sequence[bytes]) -> None:
    """Raise RequestSignatureError unless these are the ciphertexts that the device signed."""
    if payload_digest(ciphertexts) != checked.payload_digest:
        raise RequestSignatureError("the ciphertexts are not those that were signed")


def check_knowledge(checked: CheckedRequest, ciphertexts: Sequence[bytes], public_key: PublicKey) -> None:
    """Raise KnowledgeProofError unless the device proved, for this request, that it knows what these hold.

    Takes milliseconds: call it in a thread. Key holders do, before they convert anything.
    """
    knowledge.check(public_key, checked.knowledge_context, ciphertexts, checked.knowledge)


def require_current(checked: CheckedRequest, server: str, now: Callable[[], float] = time.time) -> None:
    """Raise RequestExpiredError, naming `server`, if the request has expired by its clock while it waited there."""
    if (late_ms := int(now() * 1000) - checked.expires_at_ms) > 0:
        raise RequestExpiredError(
            f"the request has expired while it waited at {server}", got=f"{late_ms / 1000:.1f} s ago", party=server
        )


def require_pair(checked: CheckedRequest, pairs: Collection[Pair], server: str) -> None:
    """Raise PartyRefusedError, naming `server`, unless the request's pair is among those that it serves."""
    if checked.pair not in pairs:
        raise PartyRefusedError(
            f"{server} does not serve this pair", got=checked.pair, expected=" or ".join(pairs), party=server
        )


def require_device(checked: CheckedRequest, caller: str) -> None:
    """Raise PartyRefusedError unless the caller's certificate is that of the device that signed."""
    if caller != checked.device:
        raise PartyRefusedError("another device's request", got=caller[:60], expected=checked.device)
