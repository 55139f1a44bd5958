"""Tables of one base on the native kernel, which read every entry for each digit of a secret exponent."""

from __future__ import annotations

import secrets

import numpy as np

from veilmatch.crypto.arithmetic import Integer, from_little_endian
from veilmatch.crypto.rings.fixed_base import KnownPower, shift_of
from veilmatch.crypto.rings.native.groups import Groups
from veilmatch.crypto.rings.native.limbs import Limbs, empty, one_by_one, side_by_side

_DIGIT_BITS = 6


class NativeFixedBase:
    """Random powers of one base, from a table that is read whole for every digit: nothing of the exponent leaks.

    Exponents are sums of digits of 6 bits taken from 1..64, see `fixed_base.py`.
    """

    def __init__(self, ring: Groups, base: Integer, exponent_bits: int) -> None:
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
        return [power for on, groups, size in self.random_groups(count) for power in on.leave(groups, size)]

    def random_groups(self, count: int) -> list[tuple[Groups, Limbs, int]]:
        """Return what `random_powers` returns as groups, by `Groups.parts`: whose they are, and how many they hold."""
        return [(on, self._powers(on, self._draw(on, size)), size) for on, size in self._parts(count)]

    def known_powers(self, count: int) -> list[KnownPower]:
        """Return what `random_powers` returns, each with its e."""
        known: list[KnownPower] = []
        for on, size in self._parts(count):
            digits = self._draw(on, size)
            powers = on.leave(self._powers(on, digits), size)
            known += map(KnownPower, powers, self._exponents(digits, size))
        return known

    def _parts(self, count: int) -> list[tuple[Groups, int]]:
        return [(on, part.stop - part.start) for on, part in self._ring.parts(count)]

    def _draw(self, on: Groups, count: int) -> Limbs:
        """Return fresh digits, uint64[rows, groups, lanes]; a digit d stands for d + 1."""
        rows, _, _, entries = self._table.shape
        shape = rows, -(-count // on.lanes), on.lanes
        digits = empty(shape)
        random = np.frombuffer(secrets.token_bytes(int(np.prod(shape))), dtype=np.uint8)
        digits[...] = random.reshape(shape) & (entries - 1)
        return digits

    def _powers(self, on: Groups, digits: Limbs) -> Limbs:
        out = empty(on.group_shape(digits.shape[1]))
        on.select_and_multiply(out, self._table, digits)
        return out

    def _exponents(self, digits: Limbs, count: int) -> list[Integer]:
        rows = len(digits)
        numbers = digits.reshape(rows, -1).T[:count].astype(np.uint8)
        bits = np.unpackbits(numbers[:, :, None], axis=2, count=_DIGIT_BITS, bitorder="little")
        data = np.packbits(bits.reshape(count, rows * _DIGIT_BITS), axis=1, bitorder="little")
        shift = shift_of(rows, _DIGIT_BITS)
        return [from_little_endian(row.tobytes()) + shift for row in data]
