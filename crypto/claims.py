"""What another party says of an error: a claim, small, clean, and about nobody whom it can know nothing of.

Errors cross between parties as JSON of their fields. A server that lies must not speak through the log of an honest
one. So an error that was read says who said it (`VeilmatchError.said_by`), and names as `party` the sayer itself, or
somebody with whom the sayer has to do in the same exchange (`Others`); never whoever reads.
docs/decisions/0008-errors-in-trailing-metadata.md.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from veilmatch.crypto.errors import DealtStockError, UnavailableError, VeilmatchError
from veilmatch.crypto.keys.parties import PARTIES, Party, pairs_without

#: Of the metadata that a call ends with: the fields of its error.
ERROR_KEY = "veilmatch-error-bin"
#: Of the fields of an error as JSON: it has to fit into gRPC's metadata, which may have 8 kB in all.
CLAIM_BYTES = 4096
#: Of one text.
TEXT_CHARACTERS = 400
#: Names of enrolments in one error, and parties that one was passed on by.
_LISTED = 16
_SAYERS = 4
#: Of a whole number, which may become a text.
_MAX_NUMBER = 2**53

#: Every server of an installation, by the name in its certificate.
KEY_HOLDERS = tuple(f"keyholder-{party}" for party in PARTIES)
MATCHERS = tuple(f"matcher-{party}" for party in PARTIES)
_PARTY_OF: dict[str, Party] = {name: party for party in PARTIES for name in (f"keyholder-{party}", f"matcher-{party}")}


@dataclass(frozen=True, slots=True)
class Others:
    """Whom a server may name in an exchange, beside itself.

    partners: for any error. suppliers: those of whom it knows only that they are missing, or dealt what is wrong.
    """

    partners: tuple[str, ...] = ()
    suppliers: tuple[str, ...] = ()


NOBODY = Others()


def clean(text: str) -> str:
    """Return a text of another party as it may be logged and shown: cut, and without control characters."""
    return "".join(c if c.isprintable() else "?" for c in text[:TEXT_CHARACTERS])


def written(error: VeilmatchError, features: Collection[str] = ()) -> bytes:
    """Return the fields of an error for another party, at most CLAIM_BYTES; longer texts are cut.

    features: of that party, as far as they are known: an error that it would not know is said as the one above it.
    """
    code = code_for(type(error), features)
    fields = error.fields() | {"hint": None, "code": code}
    for characters in (TEXT_CHARACTERS, TEXT_CHARACTERS // 2, TEXT_CHARACTERS // 4, TEXT_CHARACTERS // 8):
        data = json.dumps(_short(fields, characters), ensure_ascii=False).encode()
        if len(data) <= CLAIM_BYTES:
            return data
    return json.dumps({"code": code}).encode()


def code_for(kind: type[VeilmatchError], features: Collection[str]) -> str:
    """Return the code by which a party with these features knows an error of this kind."""
    while kind.needs is not None and kind.needs not in features:
        kind = next(above for above in kind.__mro__[1:] if issubclass(above, VeilmatchError))
    return kind.code


def read(data: str | bytes, sayer: str, others: Others = NOBODY) -> VeilmatchError:
    """Return the error that `sayer` has written. Raises ValueError if it is too long or cannot be read."""
    if len(data) > CLAIM_BYTES:
        raise ValueError(f"{len(data)} bytes")
    try:
        fields = json.loads(data)
    except RecursionError:
        raise ValueError("nested") from None
    if not isinstance(fields, dict):
        raise ValueError(type(fields).__name__)
    error = VeilmatchError.from_fields(_short(fields, TEXT_CHARACTERS))
    error.hint = None  # what to do here is not theirs to say
    if error.party is not None and error.party not in (sayer, *_known(error, others)):
        error.party = sayer
    failed = _PARTY_OF.get(error.party or "")
    without = pairs_without(failed) if failed is not None else ()
    error.alternatives = tuple(pair for pair in without if pair in error.alternatives)
    passed_on = [name for name in error.said_by if name in _PARTY_OF]
    error.said_by = (*passed_on[: _SAYERS - 1], sayer)
    return error


def _known(error: VeilmatchError, others: Others) -> tuple[str, ...]:
    missing_or_dealt = isinstance(error, UnavailableError | DealtStockError)
    return (*others.partners, *others.suppliers) if missing_or_dealt else others.partners


def _short(fields: dict[str, Any], characters: int) -> dict[str, Any]:
    """Return the fields with clean texts of so many characters; what is none of text, number or list is left out."""
    short: dict[str, Any] = {}
    for name, value in fields.items():
        if isinstance(value, str):
            short[name] = clean(value)[:characters]
        elif isinstance(value, float) or (isinstance(value, int) and abs(value) <= _MAX_NUMBER):
            short[name] = value
        elif isinstance(value, list | tuple):
            texts = [clean(one)[:characters] for one in value if isinstance(one, str)]
            short[name] = texts[:_LISTED]
    return short
