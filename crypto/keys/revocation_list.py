"""Revocation lists: which certificates of devices and recipients organisations have taken back. docs/certificates.md.

The file is that of `signed_by_two`, signed by one organisation or by more: each signature is the word of one, and a
certificate is revoked where the lists that are known have the words of two (`veilmatch.server.revoking`). A list names
certificates by their ids alone, digests of all that they state, so that nothing says whose they were.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from veilmatch.crypto.digests import digest, digest_all
from veilmatch.crypto.encryption.public_key_format import INSTALLATION_BYTES
from veilmatch.crypto.errors import RevocationListError
from veilmatch.crypto.keys.signed_by_two import SignedByTwo, octets, typed

FORMAT = "veilmatch revocation list 1"
#: Of the certificate of a device or a recipient.
ID_BYTES = 32
#: No list is longer.
MAX_CERTIFICATES = 1 << 14
MAX_NUMBER = 1 << 53
#: No file is longer: a certificate takes 69 bytes.
MAX_BYTES = 80 * MAX_CERTIFICATES + (1 << 11)

_SIGNATURE_PREFIX = b"veilmatch revocation list v1\0"
_FIELDS = frozenset(("installation", "number", "certificates"))


@dataclass(frozen=True)
class Statement:
    """What organisations sign of certificates that they have taken back.

    installation: which one it is of. number: from 1; an organisation signs each one once, and then higher ones.
    certificates: their ids, sorted, each once, at least one. Raises RevocationListError if a field is none of that.
    """

    installation: bytes
    number: int
    certificates: tuple[bytes, ...]

    def __post_init__(self) -> None:
        for what, right, expected in (
            ("installation", len(self.installation) == INSTALLATION_BYTES, f"{INSTALLATION_BYTES} bytes"),
            ("number", 1 <= self.number <= MAX_NUMBER, f"1..{MAX_NUMBER}"),
            (
                "certificates",
                1 <= len(self.certificates) <= MAX_CERTIFICATES
                and all(len(one) == ID_BYTES for one in self.certificates)
                and list(self.certificates) == sorted(set(self.certificates)),
                f"1..{MAX_CERTIFICATES} ids of {ID_BYTES} bytes, sorted, each once",
            ),
        ):
            if not right:
                raise RevocationListError("a field of the revocation list has no sense", got=what, expected=expected)

    def signed_bytes(self) -> bytes:
        """Return what organisations sign: a prefix and a digest of all fields."""
        listed = digest_all("revoked certificates", self.certificates)
        return _SIGNATURE_PREFIX + digest("revocation list", self.installation, self.number, listed)


@dataclass(frozen=True)
class RevocationList(SignedByTwo[Statement]):
    """A statement, and signatures under it by organisation."""

    error = RevocationListError
    kind = "revocation list"
    formats = MappingProxyType({FORMAT: _FIELDS})
    max_bytes = MAX_BYTES

    @property
    def id(self) -> bytes:
        """32 bytes that name this list with these signatures."""
        signatures = (part for party, signature in self.signatures for part in (party.encode(), signature))
        return digest_all("signed revocation list", (self.statement.signed_bytes(), *signatures))

    def _written(self) -> tuple[str, dict[str, Any]]:
        said = self.statement
        return FORMAT, {
            "installation": said.installation.hex(),
            "number": said.number,
            "certificates": [one.hex() for one in said.certificates],
        }

    @classmethod
    def _read(cls, fields: Mapping[str, Any]) -> Statement:
        return Statement(
            installation=octets(fields["installation"]),
            number=typed(fields["number"], int),
            certificates=tuple(octets(one) for one in typed(fields["certificates"], list)),
        )
