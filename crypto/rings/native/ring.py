"""Arithmetic mod N^2 by the native kernel: several numbers at a time."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from functools import cache
from typing import cast

import numpy as np

from veilmatch.crypto.arithmetic import Integer, product_mod, to_little_endian
from veilmatch.crypto.rings.grid import WIDTH, Grid
from veilmatch.crypto.rings.native.constants import ConstantsFixedBase
from veilmatch.crypto.rings.native.division import quotients
from veilmatch.crypto.rings.native.groups import WITH_POWERS_MOD_N, Groups
from veilmatch.crypto.rings.native.limbs import Limbs, side_by_side
from veilmatch.crypto.rings.native.packs import NativePackGroup
from veilmatch.crypto.rings.native.public_base import LanesPublicBase
from veilmatch.crypto.rings.native.tables import NativeFixedBase
from veilmatch.crypto.rings.programs import Program, compile_program, compile_public
from veilmatch.crypto.rings.public_base import TablePublicBase
from veilmatch.crypto.rings.ring import FixedBase, PackGroup, PublicBase

#: Few numbers have to take less than this part of the time of a whole group: more is hardly worth a second backend.
_WORTHWHILE = 0.9
#: Of each backend in turn. With seven a busy machine got it wrong every other time.
_TRIALS, _PRODUCTS = 101, 4
#: The backends that have tables of constants (crypto/kernel/constants.h).
WITH_CONSTANTS = ("avx2", "portable")


class NativeRing(Groups):
    """The integers mod N^2, N odd, on the kernel. Threads may share it.

    two: a backend that raises two numbers faster than a group (`Groups.power_of_two`), or None.
    """

    releases_gil = True

    def __init__(self, modulus: Integer, backend: str, few: str | None = None, two: str | None = None) -> None:
        super().__init__(modulus, backend, few)
        self.two = None if two is None else self.few if two == few else Groups(modulus, two)

    def powers_secret(self, bases: Sequence[Integer], exponent: Integer) -> list[Integer]:
        """Return base^exponent for every base, in constant time for exponents of one length in bytes."""
        data = to_little_endian(exponent, _size(exponent))
        rest = self._two_of(len(bases))
        powers: list[Integer] = []
        for on, part in self.parts(len(bases) - rest):
            powers += on.leave(on.power(on.enter(bases[part]), data, each=False), len(bases[part]))
        if self.two is not None and rest:
            powers += self.two.leave(self.two.power_of_two(self.two.enter(bases[-rest:]), data, each=False), rest)
        return powers

    def powers_secret_each(self, bases: Sequence[Integer], exponents: Sequence[Integer]) -> list[Integer]:
        """Return bases[i]^exponents[i], in constant time for exponents of one length in bytes."""
        size = max(map(_size, exponents), default=0)
        data = [to_little_endian(exponent, size) for _, exponent in zip(bases, exponents, strict=True)]
        rest = self._two_of(len(bases))
        powers: list[Integer] = []
        for on, part in self.parts(len(bases) - rest):
            groups = on.enter(bases[part])
            everywhere = b"".join(data[part]).ljust(len(groups) * on.lanes * size, b"\0")
            powers += on.leave(on.power(groups, everywhere, each=True), len(bases[part]))
        if self.two is not None and rest:
            both = b"".join(data[-rest:]).ljust(2 * size, b"\0")
            powers += self.two.leave(self.two.power_of_two(self.two.enter(bases[-rest:]), both, each=True), rest)
        return powers

    def _two_of(self, count: int) -> int:
        """Return how many of `count` numbers, the last ones, are left to `two`."""
        rest = count % self.lanes
        return rest if self.two is not None and rest <= 2 else 0

    def fixed_base(self, base: Integer, exponent_bits: int) -> ConstantsFixedBase | NativeFixedBase:
        """Return a table for random powers of `base`, a unit, with exponents of at least `exponent_bits` bits."""
        if self.backend in WITH_CONSTANTS:
            return ConstantsFixedBase(self, base, exponent_bits)
        return NativeFixedBase(self, base, exponent_bits)

    def public_base(self, base: Integer, exponent_bits: int) -> PublicBase:
        """Return `base` mod N for public exponents of at most exponent_bits bits."""
        if self.backend in WITH_POWERS_MOD_N:
            return LanesPublicBase(self, base, exponent_bits)
        return TablePublicBase(base, self.modulus, exponent_bits)

    def pack_group(self, dimension: int) -> NativePackGroup:
        """Return room for `lanes` packs of `dimension` numbers each."""
        return NativePackGroup(self, dimension)

    def compile(self, exponents: Sequence[int], exponent_bits: int) -> bytes:
        """Return what `NativePackGroup.products` takes: a program."""
        return compile_program(exponents, exponent_bits).to_bytes()

    def randomised_products(
        self, asked: Sequence[tuple[PackGroup, Sequence[int]]], compiled: bytes, zeros: FixedBase
    ) -> bytes:
        """Return the products of these lanes of groups, each times a fresh power of `zeros`, as big-endian bytes."""
        products = _products(asked, compiled)
        return _times(products, cast(ConstantsFixedBase | NativeFixedBase, zeros).random_groups(len(products)))

    def products_times(
        self, asked: Sequence[tuple[PackGroup, Sequence[int]]], compiled: bytes, factors: bytes
    ) -> bytes:
        """Return the products of these lanes of groups, each times one of the factors, as big-endian bytes."""
        products, size = _products(asked, compiled), self.number_bytes
        if len(factors) != size * len(products):
            raise ValueError(f"{len(factors)} bytes of factors for {len(products)} products")
        parts = self.parts(len(products))
        read = ((on, on.enter_bytes(factors[size * part.start : size * part.stop]), part) for on, part in parts)
        return _times(products, ((on, groups, part.stop - part.start) for on, groups, part in read))

    def quotients(self, dividends: bytes, divisors: bytes, factor: Integer) -> bytes:
        """Return factor * a / b for the numbers a and b at each place, as big-endian bytes.

        Raises ZeroDivisionError if one of them shares a factor with N.
        """
        return quotients(self, dividends, divisors, factor)

    def grid_product(self, bases: Sequence[Integer], exponents: Grid) -> Integer:
        """Return prod bases[i]^exponents[i], not in constant time: all columns at once, then each to its weight."""
        if len(bases) != len(exponents):
            raise ValueError(f"{len(bases)} bases for {len(exponents)} exponents")
        columns = list(bases) if exponents.rows == (1,) else self._columns(bases, exponents.rows)
        weights = [Integer(weight) for weight in exponents.columns[: len(columns)]]
        return product_mod(self.powers_secret_each(columns, weights), self._square)

    def _columns(self, bases: Sequence[Integer], weights: Sequence[int]) -> list[Integer]:
        """Return prod over rows of base^weight of each column."""
        program = compile_public(weights)
        full = [*bases, *[Integer(1)] * (len(weights) * WIDTH - len(bases))]
        found: list[Integer] = []
        for first in range(0, WIDTH, self.lanes):
            groups = self.enter([x for at in range(first, len(full), WIDTH) for x in full[at : at + self.lanes]])
            if len(program.steps):
                out = self.run(self.compress(groups), self.lanes, 0, program)
            else:
                out = self.ones() if program.result is None else groups[program.result : program.result + 1]
            found += self.leave(out, self.lanes)
        return found


def _products(asked: Sequence[tuple[PackGroup, Sequence[int]]], compiled: bytes) -> Limbs:
    """Return the products of these lanes of groups, one by one."""
    program = Program.from_bytes(compiled)
    return np.concatenate([cast(NativePackGroup, group).run(program, lanes) for group, lanes in asked])


def _times(products: Limbs, factors: Iterable[tuple[Groups, Limbs, int]]) -> bytes:
    """Return the products times these factors, as big-endian bytes. factors: groups, whose, and how many they hold."""
    answer, done = b"", 0
    for on, fresh, size in factors:
        groups = side_by_side(products[done : done + size], on.lanes)
        answer += on.leave_bytes(on.multiply(groups, groups, fresh), size)
        done += size
    return answer


def _size(exponent: Integer) -> int:
    return (exponent.bit_length() + 7) // 8


@cache
def few_are_faster(backend: str, few: str, modulus_bits: int) -> bool:
    """Return whether a product of one group on `few` takes clearly less time than on `backend`.

    Takes some ten milliseconds of CPU time, which is what counts: all daemons of a machine may start at once.
    """
    modulus = (Integer(1) << modulus_bits) - 1
    rings = [Groups(modulus, name) for name in (few, backend)]
    numbers = [ring.enter([modulus] * (_PRODUCTS * ring.lanes)) for ring in rings]
    shortest = [float("inf")] * 2
    for _ in range(_TRIALS):  # in turn: what else the machine does meets both
        for i, (ring, groups) in enumerate(zip(rings, numbers, strict=True)):
            started = time.thread_time()
            ring.multiply(groups, groups, groups)
            shortest[i] = min(shortest[i], time.thread_time() - started)
    return shortest[0] < _WORTHWHILE * shortest[1]
