"""Arithmetic mod N^2 by gmpy2, one number at a time: runs everywhere, and is what the kernel is compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy

import numpy as np

from veilmatch.crypto.arithmetic import (
    Integer,
    from_bytes,
    gcd,
    invert_many,
    power_secret,
    product_mod,
    to_bytes,
)
from veilmatch.crypto.rings.fixed_base import FixedBaseTable
from veilmatch.crypto.rings.grid import Grid
from veilmatch.crypto.rings.multiexp import product_of_powers
from veilmatch.crypto.rings.pairs import Pairs
from veilmatch.crypto.rings.public_base import TablePublicBase
from veilmatch.crypto.rings.ring import FixedBase, PackGroup


class ReferenceRing:
    """The integers mod N^2."""

    lanes = 1
    releases_gil = False

    def __init__(self, modulus: Integer) -> None:
        self.modulus, self._square = modulus, modulus**2
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

    def public_base(self, base: Integer, exponent_bits: int) -> TablePublicBase:
        """Return the table of `base` mod N."""
        return TablePublicBase(base, self.modulus, exponent_bits)

    def compile(self, exponents: Sequence[int], exponent_bits: int) -> bytes:
        """Return the exponents and their size: there is nothing to prepare."""
        return np.array([exponent_bits, *exponents], dtype="<u8").tobytes()

    def randomised_products(
        self, asked: Sequence[tuple[PackGroup, Sequence[int]]], compiled: bytes, zeros: FixedBase
    ) -> bytes:
        """Return the products of these lanes of groups, each times a fresh power of `zeros`, as big-endian bytes."""
        fresh = zeros.random_powers(sum(len(lanes) for _, lanes in asked))
        return self._times(asked, compiled, fresh)

    def products_times(
        self, asked: Sequence[tuple[PackGroup, Sequence[int]]], compiled: bytes, factors: bytes
    ) -> bytes:
        """Return the products of these lanes of groups, each times one of the factors, as big-endian bytes."""
        size = (self._square.bit_length() + 7) // 8
        return self._times(
            asked, compiled, [from_bytes(factors[at : at + size]) for at in range(0, len(factors), size)]
        )

    def _times(
        self, asked: Sequence[tuple[PackGroup, Sequence[int]]], compiled: bytes, factors: Sequence[Integer]
    ) -> bytes:
        products = [x for group, lanes in asked for x in group.products(compiled, lanes)]
        size = (self._square.bit_length() + 7) // 8
        return b"".join(to_bytes(x * y % self._square, size) for x, y in zip(products, factors, strict=True))

    def quotients(self, dividends: bytes, divisors: bytes, factor: Integer) -> bytes:
        """Return factor * a / b for the numbers a and b at each place, as big-endian bytes."""
        size = (self._square.bit_length() + 7) // 8
        starts = range(0, len(dividends), size)
        a, b = ([from_bytes(data[at : at + size]) for at in starts] for data in (dividends, divisors))
        if gcd(product_mod(a, self._square), self._square) != 1:
            raise ZeroDivisionError("a dividend shares a factor with N")
        inverses = invert_many(b, self._square)
        return b"".join(to_bytes(x * y * factor % self._square, size) for x, y in zip(a, inverses, strict=True))

    def grid_product(self, bases: Sequence[Integer], exponents: Grid) -> Integer:
        """Return prod bases[i]^exponents[i], as one product of powers."""
        products = list(exponents)
        bits = max((product.bit_length() for product in products), default=0)
        pairs = [self._pairs.split(base) for base in bases]
        return self._pairs.join(product_of_powers(pairs, products, max(1, bits), self._pairs))

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

    def load(self, packs: Mapping[int, bytes]) -> None:
        """Keep the pack of lane 0."""
        for pack in packs.values():
            size = len(pack) // len(self._pack)
            self.put(0, [from_bytes(pack[at : at + size]) for at in range(0, len(pack), size)])

    def get(self, lane: int) -> list[Integer]:
        """Return the pack. lane: 0."""
        return [self._pairs.join(c) for c in self._pack]

    def copy(self) -> ReferencePackGroup:
        """Return a group with the same pack: its numbers are replaced together, and never changed."""
        return copy(self)

    def products_of_powers(self, exponents: Sequence[int], exponent_bits: int) -> list[Integer]:
        """Return prod pack[i]^exponents[i]; see multiexp.product_of_powers."""
        return [self._pairs.join(product_of_powers(self._pack, exponents, exponent_bits, self._pairs))]

    def products(self, compiled: bytes, lanes: Sequence[int]) -> list[Integer]:
        """Return what `products_of_powers` returns. lanes: only 0."""
        exponent_bits, *exponents = np.frombuffer(compiled, dtype="<u8").tolist()
        return self.products_of_powers(exponents, exponent_bits) * len(lanes)
