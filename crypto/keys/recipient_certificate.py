"""Certificates of recipients: to which X25519 key the shares of an answer are sealed when a request names a relying
party, signed by two organisations. docs/recipients.md.

The file is that of `signed_by_two`. What is signed is a digest of the statement's fields, and that digest is the
recipient's id: a request names the recipient by it, whichever organisations have signed.

Nothing here needs the arithmetic of the scheme, so that a relying party installs none of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from veilmatch.crypto.digests import digest
from veilmatch.crypto.errors import InvalidInputError, RecipientCertificateError
from veilmatch.crypto.keys.signed_by_two import MAX_TIME_S, SERIAL_BYTES, SignedByTwo, octets, rough_span, typed
from veilmatch.crypto.requests import check_gallery

FORMAT = "veilmatch recipient certificate 1"
#: What an organisation's signing key signs here; see `signed_bytes`.
CONTEXT = "recipient certificate v1"
PUBLIC_KEY_BYTES = 32
INSTALLATION_BYTES = 16
#: The bytes of a recipient's id.
ID_BYTES = 32
#: No file is longer: a name of 64 characters has at most 768 bytes in JSON.
MAX_BYTES = 1 << 11

_FIELDS = frozenset(("installation", "recipient", "public_key", "not_before", "not_after", "serial"))
#: Points of small order (RFC 7748): whatever is sealed to one is open to all. Low order points, u-coordinates.
_WEAK_KEYS = frozenset(
    bytes.fromhex(text)
    for text in (
        "00" * 32,
        "01" + "00" * 31,
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ec" + "ff" * 30 + "7f",
        "ed" + "ff" * 30 + "7f",
        "ee" + "ff" * 30 + "7f",
    )
)


@dataclass(frozen=True)
class Statement:
    """What organisations sign about a recipient.

    installation: which one it is valid in. recipient: its name, for people and logs. public_key: X25519, 32 bytes.
    not_before_s, not_after_s: Unix times, the second one excluded. serial: random; two certificates differ.
    Raises RecipientCertificateError if a field is none of that.
    """

    installation: bytes
    recipient: str
    public_key: bytes
    not_before_s: int
    not_after_s: int
    serial: bytes

    def __post_init__(self) -> None:
        try:
            check_gallery(self.recipient)
        except InvalidInputError:
            raise RecipientCertificateError(
                "not a recipient's name", got=ascii(self.recipient[:60]), expected="1..64 printable characters"
            ) from None
        for what, right, expected in (
            ("installation", len(self.installation) == INSTALLATION_BYTES, f"{INSTALLATION_BYTES} bytes"),
            ("public_key", _is_usable(self.public_key), f"an X25519 key of {PUBLIC_KEY_BYTES} bytes"),
            ("serial", len(self.serial) == SERIAL_BYTES, f"{SERIAL_BYTES} bytes"),
            ("validity", 0 <= self.not_before_s < self.not_after_s <= MAX_TIME_S, "a beginning and a later end"),
        ):
            if not right:
                raise RecipientCertificateError("a field of the certificate has no sense", got=what, expected=expected)

    @property
    def id(self) -> bytes:
        """32 bytes that name the recipient in a request: a digest of all fields, each behind its length."""
        return digest(
            "recipient certificate", self.installation, self.recipient, self.public_key, self.not_before_s,
            self.not_after_s, self.serial,
        )  # fmt: skip

    def signed_bytes(self) -> bytes:
        """Return what an organisation's signing key signs: its prefix for this context, and the id."""
        return b"veilmatch " + CONTEXT.encode() + b"\0" + self.id

    def require_valid(self, now_s: float) -> None:
        """Raise RecipientCertificateError unless the certificate is valid at this Unix time."""
        if now_s < self.not_before_s:
            ahead = f"in {self.not_before_s - now_s:.0f} s"
            raise RecipientCertificateError("the recipient's certificate is not valid yet: check the clocks", got=ahead)
        if now_s >= self.not_after_s:
            past = f"{rough_span(now_s - self.not_after_s)} ago"
            raise RecipientCertificateError("the recipient's certificate has expired", got=past)


@dataclass(frozen=True)
class RecipientCertificate(SignedByTwo[Statement]):
    """A statement, and signatures under it by organisation; without any it is a request for a certificate."""

    error = RecipientCertificateError
    kind = "recipient's certificate"
    formats = MappingProxyType({FORMAT: _FIELDS})
    max_bytes = MAX_BYTES

    def _written(self) -> tuple[str, dict[str, Any]]:
        said = self.statement
        return FORMAT, {
            "installation": said.installation.hex(),
            "recipient": said.recipient,
            "public_key": said.public_key.hex(),
            "not_before": said.not_before_s,
            "not_after": said.not_after_s,
            "serial": said.serial.hex(),
        }

    @classmethod
    def _read(cls, fields: Mapping[str, Any]) -> Statement:
        return Statement(
            installation=octets(fields["installation"]),
            recipient=typed(fields["recipient"], str),
            public_key=octets(fields["public_key"]),
            not_before_s=typed(fields["not_before"], int),
            not_after_s=typed(fields["not_after"], int),
            serial=octets(fields["serial"]),
        )


def _is_usable(public_key: bytes) -> bool:
    """Return whether a shared secret with this key is secret: X25519 of a point of small order is zero.

    Bit 255 is ignored by X25519, so a key has to leave it at 0, and no key has two encodings.
    """
    return (
        len(public_key) == PUBLIC_KEY_BYTES
        and int.from_bytes(public_key, "little") < 2**255 - 19
        and public_key not in _WEAK_KEYS
    )
