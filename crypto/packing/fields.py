"""Cutting integers into fields of fixed width: what lanes and slots have in common."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from veilmatch.crypto.arithmetic import Integer, to_little_endian

Array = NDArray[np.int64]
#: Bytes that a field of at most 62 bits lies in, wherever it begins.
_WINDOW = 9


def join(values: Sequence[int], width: int) -> Integer:
    """Return sum values[j] * 2^(width*j); values may be negative."""
    total = 0
    for value in reversed(values):
        total = (total << width) + int(value)
    return Integer(total)


def cut(numbers: Sequence[Integer], width: int, count: int, low_bits: int | None = None) -> Array:
    """Return the lowest `count` fields of every w >= 0 as int64[n, count], each mod 2^low_bits (default: whole).

    width: at most 62 bits, so that a field lies in nine bytes.
    """
    size = (width * count + 7) // 8
    below = (Integer(1) << (8 * size)) - 1
    data = b"".join(to_little_endian(w & below, size + _WINDOW) for w in numbers)
    rows = np.frombuffer(data, dtype=np.uint8).reshape(len(numbers), size + _WINDOW)
    starts = width * np.arange(count)
    windows = np.lib.stride_tricks.sliding_window_view(rows, _WINDOW, axis=1)[:, starts // 8]
    shift = (starts % 8).astype(np.uint64)
    lower = np.ascontiguousarray(windows[..., :8]).view("<u8")[..., 0] >> shift
    # In two steps, as a shift by all 64 bits is undefined.
    upper = windows[..., 8].astype(np.uint64) << np.uint64(1) << (np.uint64(63) - shift)
    kept = width if low_bits is None else min(width, low_bits)
    return np.asarray((lower | upper) & np.uint64((1 << kept) - 1)).astype(np.int64)
