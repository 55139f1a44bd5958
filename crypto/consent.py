"""A reference to a consent: what a template is kept under, named in the words of whoever asked for it.

An opaque id, a version and an end. Servers keep it with the template until that is erased, and compare the end with
their clocks; they know nothing else of it. No log has it, as none has a subject, and key holders see a salted digest.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from veilmatch.crypto.digests import digest
from veilmatch.crypto.errors import InvalidInputError
from veilmatch.crypto.requests import check_text

REFERENCE_CHARACTERS = 128
VERSION_CHARACTERS = 32
#: Of an encoded consent: characters of four bytes, and what is around them.
CONSENT_BYTES = 1024
#: Times are exact as numbers of JSON.
LATEST_S = 1 << 53


@dataclass(frozen=True, slots=True)
class Consent:
    """reference: 1..128 characters, like a subject; put no name in it. version: 0..32 characters, of the text that was
    agreed to. expires_s: Unix time in whole seconds from which on it does not count any more, 0 for no end.

    Raises InvalidInputError for anything else.
    """

    reference: str
    version: str = ""
    expires_s: int = 0

    def __post_init__(self) -> None:
        for what, value in (("reference", self.reference), ("version", self.version)):
            if not isinstance(value, str):
                raise InvalidInputError(f"{what} of a consent", got=type(value).__name__, expected="text")
        check_text("reference of a consent", self.reference, REFERENCE_CHARACTERS)
        if self.version:
            check_text("version of a consent", self.version, VERSION_CHARACTERS)
        if type(self.expires_s) is not int or not 0 <= self.expires_s <= LATEST_S:
            raise InvalidInputError("the end of a consent", expected="whole seconds since 1970, 0 for none")

    def has_ended(self, now_s: float) -> bool:
        """Return whether it does not count any more at a time."""
        return bool(self.expires_s) and now_s >= self.expires_s

    def encode(self) -> bytes:
        """Return the one encoding, at most CONSENT_BYTES."""
        return json.dumps(
            [self.reference, self.version, self.expires_s], ensure_ascii=False, separators=(",", ":")
        ).encode()

    @staticmethod
    def decode(data: bytes) -> Consent:
        """Return what `encode` made these bytes of. Raises InvalidInputError for any others."""
        try:
            if len(data) > CONSENT_BYTES:
                raise ValueError
            reference, version, expires_s = json.loads(data)
            consent = Consent(reference, version, expires_s)
            same = consent.encode() == data
        except (ValueError, TypeError, RecursionError):
            same = False
        if not same:
            raise InvalidInputError("not a reference to a consent", got=f"{len(data)} bytes")
        return consent


def consent_digest(salt: bytes, consent: bytes) -> bytes:
    """Return the salted digest of an encoded consent, 32 bytes: what the signed body has of it."""
    return digest("consent", salt, consent)
