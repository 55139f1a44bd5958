"""What callers pass to the SDK, checked where it comes in: names, tokens, numbers and times.

A wrong type is answered with the same kind of error as a wrong value, so that nothing but VeilmatchErrors
leaves the SDK. What is returned is what is used: texts in NFC, numbers as floats of Python.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from numbers import Real
from typing import TypeVar, cast

import numpy as np

from veilmatch.client.given.tables import Kind, TableSource, is_table, read_table
from veilmatch.client.wire.signing import new_token
from veilmatch.crypto.consent import Consent
from veilmatch.crypto.encryption.public_key_format import KEY_ID_BYTES
from veilmatch.crypto.errors import InvalidInputError
from veilmatch.crypto.requests import MAX_VIEWS, TOKEN_BYTES, check_model, check_subject

#: A hundred years; servers allow less.
_MOST_DAYS = 36525
_R = TypeVar("_R")


def checked_name(subject: str) -> str:
    """Return the subject in NFC. Raises InvalidInputError if it is no text, or none that names a subject.

    File systems and keyboards give the same name composed or decomposed; servers know it composed.
    """
    return check_subject(_composed("a subject", subject))


def checked_names(subjects: Iterable[str]) -> list[str]:
    """Return the subjects in NFC, each once. Raises InvalidInputError if they are no list, or one is not a subject."""
    if isinstance(subjects, str | bytes | bytearray) or not isinstance(subjects, Iterable):
        raise InvalidInputError("not a list of subjects", got=type(subjects).__name__, expected="names in a list")
    return list(dict.fromkeys(checked_name(subject) for subject in subjects))


def checked_model(model: str) -> str:
    """Return the name of an embedding model in NFC. Raises InvalidInputError if it is no text, or cannot be one."""
    return check_model(_composed("the name of a model", model))


def checked_views(views: Sequence[_R], mirror: bool = False) -> list[_R]:
    """Return the other views of a face. mirror: whether each photo counts twice.

    Raises InvalidInputError if they are no list, or more than go into one request with the first one.
    """
    if not isinstance(views, list | tuple):
        raise InvalidInputError(
            "not a list of views", got=type(views).__name__, expected="photos of one face in a list"
        )
    count = (1 + len(views)) * (1 + bool(mirror))
    if count > MAX_VIEWS:
        raise InvalidInputError(
            "more views of a face than go into one request",
            got=count,
            expected=f"<= {MAX_VIEWS}, mirror images counted",
        )
    return list(views)


def checked_token(token: bytes | None) -> bytes:
    """Return the caller's token, or a fresh one. Raises InvalidInputError if it cannot be a token."""
    if token is None:
        return new_token()
    if not isinstance(token, bytes) or len(token) != TOKEN_BYTES:
        raise InvalidInputError("a token of the wrong length or type", expected=f"{TOKEN_BYTES} bytes")
    return token


def checked_consent(consent: Consent | None) -> bytes:
    """Return a consent, encoded; b"" for none. Raises InvalidInputError if it is something else."""
    if consent is None:
        return b""
    if not isinstance(consent, Consent):
        raise InvalidInputError("not a consent", got=type(consent).__name__, expected="veilmatch.Consent")
    return consent.encode()


def checked_consents(
    consents: Consent | Mapping[str, Consent] | None, pairs: Iterable[tuple[str, object]]
) -> dict[str, bytes]:
    """Return the consents of the subjects of these pairs, encoded: one of all, or of each that is named.

    Raises InvalidInputError if one is something else, or of nobody who is enrolled.
    """
    if consents is None:
        return {}
    subjects = [checked_name(subject) for subject, _ in pairs]
    if not isinstance(consents, Mapping):
        return dict.fromkeys(subjects, checked_consent(consents))
    found = {checked_name(subject): checked_consent(consent) for subject, consent in consents.items()}
    if others := found.keys() - set(subjects):
        raise InvalidInputError("consents of subjects that are not enrolled here", got=len(others), expected=0)
    return found


def checked_key_id(key_id: bytes) -> bytes:
    """Return the id of a key. Raises InvalidInputError if it cannot be one."""
    if not isinstance(key_id, bytes) or len(key_id) != KEY_ID_BYTES:
        got = f"{len(key_id)} bytes" if isinstance(key_id, bytes) else type(key_id).__name__
        raise InvalidInputError("not the id of a key", got=got, expected=f"{KEY_ID_BYTES} bytes")
    return key_id


def checked_cosine(cosine: float) -> float:
    """Return the threshold. Raises InvalidInputError if it is not a number; its range is checked later."""
    return _number("a threshold", cosine, "0 < cosine <= 1")


def checked_days(days: float) -> float:
    """Return how many days a card is to be good for. Raises InvalidInputError unless that is positive and finite."""
    number = _number("days that a card is good for", days, "days above 0")
    if not math.isfinite(number) or not 0 < number <= _MOST_DAYS:
        raise InvalidInputError("days that a card is good for", got=number, expected=f"0 < days <= {_MOST_DAYS}")
    return number


def finite_seconds(value: float) -> float:
    """Return a time-out. Raises InvalidInputError unless it is positive and finite: no call waits for ever."""
    seconds = _number("a time-out", value, "seconds above 0")
    if not math.isfinite(seconds) or seconds <= 0:
        raise InvalidInputError("a time-out is a positive number of seconds", got=seconds)
    return seconds


def checked_pairs(what: Kind, pairs: Mapping[str, _R] | Iterable[tuple[str, _R]] | TableSource) -> list[tuple[str, _R]]:
    """Return (subject, what is enrolled) pairs, of a table (tables.py) too.

    Raises InvalidInputError if something else was given, or the table cannot be read.
    """
    if is_table(pairs):
        return read_table(what, cast(TableSource, pairs))
    expected = f"a mapping of subjects to {what}s, (subject, {what}) pairs, or a table of them"
    if isinstance(pairs, bytes | bytearray) or not isinstance(pairs, Iterable):
        raise InvalidInputError(f"not a list of {what}s", got=type(pairs).__name__, expected=expected)
    found = list(pairs.items() if isinstance(pairs, Mapping) else pairs)
    for number, pair in enumerate(found, start=1):
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            got = f"{type(pair).__name__} as number {number}"
            raise InvalidInputError(f"not a list of {what}s", got=got, expected=expected)
    return [(subject, given) for subject, given in found]


def _composed(what: str, text: str) -> str:
    if not isinstance(text, str):
        raise InvalidInputError(f"{what} is a text", got=type(text).__name__, expected="str")
    return unicodedata.normalize("NFC", text)


def _number(what: str, value: float, expected: str) -> float:
    """Return any real number as a float: of Python, of numpy, a Fraction, a Decimal; but no truth value.

    A number of lower precision counts as it is written: numpy.float32(0.55) is 0.55 and not 0.550000012.
    """
    if isinstance(value, Real | Decimal) and not isinstance(value, bool):
        try:
            return float(np.format_float_positional(value) if isinstance(value, np.floating) else value)
        except Exception:  # beyond the range of floats, or whatever a foreign class raises
            raise InvalidInputError(f"{what} beyond every range", got=type(value).__name__, expected=expected) from None
    raise InvalidInputError(f"{what} is a number", got=type(value).__name__, expected=expected)
