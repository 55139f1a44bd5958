"""Arithmetic mod N^2 by gmpy2, one number at a time: runs everywhere, and is what the kernel is compared with."""

from __future__ import annotations

from collections.abc import Sequence

from veilmatch.crypto.arithmetic import Integer, power_secret
from veilmatch.crypto.rings.fixed_base import FixedBaseTable
from veilmatch.crypto.rings.multiexp import product_of_powers
from veilmatch.crypto.rings.pairs import Pairs
from veilmatch.crypto.rings.ring import PackGroup


class ReferenceRing:
    """The integers mod N^2."""

    lanes = 1
    releases_gil = False

    def __init__(self, modulus: Integer) -> None:
        self._square = modulus**2
        self._pairs = Pairs(modulus)

    def powers_secret(self, bases: Sequence[Integer], exponent: Integer) -> list[Integer]:
        """Return base^exponent for every base; see arithmetic.power_secret."""
        return power_secret(bases, exponent, self._square)

    def powers_secret_each(self, bases: Sequence[Integer], exponents: Sequence[Integer]) -> list[Integer]:
        """Return bases[i]^exponents[i]."""
        pairs = zip(bases, exponents, strict=True)
        return [power for base, exponent in pairs for power in power_secret([base], exponent, self._square)]

    def fixed_base(self, base: Integer, exponent_bits: int) -> FixedBaseTable:
        """Return the table of `base`."""
        return FixedBaseTable(base, self._pairs, exponent_bits)

    def products_of_powers(
        self, groups: Sequence[PackGroup], exponents: Sequence[int], exponent_bits: int
    ) -> list[list[Integer]]:
        """Return prod pack[i]^exponents[i] of every group."""
        return [group.products_of_powers(exponents, exponent_bits) for group in groups]

    def pack_group(self, dimension: int) -> ReferencePackGroup:
        """Return room for one pack."""
        return ReferencePackGroup(self._pairs, dimension)


class ReferencePackGroup:
    """One pack."""

    def __init__(self, pairs: Pairs, dimension: int) -> None:
        self._pairs = pairs
        self._pack = [pairs.split(Integer(0))] * dimension

    def put(self, lane: int, pack: Sequence[Integer]) -> None:
        """Keep the pack. lane: 0."""
        self._pack = [self._pairs.split(c) for c in pack]

    def get(self, lane: int) -> list[Integer]:
        """Return the pack. lane: 0."""
        return [self._pairs.join(c) for c in self._pack]

    def products_of_powers(self, exponents: Sequence[int], exponent_bits: int) -> list[Integer]:
        """Return prod pack[i]^exponents[i]; see multiexp.product_of_powers."""
        return [self._pairs.join(product_of_powers(self._pack, exponents, exponent_bits, self._pairs))]
