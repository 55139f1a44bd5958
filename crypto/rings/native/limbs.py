"""Big integers as limbs side by side, the form in which the kernel takes them.

A *group* holds as many numbers as the backend has lanes: uint64[2, n, lanes], limbs of 64, 52 or 28
bits, least significant first; [0] and [1] are the two parts of pair form (crypto/kernel/kernel.h).
"""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

import numpy as np
import numpy.typing as npt

from veilmatch.crypto.arithmetic import Integer, to_little_endian

Limbs = npt.NDArray[np.uint64]
#: Groups as they rest in memory: limbs without gaps between them.
Rows = npt.NDArray[np.uint8]
#: Words of tables of constants: of 32 bits where limbs are shorter.
Constants = npt.NDArray[np.uint32] | Limbs

_ALIGNMENT = 64


def empty(shape: tuple[int, ...]) -> Limbs:
    """Return an array of any content, aligned for the kernel."""
    return empty_bytes(8 * prod(shape)).view(np.uint64).reshape(shape)


def empty_bytes(size: int) -> Rows:
    """Return uint8[size] of any content, aligned for the kernel."""
    buffer = np.empty(size + _ALIGNMENT, dtype=np.uint8)
    start = -buffer.ctypes.data % _ALIGNMENT
    return buffer[start : start + size]


def to_limbs(numbers: Iterable[Integer], limbs: int, limb_bits: int) -> Limbs:
    """Return uint64[count, limbs]. limb_bits: 64, or 4 mod 8 and an even number of limbs.

    Raises OverflowError for too large a number.
    """
    if limb_bits == 64:
        whole = b"".join(to_little_endian(x, limbs * 8) for x in numbers)
        return np.frombuffer(whole, dtype="<u8").astype(np.uint64).reshape(-1, limbs)
    pair_bytes = limb_bits // 4  # two limbs are a whole number of bytes, one ends with half of one
    half = pair_bytes // 2
    data = b"".join(to_little_endian(x, limbs * limb_bits // 8) for x in numbers)
    pairs = np.frombuffer(data, dtype=np.uint8).reshape(-1, limbs // 2, pair_bytes)
    words = np.zeros((*pairs.shape[:2], 2, 8), dtype=np.uint8)
    words[:, :, 0, : half + 1] = pairs[:, :, : half + 1]
    words[:, :, 1, : half + 1] = pairs[:, :, half:]
    values = words.view("<u8")[..., 0].astype(np.uint64, copy=False)
    values[:, :, 0] &= np.uint64((1 << limb_bits) - 1)
    values[:, :, 1] >>= np.uint64(4)
    return values.reshape(-1, limbs)


def side_by_side(values: Limbs, lanes: int) -> Limbs:
    """Return groups uint64[groups, 2, n, lanes] of uint64[count, 2, n]; lanes that are left over hold zero."""
    count, parts, n = values.shape
    groups = empty((-(-count // lanes), parts, n, lanes))
    full = count // lanes * lanes
    groups[: count // lanes] = values[:full].reshape(-1, lanes, parts, n).transpose(0, 2, 3, 1)
    if full < count:
        groups[-1] = 0
        groups[-1, :, :, : count - full] = values[full:].transpose(1, 2, 0)
    return groups


def one_by_one(groups: Limbs, count: int) -> Limbs:
    """Return uint64[count, 2, n] of the first `count` numbers of groups."""
    _, parts, n, _ = groups.shape
    return np.ascontiguousarray(groups.transpose(0, 3, 1, 2)).reshape(-1, parts, n)[:count]
