"""Buckets: which units of a block check which, and how likely wrong ones pass.

A coin of both holders, drawn when the dealer has dealt, puts the units of a block into a random
order. The first OPENED_UNITS are opened; the others fall into buckets of BUCKET_UNITS. In each bucket
one unit is checked against every other, which are used up by it, and comes out. A check of two units
passes if and only if their errors are equal, so what has a wrong unit passes only if every bucket is
all right or all wrong, and every opened unit right. Furukawa, Lindell, Nof, Weinstein, EUROCRYPT 2017;
Araki et al., IEEE S&P 2017.

Sacrificing one product for another with a random factor, as for triples mod N, is not sound mod 2^64:
half of all factors are even, and an even one hides an error of 2^63.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import lgamma, log

import numpy as np
from numpy.typing import NDArray

from veilmatch.crypto.dealing.blocks import BUCKET_UNITS, OPENED_UNITS, keystream

Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Arrangement:
    """Indices of units: `kept` come out; checked[OPENED_UNITS + i] is checked against sacrificed[i].

    The first OPENED_UNITS of `checked` are those that are opened.
    """

    kept: Indices
    checked: Indices
    sacrificed: Indices


def arrangement(coin: bytes, buckets: int) -> Arrangement:
    """Return the order that a coin of 32 bytes gives to a block of so many buckets."""
    order = random_order(coin, buckets * BUCKET_UNITS + OPENED_UNITS)
    rows = order[OPENED_UNITS:].reshape(buckets, BUCKET_UNITS)
    kept = np.ascontiguousarray(rows[:, 0])
    checked = np.concatenate([order[:OPENED_UNITS], np.repeat(kept, BUCKET_UNITS - 1)])
    return Arrangement(kept, checked, rows[:, 1:].ravel())


def random_order(coin: bytes, count: int) -> Indices:
    """Return 0..count-1 in a uniformly random order: that of random numbers, drawn again if two are equal."""
    index_bits = np.uint64(count.bit_length())
    stride = -(-8 * count // 16) * 16
    for attempt in range(64):
        numbers = np.frombuffer(keystream(coin, attempt * stride, 8 * count), dtype="<u8") >> index_bits
        keys = np.sort((numbers << index_bits) | np.arange(count, dtype=np.uint64))
        numbers = keys >> index_bits
        if (numbers[1:] != numbers[:-1]).all():
            return (keys & np.uint64((1 << int(index_bits)) - 1)).astype(np.int64)
    raise AssertionError("64 times two equal numbers: not a random stream")


def undetected_bits(buckets: int, bucket: int = BUCKET_UNITS, opened: int = OPENED_UNITS) -> float:
    """Return -log2 of how likely wrong units pass, for the best number of them.

    A dealer that makes t buckets wrong needs its t*bucket wrong units to fill t buckets exactly: there are
    C(buckets, t) such places among C(buckets*bucket + opened, t*bucket) equally likely ones.
    """
    units = buckets * bucket + opened
    best = max(_log_choose(buckets, t) - _log_choose(units, t * bucket) for t in range(1, buckets + 1))
    return -best / log(2)


def _log_choose(n: int, k: int) -> float:
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)
