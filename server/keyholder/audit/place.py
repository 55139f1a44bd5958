"""Is the file that entries go to still the one that auditors will read?

A file that was deleted, moved or replaced takes writes and syncs as before, and nobody ever reads them.
"""

from __future__ import annotations

import os
from pathlib import Path


def astray(descriptor: int, path: Path, size: int, *, may_be_longer: bool) -> str | None:
    """Return what has become of an open file, or None if it is in its place, with what was written to it.

    size: bytes that were written. may_be_longer: an attempt to write more has failed. Raises OSError if nobody can
    tell.
    """
    own = os.fstat(descriptor)
    try:
        there = path.stat()
    except FileNotFoundError:
        return f"{path.name} was deleted or moved away"
    if (own.st_dev, own.st_ino) != (there.st_dev, there.st_ino):
        return f"{path.name} was replaced by another file"
    if own.st_size < size:
        return f"{path.name} was cut to {own.st_size} bytes, {size} were written"
    if own.st_size > size and not may_be_longer:
        return f"{path.name} has {own.st_size} bytes, {size} were written: somebody else writes to it"
    return None
