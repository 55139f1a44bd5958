"""Digests of structured values, for requests, sessions and what both sides must agree on.

Parts enter as byte strings, each behind its length, after a label: two lists hash alike only if they are the
same byte strings in the same order. What a part was before does not count: an integer is its 8 bytes, a text
its UTF-8. So every label belongs to one function and one list of types, which the code that uses it fixes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

DIGEST_BYTES = 32
NONCE_BYTES = 32


def digest(label: str, *parts: bytes | int | str) -> bytes:
    """Return the 32-byte SHA-256 of a label and parts.

    Integers are non-negative and below 2^64 and stand for their 8 bytes, big-endian; texts for their UTF-8.
    Raises OverflowError for other integers.
    """
    state = hashlib.sha256(_prefixed(b"veilmatch v1 " + label.encode()))
    for part in parts:
        if isinstance(part, int):
            part = part.to_bytes(8, "big")
        elif isinstance(part, str):
            part = part.encode()
        state.update(_prefixed(part))
    return state.digest()


def digest_all(label: str, items: Iterable[bytes]) -> bytes:
    """Return the 32-byte SHA-256 of a label and a list of byte strings, without joining them first.

    Their number is hashed at the end, so that it need not be known before. A label of this function is not one
    of `digest`: for no item at all it gives what `digest` gives for one empty part.
    """
    state, count = hashlib.sha256(_prefixed(b"veilmatch v1 " + label.encode())), 0
    for item in items:
        state.update(_prefixed(item))
        count += 1
    state.update(count.to_bytes(8, "big"))
    return state.digest()


def _prefixed(part: bytes) -> bytes:
    return len(part).to_bytes(8, "big") + part
