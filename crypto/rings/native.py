"""Arithmetic mod N^2 by the native kernel: several numbers at a time, in pair form.

A number x mod N^2 is kept as x0 + x1*N in Montgomery form (crypto/kernel/kernel.h). It enters and leaves
as an integer, through one division by N and one product; between them nothing is converted.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import cast

import numpy as np

from veilmatch.crypto import _kernel
from veilmatch.crypto.arithmetic import Integer, from_little_endian, invert, to_little_endian
from veilmatch.crypto.rings.fixed_base import KnownPower, shift_of
from veilmatch.crypto.rings.limbs import (
    Limbs,
    Rows,
    empty,
    empty_bytes,
    from_limbs,
    one_by_one,
    side_by_side,
    to_limbs,
)
from veilmatch.crypto.rings.programs import Program, compile_program
from veilmatch.crypto.rings.ring import PackGroup

#: The kernel works in two halves of whole tiles of 5 limbs.
_LIMBS_STEP = 10
#: R > 64 N keeps results below 2N without a subtraction.
_HEADROOM_BITS = 6
_DIGIT_BITS = 6
#: Bytes after the last row that the kernel may read.
_ROW_SLACK = 64


class NativeRing:
    """The integers mod N^2, N odd, on one backend of the kernel. Threads may share it."""

    releases_gil = True

    def __init__(self, modulus: Integer, backend: str) -> None:
        self.backend = backend
        self.lanes, self._limb_bits = {name: sizes for name, *sizes in _kernel.backends()}[backend]
        self._modulus, self._square = modulus, modulus**2
        step = _LIMBS_STEP * self._limb_bits
        self._limbs = -(-(modulus.bit_length() + _HEADROOM_BITS) // step) * _LIMBS_STEP
        R = Integer(1) << (self._limbs * self._limb_bits)
        self._ring = self._describe(R)
        # Multiplying by R^2 brings a number into Montgomery form, by 1 out of it.
        self._enter_factor = self._in_every_lane(R**2 % self._square)
        self._leave_factor = self._in_every_lane(Integer(1))

    def powers_secret(self, bases: Sequence[Integer], exponent: Integer) -> list[Integer]:
        """Return base^exponent for every base, in constant time for exponents of one length in bytes."""
        if not bases:
            return []
        groups = self.enter(bases)
        _kernel.power(self.backend, self._ring, groups, groups, False, to_little_endian(exponent, _size(exponent)))
        return self.leave(groups, len(bases))

    def powers_secret_each(self, bases: Sequence[Integer], exponents: Sequence[Integer]) -> list[Integer]:
        """Return bases[i]^exponents[i], in constant time for exponents of one length in bytes."""
        if not bases:
            return []
        groups, size = self.enter(bases), max(map(_size, exponents))
        data = b"".join(to_little_endian(exponent, size) for _, exponent in zip(bases, exponents, strict=True))
        everywhere = data.ljust(len(groups) * self.lanes * size, b"\0")
        _kernel.power(self.backend, self._ring, groups, groups, True, everywhere)
        return self.leave(groups, len(bases))

    def fixed_base(self, base: Integer, exponent_bits: int) -> NativeFixedBase:
        """Return a table for random powers of `base` with exponents of at least `exponent_bits` bits."""
        return NativeFixedBase(self, base, exponent_bits)

    def pack_group(self, dimension: int) -> NativePackGroup:
        """Return room for `lanes` packs of `dimension` numbers each."""
        return NativePackGroup(self, dimension)

    # -- groups --------------------------------------------------------------------------------

    def enter(self, numbers: Sequence[Integer]) -> Limbs:
        """Return groups that hold the numbers, each in [0, N^2), in Montgomery form."""
        groups = side_by_side(self._pairs(numbers), self.lanes)
        return self.multiply(groups, groups, self._enter_factor)

    def leave(self, groups: Limbs, count: int) -> list[Integer]:
        """Return the first `count` numbers of groups in Montgomery form."""
        plain = self.multiply(empty(groups.shape), groups, self._leave_factor)
        values = from_limbs(one_by_one(plain, count).reshape(2 * count, self._limbs), self._limb_bits)
        parts = zip(values[::2], values[1::2], strict=True)
        return [(low + high * self._modulus) % self._square for low, high in parts]

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

    def products_of_powers(
        self, groups: Sequence[PackGroup], exponents: Sequence[int], exponent_bits: int
    ) -> list[list[Integer]]:
        """Return prod pack[i]^exponents[i] of every lane of every group; one program serves all."""
        program = compile_program(exponents, exponent_bits)
        return [cast(NativePackGroup, group).run(program) for group in groups]

    def run(self, rows: Rows, count: int, program: Program) -> Limbs:
        """Return the group that a program makes of `count` bases that rest in rows."""
        if len(program.steps):
            out = empty(self.group_shape(1))
            _kernel.run(self.backend, self._ring, out, rows, program.steps)
            return out
        if program.result is None:
            return self._ones()
        bases: Limbs = self.expand(rows, count)
        return bases[program.result : program.result + 1]

    def select_and_multiply(self, out: Limbs, table: Limbs, digits: Limbs) -> None:
        """Write prod over rows of table[row, :, :, digits[row, group, lane]] to every lane of the groups `out`.

        table: uint64[rows, 2, n, entries], one number an entry. Takes the same time for all digits.
        """
        rows, _, _, entries = table.shape
        _kernel.select_and_multiply(self.backend, self._ring, out, table, rows, entries, digits)

    def group_shape(self, count: int) -> tuple[int, int, int, int]:
        """Return the shape of `count` groups."""
        return count, 2, self._limbs, self.lanes

    def _pairs(self, numbers: Sequence[Integer]) -> Limbs:
        parts = [part for x in numbers for part in reversed(divmod(x, self._modulus))]
        return to_limbs(parts, self._limbs, self._limb_bits).reshape(-1, 2, self._limbs)

    def _in_every_lane(self, x: Integer) -> Limbs:
        return side_by_side(np.repeat(self._pairs([x]), self.lanes, axis=0), self.lanes)

    def _ones(self) -> Limbs:
        one = self._ring[1 + self._limbs :].reshape(1, 2, self._limbs)
        return side_by_side(np.repeat(one, self.lanes, axis=0), self.lanes)

    def _describe(self, R: Integer) -> Limbs:
        """Return -N^-1, N and R mod N^2, as the kernel reads them."""
        N, n, bits = self._modulus, self._limbs, self._limb_bits
        words = np.zeros(1 + 3 * n, dtype=np.uint64)
        words[0] = int(-invert(N, Integer(1) << bits) % (1 << bits))
        words[1 : 1 + n] = to_limbs([N], n, bits)
        words[1 + n :] = self._pairs([R % self._square]).reshape(-1)
        return words


def _size(exponent: Integer) -> int:
    return (exponent.bit_length() + 7) // 8


class NativePackGroup:
    """As many packs as there are lanes, side by side and compressed. An empty lane holds zeros."""

    def __init__(self, ring: NativeRing, dimension: int) -> None:
        self._ring = ring
        self._dimension = dimension
        nothing = empty(ring.group_shape(dimension))
        nothing[...] = 0
        self._rows = ring.compress(nothing)

    def put(self, lane: int, pack: Sequence[Integer]) -> None:
        """Keep a pack of D numbers in a lane."""
        groups = self._ring.expand(self._rows, self._dimension)
        groups[:, :, :, lane] = one_by_one(self._ring.enter(pack), len(pack))
        self._ring.compress(groups, self._rows)

    def get(self, lane: int) -> list[Integer]:
        """Return the pack of a lane."""
        values = np.ascontiguousarray(self._ring.expand(self._rows, self._dimension)[:, :, :, lane])
        return self._ring.leave(side_by_side(values, self._ring.lanes), self._dimension)

    def products_of_powers(self, exponents: Sequence[int], exponent_bits: int) -> list[Integer]:
        """Return prod pack[i]^exponents[i] of every lane, 0 for an empty one; 0 <= exponents[i] < 2^exponent_bits."""
        return self.run(compile_program(exponents, exponent_bits))

    def run(self, program: Program) -> list[Integer]:
        """Return what a program makes of the pack of every lane."""
        return self._ring.leave(self._ring.run(self._rows, self._dimension, program), self._ring.lanes)


class NativeFixedBase:
    """Random powers of one base, from a table that is read whole for every digit: nothing of the exponent leaks.

    Exponents are sums of digits of 6 bits taken from 1..64, see `fixed_base.py`.
    """

    def __init__(self, ring: NativeRing, base: Integer, exponent_bits: int) -> None:
        self._ring = ring
        rows = -(-exponent_bits // _DIGIT_BITS)
        self.exponent_bits = rows * _DIGIT_BITS
        entries = 1 << _DIGIT_BITS
        starts = ring.enter([base] * rows)  # becomes base^(entries^row), then its multiples
        numbers = one_by_one(starts, rows)
        power = ring.enter([base])
        for row in range(1, rows):
            for _ in range(_DIGIT_BITS):
                ring.square(power, power)
            numbers[row] = one_by_one(power, 1)[0]
        starts = side_by_side(numbers, ring.lanes)
        multiples = side_by_side(numbers, ring.lanes)
        self._table = empty((*numbers.shape, entries))
        for entry in range(entries):
            if entry:
                ring.multiply(multiples, multiples, starts)
            self._table[..., entry] = one_by_one(multiples, rows)

    def random_powers(self, count: int) -> list[Integer]:
        """Return base^e for `count` fresh uniform exponents."""
        return self._powers(self._draw(count), count)

    def known_powers(self, count: int) -> list[KnownPower]:
        """Return what `random_powers` returns, each with its e."""
        digits = self._draw(count)
        return list(map(KnownPower, self._powers(digits, count), self._exponents(digits, count)))

    def _draw(self, count: int) -> Limbs:
        """Return fresh digits, uint64[rows, groups, lanes]; a digit d stands for d + 1."""
        rows, _, _, entries = self._table.shape
        groups, lanes = -(-count // self._ring.lanes), self._ring.lanes
        digits = empty((rows, groups, lanes))
        random = np.frombuffer(secrets.token_bytes(rows * groups * lanes), dtype=np.uint8)
        digits[...] = random.reshape(rows, groups, lanes) & (entries - 1)
        return digits

    def _powers(self, digits: Limbs, count: int) -> list[Integer]:
        out = empty(self._ring.group_shape(digits.shape[1]))
        self._ring.select_and_multiply(out, self._table, digits)
        return self._ring.leave(out, count)

    def _exponents(self, digits: Limbs, count: int) -> list[Integer]:
        rows = len(digits)
        numbers = digits.reshape(rows, -1).T[:count].astype(np.uint8)
        bits = np.unpackbits(numbers[:, :, None], axis=2, count=_DIGIT_BITS, bitorder="little")
        data = np.packbits(bits.reshape(count, rows * _DIGIT_BITS), axis=1, bitorder="little")
        shift = shift_of(rows, _DIGIT_BITS)
        return [from_little_endian(row.tobytes()) + shift for row in data]
