"""Signed requests: what a device says to the matchers of a pair, and the key it says it with.

    key = DeviceKey.from_file(Path("device.key"))
    signer = RequestSigner(key, "kiosk-1", "staff", public_key, lifetime_s=30)
    signed = signer.sign(Draft(pb.OPERATION_VERIFY, probe, threshold=1800, subject="alice"), "ab")

A `Draft` is what stays the same when a request is repeated; `sign` adds what must not: nonce, times, and the proof
that the device knows what its lane ciphertexts hold, which is bound to them.
The key holders see the signed body, so a subject is in it only as a salted digest.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from veilmatch.common.secret_file import read_secret
from veilmatch.crypto.answer_share import CHALLENGE_BYTES
from veilmatch.crypto.card import presented_digest
from veilmatch.crypto.consent import consent_digest
from veilmatch.crypto.digests import NONCE_BYTES
from veilmatch.crypto.encryption.knowledge import KnownCiphertexts, context_digest
from veilmatch.crypto.encryption.paillier import PublicKey
from veilmatch.crypto.errors import ConfigurationError, InvalidInputError, KeyFileError
from veilmatch.crypto.keys.parties import Pair
from veilmatch.crypto.keys.recipient_certificate import RecipientCertificate
from veilmatch.crypto.liveness import Verdict
from veilmatch.crypto.requests import (
    SALT_BYTES,
    TOKEN_BYTES,
    check_model,
    check_subject,
    payload_digest,
    signed_bytes,
    subject_digest,
)
from veilmatch.crypto.secret_access import SecretHolder
from veilmatch.protos.v1 import request_pb2 as pb


class DeviceKey(SecretHolder):
    """The Ed25519 key with which a device signs. A handle: it signs, and shows nothing of itself."""

    __slots__ = ("_key",)

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    @classmethod
    def from_file(cls, path: Path) -> DeviceKey:
        """Return the key in an unencrypted PKCS8 PEM file.

        Raises ConfigurationError if the file cannot be read, KeyFileError if others than its owner have a right to it,
        or it holds anything else.
        """
        try:
            data = read_secret(path, "the signing key of the device")
        except OSError as error:
            raise ConfigurationError(
                "the signing key of the device cannot be read",
                got=f"{path}: {error.strerror}",
                expected="a PEM file",
            ) from None
        try:
            return cls.from_pem(data)
        except KeyFileError as error:
            raise KeyFileError(
                error.message,
                got=error.got or path,
                expected=error.expected,
                hint=f"Let `signing_key` in device.toml name the device's key; it names {path}.",
            ) from None

    @classmethod
    def from_pem(cls, data: bytes) -> DeviceKey:
        """Return the key in this PEM text. Raises KeyFileError if it is not one unencrypted Ed25519 key."""
        try:
            key = load_pem_private_key(data, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            # The text of the library's error may quote the file.
            raise KeyFileError(
                "the signing key of the device is not a key", expected="an unencrypted PKCS8 PEM file"
            ) from None
        if not isinstance(key, Ed25519PrivateKey):
            raise KeyFileError(
                "the signing key of the device is of another kind",
                got=type(key).__name__.removeprefix("_"),
                expected="Ed25519",
            )
        return cls(key)

    def public_bytes(self) -> bytes:
        """Return the 32 bytes of the public key, as servers list it in hex."""
        return self._key.public_key().public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature of `message`."""
        return self._key.sign(message)


def new_token() -> bytes:
    """Return a fresh token: the name under which a mutation is done once, however often it is sent."""
    return secrets.token_bytes(TOKEN_BYTES)


