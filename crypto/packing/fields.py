"""Cutting integers into fields of fixed width: what lanes and slots have in common."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from veilmatch.crypto.arithmetic import Integer, to_bytes

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
    size = (max(width * count, w.bit_length()) + 7) // 8
    data = np.frombuffer(to_bytes(w, size)[::-1], dtype=np.uint8)
    bits = np.unpackbits(data, bitorder="little")[: width * count].reshape(count, width)
    kept = width if low_bits is None else min(width, low_bits)
    weights = np.left_shift(np.int64(1), np.arange(kept, dtype=np.int64))
    return bits[:, :kept].astype(np.int64) @ weights
