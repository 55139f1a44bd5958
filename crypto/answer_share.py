"""What an organisation says when a request names a recipient: its share of the answer, sealed, and what it is about.

The organisation signs it as a compact JWS (RFC 7515): the payload is `SealedShare.encode`, the header JWS_HEADER. The
share is sealed to the recipient with HPKE (RFC 9180) under `Context.info`, so that it opens only as what it is said to
be about. Bytes in and bytes out: `veilmatch.server` seals and signs, `veilmatch.relying` verifies and opens.

One encoding only: `decode` accepts exactly what `encode` makes, byte for byte. docs/recipients.md.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from veilmatch.crypto.digests import DIGEST_BYTES, digest, digest_all
from veilmatch.crypto.errors import InvalidInputError, StatementError
from veilmatch.crypto.keys.parties import PAIRS, PARTIES, Pair, Party
from veilmatch.crypto.keys.recipient_certificate import ID_BYTES, INSTALLATION_BYTES
from veilmatch.crypto.requests import MAX_VIEWS, VERIFICATIONS, WITH_PROBE, Operation, check_gallery

#: Keeps these signatures apart from all others of the organisation's key, which begin with other bytes.
JWS_TYPE = "veilmatch-answer-share-v1+jwt"
#: The one header there is, before base64url.
JWS_HEADER = f'{{"alg":"EdDSA","typ":"{JWS_TYPE}"}}'.encode()
#: Which operations name templates by number, so that the answer needs the list of their subjects.
SEARCHES: tuple[Operation, ...] = ("candidates", "identify")
CHALLENGE_BYTES = 64
KEY_ID_BYTES = 16
#: No statement is longer: an answer has one bit for each of a million templates.
MAX_BYTES = 1 << 20
#: How long a recipient may rely on a statement, from when it is made.
LIFETIME_S = 600
#: Of a number in it.
_MAX_NUMBER = 1 << 53

_INFO_PREFIX = b"veilmatch answer share v1\0"
_DEVICE = re.compile(r"[a-z0-9]([a-z0-9-]{0,46}[a-z0-9])?")
_HEX = re.compile(r"(?:[0-9a-f]{2})*")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Context:
    """What a share is about.

    installation, key_id: 16 bytes. party: the organisation, one of pair. request: digest of the device's request;
    session: of the pair, one a request. device: its name. subject: salted digest of the claimed subject, b"" where
    none is named. labels: `labels_digest` of a search, else b"". threshold: t in 1..S^2. gallery, with its sequence
    number and chain. recipient: id of its certificate. challenge: up to 64 bytes, from the recipient. count: of answer
    bits. issued_at_s, expires_at_s: Unix times by the clock of the organisation, the second one excluded. views: of the
    probe, any of which may have matched; stated if there are several, so that what is about one reads as ever.
    Raises StatementError if a field is none of that.
    """

    installation: bytes
    key_id: bytes
    party: Party
    pair: Pair
    request: bytes
    session: bytes
    device: str
    operation: Operation
    subject: bytes
    labels: bytes
    threshold: int
    gallery: str
    sequence: int
    chain: bytes
    recipient: bytes
    challenge: bytes
    count: int
    issued_at_s: int
    expires_at_s: int
    views: int = 1

    def __post_init__(self) -> None:
        for what, right in (
            ("installation", len(self.installation) == INSTALLATION_BYTES),
            ("key_id", len(self.key_id) == KEY_ID_BYTES),
            ("pair", self.pair in PAIRS),
            ("party", self.party in PARTIES and self.party in self.pair),
            ("request", len(self.request) == DIGEST_BYTES),
            ("session", len(self.session) == DIGEST_BYTES),
            ("device", _DEVICE.fullmatch(self.device)),
            ("operation", self.operation in WITH_PROBE),
            ("subject", len(self.subject) == (DIGEST_BYTES if self.operation in VERIFICATIONS else 0)),
            ("labels", len(self.labels) == (DIGEST_BYTES if self.operation in SEARCHES else 0)),
            ("threshold", 1 <= self.threshold < _MAX_NUMBER),
            ("gallery", _is_gallery(self.gallery)),
            ("sequence", 0 <= self.sequence < _MAX_NUMBER),
            ("chain", len(self.chain) == DIGEST_BYTES),
            ("recipient", len(self.recipient) == ID_BYTES),
            ("challenge", len(self.challenge) <= CHALLENGE_BYTES),
            ("count", 1 <= self.count < 8 * MAX_BYTES and (self.operation in SEARCHES or self.count == 1)),
            ("views", 1 <= self.views <= MAX_VIEWS),
            ("times", 0 <= self.issued_at_s < self.expires_at_s < _MAX_NUMBER),
        ):
            if not right:
                raise StatementError("a field of the statement has no sense", got=what)

    def claims(self) -> dict[str, Any]:
        """Return it as the claims of a JWT, in their order; bytes are hex."""
        return {
            "installation": self.installation.hex(),
            "key_id": self.key_id.hex(),
            "organisation": self.party,
            "pair": self.pair,
            "request": self.request.hex(),
            "session": self.session.hex(),
            "device": self.device,
            "operation": self.operation,
            "subject_digest": self.subject.hex(),
            "labels_digest": self.labels.hex(),
            "threshold": self.threshold,
            "gallery": self.gallery,
            "sequence": self.sequence,
            "chain": self.chain.hex(),
            "recipient": self.recipient.hex(),
            "challenge": self.challenge.hex(),
            "count": self.count,
            "iat": self.issued_at_s,
            "exp": self.expires_at_s,
        } | ({"views": self.views} if self.views > 1 else {})

    def info(self) -> bytes:
        """Return the `info` of HPKE: all of it, so that a sealed share opens under no other statement."""
        return _INFO_PREFIX + digest("answer share", _json(self.claims()))

    @property
    def share_bytes(self) -> int:
        """Size of what is sealed: see `share_data`."""
        return (self.count + 7) // 8 + 1


@dataclass(frozen=True, slots=True)
class SealedShare:
    """The payload of a statement. sealed: for the recipient, as HPKE gives it: encapsulated key, then ciphertext."""

    about: Context
    sealed: bytes

    def encode(self) -> bytes:
        """Return the payload of the JWS."""
        text = base64.urlsafe_b64encode(self.sealed).rstrip(b"=").decode()
        return _json(self.about.claims() | {"share": text})

    @staticmethod
    def decode(data: bytes) -> SealedShare:
        """Return what a payload says. Raises StatementError if it is not exactly one encoding of a statement."""
        try:
            if len(data) > MAX_BYTES:
                raise ValueError
            claims = json.loads(data)
            if not isinstance(claims, dict):
                raise ValueError
            about = Context(
                installation=_octets(claims["installation"]),
                key_id=_octets(claims["key_id"]),
                party=_typed(claims["organisation"], str),  # type: ignore[arg-type]
                pair=_typed(claims["pair"], str),  # type: ignore[arg-type]
                request=_octets(claims["request"]),
                session=_octets(claims["session"]),
                device=_typed(claims["device"], str),
                operation=_typed(claims["operation"], str),  # type: ignore[arg-type]
                subject=_octets(claims["subject_digest"]),
                labels=_octets(claims["labels_digest"]),
                threshold=_typed(claims["threshold"], int),
                gallery=_typed(claims["gallery"], str),
                sequence=_typed(claims["sequence"], int),
                chain=_octets(claims["chain"]),
                recipient=_octets(claims["recipient"]),
                challenge=_octets(claims["challenge"]),
                count=_typed(claims["count"], int),
                issued_at_s=_typed(claims["iat"], int),
                expires_at_s=_typed(claims["exp"], int),
                views=_typed(claims.get("views", 1), int),
            )
            text = _typed(claims["share"], str)
            sealed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except (ValueError, KeyError, RecursionError, binascii.Error):
            raise StatementError("not a statement about an answer") from None
        found = SealedShare(about, sealed)
        if found.encode() != data:
            raise StatementError("not the one encoding of this statement")
        return found


def share_data(bits: bytes, valid: bool) -> bytes:
    """Return what is sealed: this organisation's XOR shares of the answer bits, packed, and of "valid probe"."""
    return bits + bytes([valid])