@dataclass(frozen=True, slots=True)
class Draft:
    """What a request asks; signing it twice gives two requests for the same thing.

    operation: pb.OPERATION_*. lanes: None where no vector is sent. threshold: t in 1..S^2, or 0
    where nothing is compared. subject: "" where none is named. token: 16 bytes of a mutation, else empty.
    bulk_digest: replaces the digest of `ciphertexts` where the payload follows in a stream. model: names
    the embedding model of what is sent; "" without vectors. new_key_id: 16 bytes of a
    rotation, else empty. enrolment: 16 bytes, token of the one enrolment that an erasure takes back, else empty.
    recipient: whom the answer to a query is sealed to, None for this device; challenge: up to 64 bytes from it.
    dated: whether the change is to say when it was made, see request.proto.
    views: of a probe, how many vectors `lanes` has, all of one face. unless_known: of an enrolment, whether it stores
    an empty template where the probe reaches the threshold with any template.
    details: of subjects, all that is known of each template. consent: encoded, of an enrolment; else empty.
    card: encoded, that is presented with the salt of its subject; card_expires_s: end of one that is issued, Unix time;
    card_serial: 16 bytes, of one that is revoked.
    liveness: what the device's detector said of the face of a query, None if it was not asked.
    Raises InvalidInputError for a subject, a token, a model or a challenge that cannot be one.
    """

    operation: pb.Operation.ValueType
    lanes: KnownCiphertexts | None = field(default=None, repr=False)
    threshold: int = 0
    subject: str = ""
    token: bytes = b""
    bulk_digest: bytes = field(default=b"", repr=False)
    model: str = ""
    new_key_id: bytes = b""
    enrolment: bytes = b""
    recipient: RecipientCertificate | None = None
    challenge: bytes = b""
    dated: bool = False
    details: bool = False
    views: int = 1
    unless_known: bool = False
    consent: bytes = field(default=b"", repr=False)
    card: bytes = field(default=b"", repr=False)
    card_expires_s: int = 0
    card_serial: bytes = b""
    liveness: Verdict | None = None
    salt: bytes = field(default_factory=lambda: secrets.token_bytes(SALT_BYTES), repr=False)

    def __post_init__(self) -> None:
        if self.subject:
            check_subject(self.subject)
        if self.model or self.lanes is not None or self.bulk_digest:
            check_model(self.model)
        if len(self.token) not in (0, TOKEN_BYTES):
            raise InvalidInputError(
                "a token of the wrong length",
                got=f"{len(self.token)} bytes",
                expected=f"{TOKEN_BYTES} bytes",
            )
        if len(self.challenge) > (CHALLENGE_BYTES if self.recipient else 0):
            raise InvalidInputError(
                "a challenge of the wrong length",
                got=f"{len(self.challenge)} bytes",
                expected=f"<= {CHALLENGE_BYTES} bytes, with a recipient",
            )

    @property
    def ciphertexts(self) -> tuple[bytes, ...]:
        """The lane ciphertexts, () where there are none."""
        return () if self.lanes is None else self.lanes.ciphertexts

    @property
    def payload_digest(self) -> bytes:
        """32 bytes that stand for the payload in the signed body."""
        return self.bulk_digest or payload_digest(self.ciphertexts)


class RequestSigner:
    """Signs the requests of one device to one gallery.

    lifetime_s: how long a request may be served after it was signed; servers refuse long ones and very short
    ones.
    now: the clock, Unix time in seconds.
    """

    def __init__(
        self,
        key: DeviceKey,
        device: str,
        gallery: str,
        public_key: PublicKey,
        lifetime_s: float,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._key = key
        self._device = device
        self._gallery = gallery
        self._public_key = public_key
        self._lifetime_ms = int(lifetime_s * 1000)
        self._now = now

    def sign(self, draft: Draft, pair: Pair) -> pb.SignedRequest:
        """Return `draft` for this pair, signed, with a fresh nonce and proof, issued now."""
        now_ms = int(self._now() * 1000)
        body = pb.RequestBody(
            parameter_set=self._public_key.parameters.name,
            key_id=self._public_key.key_id,
            device=self._device,
            gallery=self._gallery,
            operation=draft.operation,
            threshold=draft.threshold,
            pair=pair,
            nonce=secrets.token_bytes(NONCE_BYTES),
            token=draft.token,
            issued_at_ms=now_ms,
            expires_at_ms=now_ms + self._lifetime_ms,
            payload_digest=draft.payload_digest,
            subject_digest=subject_digest(draft.salt, draft.subject) if draft.subject else b"",
            model=draft.model,
            new_key_id=draft.new_key_id,
            enrolment=draft.enrolment,
            recipient=draft.recipient.statement.id if draft.recipient else b"",
            challenge=draft.challenge,
            dated=draft.dated,
            details=draft.details,
            views=draft.views if draft.views > 1 else 0,
            unless_known=draft.unless_known,
            consent_digest=consent_digest(draft.salt, draft.consent) if draft.consent else b"",
            card_digest=presented_digest(draft.card) if draft.card else b"",
            card_expires_s=draft.card_expires_s,
            card_serial=draft.card_serial,
        )
        if draft.liveness is not None:
            body.liveness.detector = draft.liveness.detector
            # A clock that was set back in between makes no verdict from the future.
            body.liveness.checked_at_ms = min(draft.liveness.checked_at_ms, now_ms)
        if draft.lanes is not None:
            body.knowledge = draft.lanes.prove(self._context(body))
        data = body.SerializeToString(deterministic=True)
        return pb.SignedRequest(
            body=data,
            signature=self._key.sign(signed_bytes(data)),
            ciphertexts=draft.ciphertexts,
            subject=draft.subject,
            subject_salt=draft.salt if draft.subject else b"",
            recipient_certificate=draft.recipient.encode() if draft.recipient else b"",
            consent=draft.consent,
            card=draft.card,
        )

    def _context(self, body: pb.RequestBody) -> bytes:
        return context_digest(
            parameter_set=body.parameter_set,
            key_id=body.key_id,
            device=body.device,
            device_key=self._key.public_bytes(),
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
            liveness=(
                Verdict(body.liveness.detector, body.liveness.checked_at_ms) if body.HasField("liveness") else None
            ),
        )
