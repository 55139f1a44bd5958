"""Prime search for the key ceremony: special primes P = 2*p*P' + 1, found with a sieve.

P and its cofactor P' must be prime together, which about one candidate in 240,000 is at 1536 bits.
A sieve over a window of cofactors strikes out every candidate for which either has a small factor,
so that only some thousand reach a Miller-Rabin round.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from veilmatch.crypto.arithmetic import Integer, is_prime, primes_below, random_below, random_bits
from veilmatch.crypto.secret_access import SecretHolder

_SIEVE_BOUND = 1 << 17
_WINDOW = 1 << 19
_ROUNDS = 64

_small_primes = cache(primes_below)


@dataclass(frozen=True, repr=False)
class SpecialPrime(SecretHolder):
    """P = 2*p*P' + 1 with p and P' prime, P = 3 mod 4, and the two top bits of P and of p set."""

    prime: Integer
    factor: Integer
    cofactor: Integer


def random_prime(bits: int) -> Integer:
    """Return a prime of exactly `bits` bits with its two top bits set, from fresh randomness."""
    while True:
        candidate = random_bits(bits) | 1 | (Integer(3) << (bits - 2))
        if is_prime(candidate, _ROUNDS):
            return candidate


def special_prime(bits: int, factor_bits: int) -> SpecialPrime:
    """Return P of exactly `bits` bits whose p has exactly `factor_bits` bits.

    P has its two top bits set, so that a product of two has exactly 2*bits bits.
    """
    p = random_prime(factor_bits)
    low = (Integer(3) << (bits - 2)) // (2 * p) + 1
    high = ((Integer(1) << bits) - 2) // (2 * p)
    while True:
        start = (low + random_below(high - low - 2 * _WINDOW)) | 1
        for i in _survivors(start, p):
            cofactor = start + 2 * int(i)
            candidate = 2 * p * cofactor + 1
            if cofactor > high or cofactor == p:
                continue
            if all(is_prime(x, rounds) for rounds in (1, _ROUNDS) for x in (cofactor, candidate)):
                return SpecialPrime(candidate, p, cofactor)


def _survivors(start: Integer, p: Integer) -> np.ndarray:
    """Indices i for which neither x = start + 2i nor 2px + 1 has a prime factor below the sieve bound."""
    alive = np.ones(_WINDOW, dtype=bool)
    bound = min(_SIEVE_BOUND, 1 << (min(start.bit_length(), p.bit_length()) - 2))
    for r in _small_primes(bound):
        half = (r + 1) // 2  # 1/2 mod r
        first = int(-start * half % r)  # start + 2*first = 0 mod r
        alive[first::r] = False
        slope = int(2 * p % r)
        if slope:
            root = -pow(slope, -1, r)  # 2p*root + 1 = 0 mod r
            alive[int((root - start) * half % r) :: r] = False
    return np.flatnonzero(alive)
