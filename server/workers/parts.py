"""Several parts in one request to a worker, and what became of each of them in its answer.

    request = join([part_0, part_1])                  # -> the worker
    handler = in_parts(handle)                        # there: handle takes all parts, and returns an outcome of each
    outcome_0, outcome_1 = outcomes(answer, 2)        # bytes, or the error that is this part's alone

Parts are bytes, and are never pickled.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence

from veilmatch.crypto.errors import ProtocolError, VeilmatchError

#: Of a part, before it.
_SIZE = struct.Struct(">I")
_ANSWER, _ERROR = b"a", b"e"


def join(parts: Sequence[bytes]) -> bytes:
    """Return the parts as one message; each has less than 4 GiB."""
    return b"".join(piece for part in parts for piece in (_SIZE.pack(len(part)), part))


def split(message: bytes) -> list[bytes]:
    """Return the parts that `join` joined. Raises ProtocolError for what it never returns."""
    parts, at = [], 0
    while at < len(message):
        end = at + _SIZE.size
        if end <= len(message):
            (size,) = _SIZE.unpack_from(message, at)
            at, end = end, end + size
        if end > len(message):
            raise ProtocolError("a message of parts that ends within one", got=len(message), expected=end)
        parts.append(message[at:end])
        at = end
    return parts


def in_parts(handle: Callable[[Sequence[bytes]], Sequence[bytes | VeilmatchError]]) -> Callable[[bytes], bytes]:
    """Return a handler of joined parts. handle: returns as many outcomes as it is given parts, in their order."""

    def handler(message: bytes) -> bytes:
        return join([_written(outcome) for outcome in handle(split(message))])

    return handler


def outcomes(answer: bytes, count: int) -> list[bytes | VeilmatchError]:
    """Return what became of each of `count` parts, from the answer of an `in_parts` handler.

    Raises ProtocolError for what is no such answer.
    """
    found = split(answer)
    if len(found) != count:
        raise ProtocolError("a worker's answer to other parts", got=len(found), expected=count)
    return list(map(_read, found))


def _written(outcome: bytes | VeilmatchError) -> bytes:
    return _ERROR + json.dumps(outcome.fields()).encode() if isinstance(outcome, VeilmatchError) else _ANSWER + outcome


def _read(written: bytes) -> bytes | VeilmatchError:
    kind, body = written[:1], written[1:]
    if kind == _ANSWER:
        return body
    if kind == _ERROR:
        try:
            return VeilmatchError.from_fields(json.loads(body))
        except (ValueError, TypeError, AttributeError, RecursionError):
            pass
    raise ProtocolError("a worker's answer that is neither an answer nor an error")
