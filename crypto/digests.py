"""Digests of structured values, for requests, sessions and what both sides must agree on.

Parts are length-prefixed and labelled, so that two different lists of parts never hash alike.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

DIGEST_BYTES = 32
NONCE_BYTES = 32


def digest(label: str, *parts: bytes | int | str) -> bytes:
    """Return the 32-byte SHA-256 of a label and parts. Integers are non-negative and below 2^64."""
    state = hashlib.sha256(_prefixed(b"veilmatch v1 " + label.encode()))
    for part in parts:
        if isinstance(part, int):
            part = part.to_bytes(8, "big")
        elif isinstance(part, str):
            part = part.encode()
        state.update(_prefixed(part))
    return state.digest()


def digest_all(label: str, items: Iterable[bytes]) -> bytes:
    """Return the 32-byte SHA-256 of a label and a list of byte strings, without joining them first."""
    state, count = hashlib.sha256(_prefixed(b"veilmatch v1 " + label.encode())), 0
    for item in items:
        state.update(_prefixed(item))
        count += 1
    state.update(count.to_bytes(8, "big"))
    return state.digest()


def _prefixed(part: bytes) -> bytes:
    return len(part).to_bytes(8, "big") + part
