"""Memory that a daemon needs for a moment goes back to the system, not into reserve. For the C library of GNU."""

from __future__ import annotations

import ctypes
import sys

#: mallopt's number for "so many areas for threads to take memory from". Without it each of the threads of a daemon soon
#: has its own, up to eight for each core, and what is freed in one is of no use to the others.
_M_ARENA_MAX = -8
_ARENAS = 2
#: mallopt's number for "a block from this size on has pages of its own, which go back when it is freed".
_M_MMAP_THRESHOLD = -3
#: What that size is before glibc adapts it: freeing a block of pages of its own raises it, up to 32 MiB.
_BLOCK_BYTES = 128 << 10


def share_arenas() -> None:
    """Let all threads of this process take memory from the same few places. Before any other thread begins.

    A daemon has some fifteen threads, of which few compute at once. Does nothing where there is another C library.
    """
    _set(_M_ARENA_MAX, _ARENAS)


def return_large_blocks() -> None:
    """Give blocks of 128 KiB and more back to the system when they are freed, for the rest of this process.

    A search holds some megabytes for a second. Without this glibc takes them for the usual size, and keeps them.
    Does nothing where there is another C library.
    """
    _set(_M_MMAP_THRESHOLD, _BLOCK_BYTES)


def _set(option: int, value: int) -> None:
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(option, value)