def shared_answer(first: bytes, second: bytes) -> tuple[bytes, bool]:
    """Return the answer bits, packed, and whether the probe was valid, from the data of both shares, of equal size.

    Raises StatementError if a share is not what `share_data` makes.
    """
    if len(first) != len(second) or not first or {first[-1], second[-1]} - {0, 1}:
        raise StatementError("what is sealed is not a share of an answer")
    return bytes(a ^ b for a, b in zip(first[:-1], second[:-1], strict=True)), first[-1] != second[-1]


def labels_digest(labels: Iterable[str]) -> bytes:
    """Return the digest of the subjects of all compared templates, in the order of their numbers, 32 bytes."""
    return digest_all("answer labels", (label.encode() for label in labels))


def _is_gallery(name: str) -> bool:
    try:
        check_gallery(name)
    except InvalidInputError:
        return False
    return True


def _json(claims: dict[str, Any]) -> bytes:
    return json.dumps(claims, separators=(",", ":")).encode()


def _typed(value: object, kind: type[_T]) -> _T:
    # Not isinstance: true is no integer.
    if type(value) is not kind:
        raise ValueError
    return value


def _octets(value: object) -> bytes:
    text = _typed(value, str)
    if not _HEX.fullmatch(text):
        raise ValueError
    return bytes.fromhex(text)
