"""The batch operations mod N^2, as the scheme uses them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.rings.fixed_base import KnownPower


class PackGroup(Protocol):
    """Packs of D numbers each, side by side in the ring's lanes, for one multi-exponentiation at a time."""

    def put(self, lane: int, pack: Sequence[Integer]) -> None:
        """Keep a pack of D numbers of [0, N^2) in a lane, in place of what was there."""

    def get(self, lane: int) -> list[Integer]:
        """Return the pack of a lane, D zeros if none was put there."""

    def products_of_powers(self, exponents: Sequence[int], exponent_bits: int) -> list[Integer]:
        """Return prod pack[i]^exponents[i] of every lane, for D exponents in [0, 2^exponent_bits).

        The number of products does not depend on the exponents (but see `programs.compile_program`).
        The outcome of a lane without a pack means nothing.
        """


class FixedBase(Protocol):
    """A table of one base."""

    @property
    def exponent_bits(self) -> int:
        """Exponents are uniform in an interval of 2^exponent_bits: the bits that were asked for, in whole digits."""

    def random_powers(self, count: int) -> list[Integer]:
        """Return base^e for `count` fresh exponents."""

    def known_powers(self, count: int) -> list[KnownPower]:
        """Return what `random_powers` returns, each with its exponent; that is below 2^(bits asked for + 8)."""


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
        """Return the table of `base` for random exponents of at least exponent_bits bits."""

    def pack_group(self, dimension: int) -> PackGroup:
        """Return room for `lanes` packs of `dimension` numbers each."""

    def products_of_powers(
        self, groups: Sequence[PackGroup], exponents: Sequence[int], exponent_bits: int
    ) -> list[list[Integer]]:
        """Return what `PackGroup.products_of_powers` returns for each of these groups of this ring, faster."""
