"""The fingerprint of a fresh machine's TLS key, which its people read out to the other two organisations.

Its certificate is of its own organisation's authority. That alone would do for whoever has that authority's key, or,
where all have one authority, for whoever has that. So people compare, at both other organisations.
"""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from veilmatch.crypto.digests import digest
from veilmatch.crypto.errors import InvalidInputError

#: 128 bits, as of an introduction: 2^128 attempts for another key with the same.
_BYTES, _GROUP = 16, 4


def fingerprint_of(certificate: x509.Certificate) -> str:
    """Return what people read out: 32 hex digits in groups of four."""
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return _grouped(digest("recovery machine", key)[:_BYTES].hex())


def read_out(text: str) -> str:
    """Return a fingerprint that somebody typed, as `fingerprint_of` writes it. Raises InvalidInputError."""
    digits = "".join(text.split()).lower()
    if len(digits) != 2 * _BYTES or any(c not in "0123456789abcdef" for c in digits):
        raise InvalidInputError(
            "not the fingerprint of a machine", got=f"{len(digits)} characters", expected=f"{2 * _BYTES} hex digits"
        )
    return _grouped(digits)


def _grouped(digits: str) -> str:
    return " ".join(digits[i : i + _GROUP] for i in range(0, len(digits), _GROUP))
