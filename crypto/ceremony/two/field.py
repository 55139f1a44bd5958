"""Integers modulo a Mersenne prime F = 2^k - 1, where reducing is a shift and a sum."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.errors import ParameterError

#: Exponents k of Mersenne primes. OEIS A000043.
MERSENNE = (2, 3, 5, 7, 13, 17, 19, 31, 61, 89, 107, 127, 521, 607, 1279, 2203, 2281, 3217, 4253, 4423, 9689)


@dataclass(frozen=True)
class Field:
    """The field of F = 2^bits - 1. bits: one of MERSENNE."""

    bits: int

    @cached_property
    def prime(self) -> Integer:
        """F."""
        return (Integer(1) << self.bits) - 1

    @staticmethod
    def holding(bits: int) -> Field:
        """Return the smallest field of more than `bits` bits. Raises ParameterError if there is none here."""
        for k in MERSENNE:
            if k > bits:
                return Field(k)
        raise ParameterError("a field of so many bits", got=bits, expected=f"below {MERSENNE[-1]}")

    def reduce(self, x: Integer) -> Integer:
        """Return x modulo F, in [0, F), for any x. Two sums do for |x| < 2^(2*bits)."""
        F, k = self.prime, self.bits
        x = (x & F) + (x >> k)
        while not 0 <= x < F:
            if x == F:
                return Integer(0)
            x = (x & F) + (x >> k)
        return x
