"""Every size of a joint ceremony, computed from the parameter set.

P = 2pP' + 1 and Q = 2qQ' + 1 have exactly half the bits of N each, and N = PQ has all of its bits, whatever comes out:
p and q lie in [3/4, 1) of their power of two, and P', Q' in a range that fits all of these.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.ceremony.sieve import Range, Sieve
from veilmatch.crypto.ceremony.two.fermat import FermatTest
from veilmatch.crypto.encryption.paillier import STATISTICAL_BITS
from veilmatch.crypto.parameters import ParameterSet

#: Bounds of the private trial division of p and of P.
SMALL_BOUND, LARGE_BOUND = 1 << 12, 1 << 16
#: How many p are kept. P and Q are the first two primes of different p.
POOL = 8
#: Bases with which each pair tests each p of the pool again. Random numbers of 256 bits that are not prime pass eight
#: Miller-Rabin rounds with less than 2^-68 (Damgard, Landrock, Pomerance, Math. Comp. 1993, theorem 2).
BASES_OF_A_PAIR = 8
#: A batch of candidates P before trial division, by size of P, and bits of P' above M. Three batches of four succeed.
_BATCHES = {256: 128, 384: 128, 512: 160, 1024: 192, 1536: 256}
_LARGE_ROOM, _LARGE_ROOM_OF_TESTS = 160, 60
#: A search of so many times the expected number of tests finds fewer than two primes with probability 2^-12.
_PATIENCE = 11.2
#: Batches of candidates p: one leaves fewer than a pool with less than 2^-10, of 512 for 256 bits.
SMALL_ATTEMPTS = 8
_EULER = 1.7810724


@dataclass(frozen=True)
class Sizes:
    """What follows from a parameter set for its joint ceremony."""

    parameters: ParameterSet

    @property
    def small_bits(self) -> int:
        """Size of p and q."""
        return self.parameters.subgroup_bits // 2

    @property
    def large_bits(self) -> int:
        """Size of P and Q."""
        return self.parameters.modulus_bits // 2

    @property
    def order_bits(self) -> int:
        """Size of o = 2pq, exactly."""
        return self.parameters.subgroup_bits + 1

    @property
    def cofactor_bits(self) -> int:
        """P'Q' is below two to so many."""
        return 2 * self._cofactors[1].bit_length()

    @cached_property
    def room(self) -> Integer:
        """Above every integer that is computed modulo it: N, and what is opened under a mask 128 bits longer."""
        return Integer(1) << (self.parameters.modulus_bits + STATISTICAL_BITS + 2)

    @property
    def batch(self) -> int:
        """How many P' without small factors a batch has, about."""
        return _BATCHES[self.large_bits]

    @property
    def small_batch(self) -> int:
        """How many candidates p a batch has."""
        return 2 * self.batch

    @cached_property
    def small_sieve(self) -> Sieve:
        """Of p."""
        n = self.small_bits
        return Sieve.of(n - 50 if n > 100 else n // 3, SMALL_BOUND)

    @cached_property
    def small_range(self) -> Range:
        """Of p."""
        n = self.small_bits
        return Range.between(Integer(3) << (n - 2), Integer(1) << n, self.small_sieve.modulus)

    @cached_property
    def large_sieve(self) -> Sieve:
        """Of P."""
        room = _LARGE_ROOM if self.large_bits > 512 else _LARGE_ROOM_OF_TESTS
        return Sieve.of(self._cofactors[1].bit_length() - room, LARGE_BOUND)

    @cached_property
    def large_range(self) -> Range:
        """Of P'."""
        return Range.between(*self._cofactors, self.large_sieve.modulus)

    @property
    def drawn(self) -> int:
        """How many P' are drawn for a batch: those with a factor below the end of the sieve are given up."""
        rough = math.prod(1 - 1 / (r - 1) for r in self.large_sieve.constructed)
        return math.ceil(self.batch / rough)

    @cached_property
    def small_test(self) -> FermatTest:
        """Of p."""
        return FermatTest(self.small_bits)

    @cached_property
    def large_test(self) -> FermatTest:
        """Of P. The longer, the more a long window saves; 1536 bits with 3 fit the field that 2 would take as well."""
        return FermatTest(self.large_bits, 3 if self.large_bits == 1536 else 2)

    @property
    def most_tests(self) -> int:
        """How many P may be tested before a search is given up: 603 of 1536 bits."""
        expected = self.large_bits * math.log(2) / (_EULER * math.log(LARGE_BOUND))
        return max(math.ceil(_PATIENCE * expected), 2 * self.batch)

    @property
    def most_batches(self) -> int:
        """How many batches may be tried: more than half of a batch is tested, if nobody deviates."""
        return math.ceil(2 * self.most_tests / self.batch)

    @cached_property
    def _cofactors(self) -> tuple[Integer, Integer]:
        """P in [2^(L - 1/2), 2^L) for all p: P' in a range of 6 % of its size."""
        n, L = self.small_bits, self.large_bits
        least = Integer(math.isqrt(1 << (2 * L - 1)) + 1)
        return least // (2 * (Integer(3) << (n - 2))) + 1, ((Integer(1) << L) - 2) // (Integer(2) << n)
