"""Certificates that organisations sign: the file that devices' and recipients' certificates have in common.

A certificate is a statement and signatures of organisations under it; without any it is a request for one. One encoding
of the file only: `decode` accepts exactly what `encode` makes, byte for byte. Bytes in and bytes out: servers and
commands read the files themselves, and what the signatures are worth is for whoever goes by them.

Nothing here needs the arithmetic of the scheme, so that a relying party installs none of it.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Set
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Generic, Self, TypeVar

from veilmatch.crypto.errors import InvalidInputError
from veilmatch.crypto.keys.parties import PARTIES, Party

#: How many organisations have to sign a certificate before a server goes by it.
SIGNATURES_NEEDED = 2
SIGNATURE_BYTES = 64
SERIAL_BYTES = 16
#: Times are exact as numbers of JSON.
MAX_TIME_S = 1 << 53

_DIGITS = re.compile(r"[0-9a-f]*")
_S = TypeVar("_S")
_T = TypeVar("_T")


@dataclass(frozen=True)
class SignedByTwo(ABC, Generic[_S]):
    """A statement, and signatures under it by organisation, in their order; right or wrong.

    error: of whatever is wrong with such a certificate. kind: "device certificate", say, for people. formats: names of
    the fields beside format and signatures, by format, the usual one first. older: formats that are refused, and why.
    max_bytes: no file is longer.
    """

    error: ClassVar[type[InvalidInputError]]
    kind: ClassVar[str]
    formats: ClassVar[Mapping[str, Set[str]]]
    older: ClassVar[Mapping[str, str]] = {}
    max_bytes: ClassVar[int]

    statement: _S
    signatures: tuple[tuple[Party, bytes], ...] = ()

    @property
    def organisations(self) -> tuple[Party, ...]:
        """Whose signatures it has, right or wrong."""
        return tuple(party for party, _ in self.signatures)

    def with_signature(self, party: Party, signature: bytes) -> Self:
        """Return the certificate with one signature more, or another one of the same organisation."""
        signatures = dict(self.signatures) | {party: signature}
        return replace(self, signatures=tuple((p, signatures[p]) for p in PARTIES if p in signatures))

    def require_two(self) -> None:
        """Raise the error of such certificates if fewer organisations than two have signed, rightly or not."""
        if len(self.signatures) < SIGNATURES_NEEDED:
            raise self.error(
                f"too few organisations have signed the {self.kind}",
                got=", ".join(self.organisations) or "none",
                expected=f"{SIGNATURES_NEEDED} different ones",
            )

    def encode(self) -> bytes:
        """Return the file's content."""
        format_, fields = self._written()
        signatures = {party: signature.hex() for party, signature in self.signatures}
        return (json.dumps({"format": format_} | fields | {"signatures": signatures}, indent=1) + "\n").encode()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return what `data` holds; signatures are not verified here.

        Raises the error of such certificates if it is not exactly one encoding of one, or of a format of before.
        """
        usual = next(iter(cls.formats))
        if len(data) > cls.max_bytes:
            raise cls.error(f"not a {cls.kind}", got=f"{len(data)} bytes", expected=usual)
        try:
            fields = typed(json.loads(data), dict)
            format_ = typed(fields.get("format"), str)
            if format_ in cls.older:
                raise cls.error(cls.older[format_], got=format_, expected=usual)
            if format_ not in cls.formats or set(fields) != {"format", "signatures", *cls.formats[format_]}:
                raise ValueError
            signatures = typed(fields["signatures"], dict)
            signed = tuple((party, octets(signatures[party])) for party in PARTIES if party in signatures)
            if len(signed) != len(signatures) or any(len(signature) != SIGNATURE_BYTES for _, signature in signed):
                raise ValueError
            found = cls(cls._read(fields), signed)
        except (ValueError, TypeError, RecursionError):
            raise cls.error(f"not a {cls.kind}", expected=usual) from None
        if found.encode() != data:
            raise cls.error("not the one encoding of this certificate", expected=usual)
        return found

    @abstractmethod
    def _written(self) -> tuple[str, dict[str, Any]]:
        """Return the format of the file, and what it says of the statement: JSON values, in their order."""

    @classmethod
    @abstractmethod
    def _read(cls, fields: Mapping[str, Any]) -> _S:
        """Return the statement. Raises ValueError for a value of another type, `error` for one without sense."""


def rough_span(seconds: float) -> str:
    """Return a length of time in the largest unit of which it has two: "365 days", "90 s"."""
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def typed(value: object, kind: type[_T]) -> _T:
    """Return a value of JSON that is of this very type. Raises ValueError."""
    # Not isinstance: true is no integer.
    if type(value) is not kind:
        raise ValueError
    return value


def octets(value: object) -> bytes:
    """Return the bytes that lower-case hex digits of JSON stand for. Raises ValueError."""
    text = typed(value, str)
    if not _DIGITS.fullmatch(text) or len(text) % 2:
        raise ValueError
    return bytes.fromhex(text)
