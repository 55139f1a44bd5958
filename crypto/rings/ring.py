"""The batch operations mod N^2, as the scheme uses them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, Self

from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.rings.fixed_base import KnownPower
from veilmatch.crypto.rings.grid import Grid


class PackGroup(Protocol):
    """Packs of D numbers each, side by side in the ring's lanes, for one multi-exponentiation at a time."""

    def put(self, lane: int, pack: Sequence[Integer]) -> None:
        """Keep a pack of D numbers of [0, N^2) in a lane, in place of what was there."""

    def load(self, packs: Mapping[int, bytes]) -> None:
        """Keep packs in their lanes, each D big-endian numbers of 2*|N| bytes, joined. Faster than one by one."""

    def get(self, lane: int) -> list[Integer]:
        """Return the pack of a lane, D zeros if none was put there."""

    def copy(self) -> Self:
        """Return a group with the same packs; what is put into one of the two is not in the other."""

    def products_of_powers(self, exponents: Sequence[int], exponent_bits: int) -> list[Integer]:
        """Return prod pack[i]^exponents[i] of every lane, for D exponents in [0, 2^exponent_bits).

        The number of products does not depend on the exponents (but see `programs.compile_program`).
        The outcome of a lane without a pack means nothing.
        """

    def products(self, compiled: bytes, lanes: Sequence[int]) -> list[Integer]:
        """Return the products of these lanes, at least one, in their order. compiled: what `Ring.compile` returned."""


class FixedBase(Protocol):
    """A table of one base."""

    @property
    def exponent_bits(self) -> int:
        """Exponents are uniform in an interval of 2^exponent_bits: the bits that were asked for, in whole digits."""

    def random_powers(self, count: int) -> list[Integer]:
        """Return base^e for `count` fresh exponents."""

    def known_powers(self, count: int) -> list[KnownPower]:
        """Return what `random_powers` returns, each with its exponent; that is below 2^(bits asked for + 8)."""


class PublicBase(Protocol):
    """One base mod N, for public exponents. Not constant time."""

    def power_over(self, exponent: Integer, divisors: Sequence[Integer], exponents: Sequence[Integer]) -> Integer:
        """Return base^exponent / prod divisors[i]^exponents[i] mod N, for at least one divisor, each in [0, N).

        exponent: in [0, 2^exponent_bits). Raises ZeroDivisionError if a divisor shares a factor with N.
        """


class Ring(Protocol):
    """The integers mod N^2 for an odd N."""

    @property
    def lanes(self) -> int:
        """How many numbers are worked on at the cost of one."""

    @property
    def releases_gil(self) -> bool:
        """Whether threads of one process can work side by side."""

    def powers_secret(self, bases: Sequence[Integer], exponent: Integer) -> list[Integer]:
        """Return base^exponent for every base, in constant time for positive exponents of one bit length."""

    def powers_secret_each(self, bases: Sequence[Integer], exponents: Sequence[Integer]) -> list[Integer]:
        """Return bases[i]^exponents[i] for all i, in constant time for positive exponents of one bit length."""

    def fixed_base(self, base: Integer, exponent_bits: int) -> FixedBase:
        """Return the table of `base`, a unit, for random exponents of at least exponent_bits bits."""

    def public_base(self, base: Integer, exponent_bits: int) -> PublicBase:
        """Return `base` mod N for public exponents of at most exponent_bits bits."""

    def pack_group(self, dimension: int) -> PackGroup:
        """Return room for `lanes` packs of `dimension` numbers each."""

    def compile(self, exponents: Sequence[int], exponent_bits: int) -> bytes:
        """Return what all groups of packs take for these D exponents in [0, 2^exponent_bits), at most 64 bits each.

        As secret as the exponents: it tells them. For a ring of the same backend and D.
        """

    def randomised_products(
        self, asked: Sequence[tuple[PackGroup, Sequence[int]]], compiled: bytes, zeros: FixedBase
    ) -> bytes:
        """Return the products of these lanes of groups of this ring, each times a fresh random power of `zeros`.

        asked: at least one. In their order, each as 2*|N| big-endian bytes, joined.
        """

    def products_times(
        self, asked: Sequence[tuple[PackGroup, Sequence[int]]], compiled: bytes, factors: bytes
    ) -> bytes:
        """Return what `randomised_products` returns with these numbers as factors: one for each product, as it writes
        them, in [0, N^2)."""

    def quotients(self, dividends: bytes, divisors: bytes, factor: Integer) -> bytes:
        """Return factor * a / b for the numbers a and b at each place, at least one, each 2*|N| big-endian bytes.

        Raises ZeroDivisionError if one of them shares a factor with N. Not constant time.
        """

    def grid_product(self, bases: Sequence[Integer], exponents: Grid) -> Integer:
        """Return prod bases[i]^exponents[i] for as many bases as exponents. Not constant time."""
