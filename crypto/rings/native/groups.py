"""Numbers mod N^2 side by side in the lanes of one backend of the kernel, in pair form.

A number x mod N^2 is kept as x0 + x1*N in Montgomery form (crypto/kernel/kernel.h). It enters and leaves
as bytes, through one or two products; between them nothing is converted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from veilmatch.crypto import _kernel
from veilmatch.crypto.arithmetic import Integer, from_bytes, invert, to_bytes
from veilmatch.crypto.rings.native.limbs import (
    Constants,
    Limbs,
    Rows,
    empty,
    empty_bytes,
    side_by_side,
    to_limbs,
)
from veilmatch.crypto.rings.programs import Program

#: The backends that raise numbers mod N alone.
WITH_POWERS_MOD_N = ("ifma", "ifma4", "avx2")
#: In lanes the kernel works in two halves of whole tiles of 5 limbs.
_LIMBS_STEP = 10
#: R > 64 N keeps results below 2N without a subtraction.
_HEADROOM_BITS = 6
#: Bytes after the last row that the kernel may read.
_ROW_SLACK = 64


class Product(NamedTuple):
    """The number (x + e*N) * (1 + log*N) mod N^2, nothing of it reduced. log: the sum of all l of constants.h."""

    x: Integer
    e: Integer
    log: Integer


class Groups:
    """Groups of `lanes` integers mod N^2, N odd, on one backend. Threads may share it.

    few: a backend with fewer lanes and limbs of the same size, for what would leave most lanes empty; None if there is
    none, or none that is faster at it.
    """

    def __init__(self, modulus: Integer, backend: str, few: str | None = None) -> None:
        self.backend = backend
        self.lanes, self._limb_bits = {name: sizes for name, *sizes in _kernel.backends()}[backend]
        self.modulus, self._square = modulus, modulus**2
        step = _LIMBS_STEP if self.lanes > 1 else 1
        self._limbs = -(-(modulus.bit_length() + _HEADROOM_BITS) // (step * self._limb_bits)) * step
        #: R of the Montgomery form, and what a part of a number is below.
        self.radix = R = Integer(1) << (self._limbs * self._limb_bits)
        self._ring = self._describe(R)
        factors = [self._in_every_lane(R**exponent % self._square) for exponent in (2, 3)]
        self._enter_factors = empty(self.group_shape(2))
        self._enter_factors[:1], self._enter_factors[1:] = factors
        #: Of a number mod N^2, big-endian.
        self.number_bytes = (self._square.bit_length() + 7) // 8
        self.few = None if few is None else Groups(modulus, few)

    def parts(self, count: int) -> list[tuple[Groups, slice]]:
        """Return who works on which of `count` numbers: `few` on a last group that it can take whole."""
        rest = count % self.lanes
        last = self.few if self.few is not None and rest <= self.few.lanes else self
        whole = count - rest if last is not self else 0
        parts = [(self, slice(0, whole)), (last, slice(whole, count))]
        return [(on, part) for on, part in parts if part.stop > part.start]

    def enter(self, numbers: Sequence[Integer]) -> Limbs:
        """Return groups that hold the numbers, each in [0, N^2), in Montgomery form."""
        return self.enter_bytes(b"".join(to_bytes(x, self.number_bytes) for x in numbers))

    def enter_bytes(self, numbers: bytes) -> Limbs:
        """Return what `enter` returns for numbers of `number_bytes` big-endian bytes each, joined."""
        groups = empty(self.group_shape(-(-len(numbers) // (self.number_bytes * self.lanes))))
        _kernel.enter(self.backend, self._ring, groups, self._enter_factors, self.number_bytes, numbers)
        return groups

    def leave(self, groups: Limbs, count: int) -> list[Integer]:
        """Return the first `count` numbers of groups in Montgomery form, at least one of the last group."""
        data, size = self.leave_bytes(groups, count), self.number_bytes
        return [from_bytes(data[at : at + size]) for at in range(0, len(data), size)]

    def leave_bytes(self, groups: Limbs, count: int) -> bytes:
        """Return what `leave` returns, each number in `number_bytes` big-endian bytes, joined."""
        numbers = bytearray(count * self.number_bytes)
        _kernel.leave(self.backend, self._ring, numbers, self.number_bytes, groups)
        return bytes(numbers)

    def multiply(self, out: Limbs, a: Limbs, b: Limbs) -> Limbs:
        """Write a * b to `out`, which may be `a`, and return it. b: as many groups as a, or one for all."""
        _kernel.multiply(self.backend, self._ring, out, a, b)
        return out

    def square(self, out: Limbs, a: Limbs) -> Limbs:
        """Write a^2 to `out`, which may be `a`, and return it."""
        _kernel.square(self.backend, self._ring, out, a)
        return out

    def compress(self, groups: Limbs, rows: Rows | None = None) -> Rows:
        """Return the groups as they rest in memory, see crypto/kernel/kernel.h; in `rows` if given."""
        if rows is None:
            size = 2 * self._limbs * self.lanes * self._limb_bits // 8
            rows = empty_bytes(len(groups) * size + _ROW_SLACK)
        _kernel.compress(self.backend, self._ring, rows, groups)
        return rows

    def expand(self, rows: Rows, count: int) -> Limbs:
        """Return the `count` groups that rest in rows."""
        groups = empty(self.group_shape(count))
        _kernel.expand(self.backend, self._ring, groups, rows)
        return groups

    def run(self, rows: Rows, row_lanes: int, lane: int, program: Program) -> Limbs:
        """Return the group that a program with steps makes of bases that rest in rows.

        row_lanes: numbers in a row, which another backend with limbs of the same size may have compressed. The lanes
        from `lane` on are read; both are multiples of this backend's.
        """
        out = empty(self.group_shape(1))
        _kernel.run(self.backend, self._ring, out, rows, row_lanes, lane, program.steps)
        return out

    def power(self, groups: Limbs, exponents: bytes, *, each: bool) -> Limbs:
        """Raise groups in their place and return them. exponents: little-endian, one for all or one for each number.

        Constant time for exponents of one size.
        """
        _kernel.power(self.backend, self._ring, groups, groups, each, exponents)
        return groups

    def power_mod_n(self, groups: Limbs, exponents: bytes) -> Limbs:
        """Do what `power` does with an exponent for each number, but mod N: what comes out is right mod N alone.

        In two thirds of the time. Only backends in WITH_POWERS_MOD_N can.
        """
        _kernel.power_mod_n(self.backend, self._ring, groups, groups, True, exponents)
        return groups

    def power_of_two(self, group: Limbs, exponents: bytes, *, each: bool) -> Limbs:
        """Do what `power` does to the first two numbers of one group. Only ifma4 can."""
        _kernel.power_of_two(self.backend, self._ring, group, group, each, exponents)
        return group

    def select_and_multiply(self, out: Limbs, table: Limbs, digits: Limbs) -> None:
        """Write prod over rows of table[row, :, :, digits[row, group, lane]] to every lane of the groups `out`.

        table: uint64[rows, 2, n, entries], one number an entry. Takes the same time for all digits.
        """
        rows, _, _, entries = table.shape
        _kernel.select_and_multiply(self.backend, self._ring, out, table, rows, entries, digits)

    def constants(self, parts: Sequence[Integer]) -> Constants:
        """Return numbers below R as words of a table of constants, [number, limb]."""
        limbs = to_limbs(parts, self._limbs, self._limb_bits)
        return limbs.astype(np.uint32) if self._limb_bits <= 32 else limbs

    def multiply_constants(self, table: Constants, pieces: int, digits: Limbs) -> list[Product]:
        """Return prod over rows of table[row, :, digits[row, group, lane]] of every lane. Only some backends can.

        table: [rows, 3 * n, 64] with the limbs of y, floor(y*R/N) and log of a number y*(1 + log*N) each. If `pieces`
        is not 1, every number has so many lanes, side by side: the i-th has the i-th part of all rows. Takes the same
        time for all digits.
        """
        rows = len(table)
        size = self._limbs * self._limb_bits // 8
        data = bytearray(4 * digits.shape[1] * self.lanes * size)
        _kernel.multiply_constants(self.backend, self._ring, data, table, rows, pieces, digits)
        parts = [from_bytes(bytes(data[at : at + size])) for at in range(0, len(data), size)]
        products: list[Product] = []
        for at in range(0, len(parts), 4 * self.lanes):
            pairs, sums = parts[at : at + 2 * self.lanes], parts[at + 2 * self.lanes : at + 4 * self.lanes]
            for e, x, carried, low in zip(pairs[::2], pairs[1::2], sums[::2], sums[1::2], strict=True):
                products.append(Product(x, e, low + carried * self.radix))
        return products

    def group_shape(self, count: int) -> tuple[int, int, int, int]:
        """Return the shape of `count` groups."""
        return count, 2, self._limbs, self.lanes

    def _pairs(self, numbers: Sequence[Integer]) -> Limbs:
        parts = [part for x in numbers for part in reversed(divmod(x, self.modulus))]
        return to_limbs(parts, self._limbs, self._limb_bits).reshape(-1, 2, self._limbs)

    def _in_every_lane(self, x: Integer) -> Limbs:
        return side_by_side(np.repeat(self._pairs([x]), self.lanes, axis=0), self.lanes)

    def ones(self) -> Limbs:
        """Return the group of ones."""
        one = self._ring[1 + self._limbs :].reshape(1, 2, self._limbs)
        return side_by_side(np.repeat(one, self.lanes, axis=0), self.lanes)

    def _describe(self, R: Integer) -> Limbs:
        """Return -N^-1, N and R mod N^2, as the kernel reads them."""
        N, n, bits = self.modulus, self._limbs, self._limb_bits
        words = np.zeros(1 + 3 * n, dtype=np.uint64)
        words[0] = int(-invert(N, Integer(1) << bits) % (1 << bits))
        words[1 : 1 + n] = to_limbs([N], n, bits)
        words[1 + n :] = self._pairs([R % self._square]).reshape(-1)
        return words
