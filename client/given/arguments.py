"""What callers pass to the SDK, checked where it comes in: names, tokens, numbers and times.

A wrong type is answered with the same kind of error as a wrong value, so that nothing but VeilmatchErrors
leaves the SDK. What is returned is what is used: texts in NFC, numbers as floats of Python.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Mapping
from decimal import Decimal
from numbers import Real
from typing import TypeVar

import numpy as np

from veilmatch.client.wire.signing import new_token
from veilmatch.crypto.encryption.public_key_format import KEY_ID_BYTES
from veilmatch.crypto.errors import InvalidInputError
from veilmatch.crypto.requests import TOKEN_BYTES, check_model, check_subject

_R = TypeVar("_R")


def checked_name(subject: str) -> str:
    """Return the subject in NFC. Raises InvalidInputError if it is no text, or none that names a subject.

    File systems and keyboards give the same name composed or decomposed; servers know it composed.
    """
    return check_subject(_composed("a subject", subject))


def checked_model(model: str) -> str:
    """Return the name of an embedding model in NFC. Raises InvalidInputError if it is no text, or cannot be one."""
    return check_model(_composed("the name of a model", model))


def checked_token(token: bytes | None) -> bytes:
    """Return the caller's token, or a fresh one. Raises InvalidInputError if it cannot be a token."""
    if token is None:
        return new_token()
    if not isinstance(token, bytes) or len(token) != TOKEN_BYTES:
        raise InvalidInputError("a token of the wrong length or type", expected=f"{TOKEN_BYTES} bytes")
    return token


def checked_key_id(key_id: bytes) -> bytes:
    """Return the id of a key. Raises InvalidInputError if it cannot be one."""
    if not isinstance(key_id, bytes) or len(key_id) != KEY_ID_BYTES:
        got = f"{len(key_id)} bytes" if isinstance(key_id, bytes) else type(key_id).__name__
        raise InvalidInputError("not the id of a key", got=got, expected=f"{KEY_ID_BYTES} bytes")
    return key_id


def checked_cosine(cosine: float) -> float:
    """Return the threshold. Raises InvalidInputError if it is not a number; its range is checked later."""
    return _number("a threshold", cosine, "0 < cosine <= 1")


def finite_seconds(value: float) -> float:
    """Return a time-out. Raises InvalidInputError unless it is positive and finite: no call waits for ever."""
    seconds = _number("a time-out", value, "seconds above 0")
    if not math.isfinite(seconds) or seconds <= 0:
        raise InvalidInputError("a time-out is a positive number of seconds", got=seconds)
    return seconds


def checked_pairs(what: str, pairs: Mapping[str, _R] | Iterable[tuple[str, _R]]) -> list[tuple[str, _R]]:
    """Return (subject, what is enrolled) pairs. Raises InvalidInputError if something else was given."""
    expected = f"a mapping of subjects to {what}, or (subject, {what}) pairs"
    if isinstance(pairs, str | bytes | bytearray) or not isinstance(pairs, Iterable):
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
