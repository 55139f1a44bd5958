"""What callers pass to the SDK, checked where it comes in: names, tokens and times.

A wrong type is answered with the same kind of error as a wrong value, so that nothing but VeilmatchErrors
leaves the SDK.
"""

from __future__ import annotations

import math

from veilmatch.client.wire.signing import new_token
from veilmatch.crypto.errors import InvalidInputError
from veilmatch.crypto.requests import TOKEN_BYTES, check_model, check_subject


def checked_name(subject: str) -> str:
    """Return the subject. Raises InvalidInputError if it is no text, or none that names a subject."""
    if not isinstance(subject, str):
        raise InvalidInputError("a subject is a text", got=type(subject).__name__, expected="str")
    return check_subject(subject)


def checked_model(model: str) -> str:
    """Return the name of an embedding model. Raises InvalidInputError if it is no text, or cannot be one."""
    if not isinstance(model, str):
        raise InvalidInputError("the name of a model is a text", got=type(model).__name__, expected="str")
    return check_model(model)


def checked_token(token: bytes | None) -> bytes:
    """Return the caller's token, or a fresh one. Raises InvalidInputError if it cannot be a token."""
    if token is None:
        return new_token()
    if not isinstance(token, bytes) or len(token) != TOKEN_BYTES:
        raise InvalidInputError("a token of the wrong length or type", expected=f"{TOKEN_BYTES} bytes")
    return token


def checked_cosine(cosine: float) -> float:
    """Return the threshold. Raises InvalidInputError if it is not a number; its range is checked later."""
    if not isinstance(cosine, int | float):
        raise InvalidInputError("a threshold is a number", got=type(cosine).__name__, expected="0 < cosine <= 1")
    return cosine


def finite_seconds(value: float) -> float:
    """Return a time-out. Raises InvalidInputError unless it is positive and finite: no call waits for ever."""
    if not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        raise InvalidInputError("a time-out is a positive number of seconds", got=value)
    return value
