"""Cutting integers into fields of fixed width: what lanes and slots have in common."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from veilmatch.crypto.arithmetic import Integer, to_little_endian

Array = NDArray[np.int64]


def join(values: Sequence[int], width: int) -> Integer:
    """Return sum values[j] * 2^(width*j); values may be negative."""
    total = 0
    for value in reversed(values):
        total = (total << width) + int(value)
    return Integer(total)


def cut(w: Integer, width: int, count: int, low_bits: int | None = None) -> Array:
    """Return the lowest `count` fields of w >= 0 as int64[count], each mod 2^low_bits (default: whole).

    width: at most 62 bits.
    """
    starts, shifts = _places(width, count)
    size = 8 * (-(-max(width * count, w.bit_length()) // 64) + 1)
    words = np.frombuffer(to_little_endian(w, size), dtype="<u8")
    # A field may begin in one word and end in the next; by 64 at once nothing can be shifted.
    found = words[starts] >> shifts | words[starts + 1] << np.uint64(1) << (np.uint64(63) - shifts)
    kept = width if low_bits is None else min(width, low_bits)
    return (found & np.uint64((1 << kept) - 1)).astype(np.int64)


@cache
def _places(width: int, count: int) -> tuple[Array, NDArray[np.uint64]]:
    """Return the word in which each field begins, and at which of its bits."""
    starts = width * np.arange(count)
    words, shifts = starts // 64, (starts % 64).astype(np.uint64)
    words.setflags(write=False)
    shifts.setflags(write=False)
    return words, shifts
