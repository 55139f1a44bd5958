"""Memory that a daemon needs for a moment goes back to the system, not into reserve. For the C library of GNU."""

from __future__ import annotations

import ctypes
import sys

#: mallopt's number for "a block from this size on has pages of its own, which go back when it is freed".
_M_MMAP_THRESHOLD = -3
#: What that size is before glibc adapts it: freeing a block of pages of its own raises it, up to 32 MiB.
_BLOCK_BYTES = 128 << 10


def return_large_blocks() -> None:
    """Give blocks of 128 KiB and more back to the system when they are freed, for the rest of this process.

    A search holds some megabytes for a second. Without this glibc takes them for the usual size, and keeps them.
    Does nothing where there is another C library.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _BLOCK_BYTES)
