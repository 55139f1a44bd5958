"""Buckets: which words of a block check which, and how likely wrong ones pass.

A word is a product mod 2^64 or 64 bit triples. A coin of both holders, drawn when the dealer has dealt, puts
the words of a block into a random order. The first OPENED_WORDS are opened; the others fall into buckets of
BUCKET_WORDS. In each bucket one word is checked against every other, which are used up by it, and comes out. A
check of two words passes if and only if their errors are equal, so what has a wrong word passes only if every
bucket is all right or all wrong, and every opened word right. Bit triples are checked 64 at a time because the
random order is what the check costs, and how likely wrong ones pass depends on the number of buckets alone.
Furukawa, Lindell, Nof, Weinstein, EUROCRYPT 2017; Araki et al., IEEE S&P 2017.

Sacrificing one product for another with a random factor, as for triples mod N, is not sound mod 2^64:
half of all factors are even, and an even one hides an error of 2^63.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import lgamma, log

import numpy as np
from numpy.typing import NDArray

from veilmatch.crypto.dealing.blocks import BUCKET_WORDS, OPENED_WORDS, keystream

Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Arrangement:
    """Indices of words: `kept` come out; checked[OPENED_WORDS + i] is checked against sacrificed[i].

    The first OPENED_WORDS of `checked` are those that are opened.
    """

    kept: Indices
    checked: Indices
    sacrificed: Indices


def arrangement(coin: bytes, buckets: int) -> Arrangement:
    """Return the order that a coin of 32 bytes gives to a block of so many buckets."""
    order = random_order(coin, buckets * BUCKET_WORDS + OPENED_WORDS)
    rows = order[OPENED_WORDS:].reshape(buckets, BUCKET_WORDS)
    kept = np.ascontiguousarray(rows[:, 0])
    checked = np.concatenate([order[:OPENED_WORDS], np.repeat(kept, BUCKET_WORDS - 1)])
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


def undetected_bits(buckets: int, bucket: int = BUCKET_WORDS, opened: int = OPENED_WORDS) -> float:
    """Return -log2 of how likely wrong words pass, for the best number of them.

    A dealer that makes t buckets wrong needs its t*bucket wrong words to fill t buckets exactly: there are
    C(buckets, t) such places among C(buckets*bucket + opened, t*bucket) equally likely ones.
    """
    words = buckets * bucket + opened
    best = max(_log_choose(buckets, t) - _log_choose(words, t * bucket) for t in range(1, buckets + 1))
    return -best / log(2)


def _log_choose(n: int, k: int) -> float:
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)
