"""Tables of one base whose products need no Montgomery form: faster than `tables.py`, where the kernel has them.

An entry is y*(1 + log*N) mod N^2, kept as y, its quotient floor(y*R/N) and log (crypto/kernel/constants.h). The
kernel returns x + e*N and the sum of the logs, from which a power is made here. Every entry of a row is read for each
digit of a secret exponent. Where half of the lanes or more would be empty in the last group, a number has several: the
rows are shared between these, and what they make is multiplied.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from veilmatch.crypto.arithmetic import Integer, from_little_endian, invert
from veilmatch.crypto.rings.fixed_base import KnownPower, shift_of
from veilmatch.crypto.rings.native.groups import Groups, Product
from veilmatch.crypto.rings.native.limbs import Constants, Limbs, empty, empty_bytes
from veilmatch.crypto.rings.pairs import Pairs

_DIGIT_BITS = 6
_ENTRIES = 1 << _DIGIT_BITS
#: y, floor(y*R/N), log
_Entry = tuple[Integer, Integer, Integer]
_Digits = npt.NDArray[np.uint8]


class ConstantsFixedBase:
    """Random powers of one base, from a table that is read whole for every digit: nothing of the exponent leaks.

    base: a unit mod N. Exponents are sums of digits of 6 bits taken from 1..64, see `fixed_base.py`. Threads may
    share it.
    """

    def __init__(self, ring: Groups, base: Integer, exponent_bits: int) -> None:
        self._ring = ring
        self._rows = -(-exponent_bits // _DIGIT_BITS)
        self.exponent_bits = self._rows * _DIGIT_BITS
        self._pairs = Pairs(ring.modulus)
        # Lanes that share a number have as many rows each: those that are missing are of ones.
        spare = -self._rows % ring.lanes
        rows = [*_multiples(base, self._rows, ring), *[_ones(ring)] * spare]
        words = [ring.constants([part for entry in row for part in entry]).reshape(_ENTRIES, -1).T for row in rows]
        table = empty_bytes(len(rows) * words[0].nbytes).view(words[0].dtype)
        self._table: Constants = table.reshape(len(rows), *words[0].shape)
        np.stack(words, out=self._table)

    def random_powers(self, count: int) -> list[Integer]:
        """Return base^e for `count` fresh uniform exponents."""
        return self._powers(self._draw(count))

    def random_groups(self, count: int) -> list[tuple[Groups, Limbs, int]]:
        """Return what `random_powers` returns as groups, by `Groups.parts`: whose they are, and how many they hold."""
        powers = self.random_powers(count)
        parts = self._ring.parts(count)
        return [(on, on.enter(powers[part]), part.stop - part.start) for on, part in parts]

    def known_powers(self, count: int) -> list[KnownPower]:
        """Return what `random_powers` returns, each with its e."""
        digits = self._draw(count)
        bits = np.unpackbits(digits.T[:, :, None], axis=2, count=_DIGIT_BITS, bitorder="little")
        data = np.packbits(bits.reshape(count, self.exponent_bits), axis=1, bitorder="little")
        shift = shift_of(self._rows, _DIGIT_BITS)
        exponents = [from_little_endian(row.tobytes()) + shift for row in data]
        return list(map(KnownPower, self._powers(digits), exponents))

    def _draw(self, count: int) -> _Digits:
        """Return fresh digits, uint8[rows, count]; a digit d stands for d + 1."""
        random = np.frombuffer(secrets.token_bytes(self._rows * count), dtype=np.uint8)
        digits: _Digits = random.reshape(self._rows, count) & np.uint8(_ENTRIES - 1)
        return digits

    def _powers(self, digits: _Digits) -> list[Integer]:
        """Return the power of each column of digits."""
        count, lanes = digits.shape[1], self._ring.lanes
        rest = count % lanes
        width = 1 << max(0, rest - 1).bit_length()  # places for the last ones, which share the lanes of one group
        if rest and width < lanes:
            last = self._share(digits[:, count - rest :], width, lanes // width)
            return self._share(digits[:, : count - rest], lanes, 1) + last
        return self._share(digits, lanes, 1)

    def _share(self, digits: _Digits, width: int, pieces: int) -> list[Integer]:
        """Return the power of each column of digits, `width` of them in a group and so many lanes for each."""
        ring, count = self._ring, digits.shape[1]
        if not count:
            return []
        rows, places = self._rows if pieces == 1 else len(self._table), -(-count // width) * width
        everywhere = np.zeros((rows, places), dtype=np.uint8)
        everywhere[: self._rows, :count] = digits
        words = empty((rows // pieces, places // width, ring.lanes))
        words[...] = everywhere.reshape(pieces, -1, places).transpose(1, 2, 0).reshape(words.shape)
        products = ring.multiply_constants(self._table[:rows], pieces, words)[: count * pieces]
        return [self._joined(products[at : at + pieces]) for at in range(0, len(products), pieces)]

    def _joined(self, products: Sequence[Product]) -> Integer:
        """Return the product of these, mod N^2."""
        N, pairs = self._ring.modulus, self._pairs
        (x, e, log), *others = products
        for product in others:
            x, e = pairs.multiply((x, e), (product.x, product.e))
            log += product.log
        carried, low = divmod(x, N)
        return pairs.join((low, (e + carried + low * log) % N))


def _ones(ring: Groups) -> list[_Entry]:
    return [(Integer(1), ring.radix // ring.modulus, Integer(0))] * _ENTRIES


def _multiples(base: Integer, rows: int, ring: Groups) -> list[list[_Entry]]:
    """Return base^d, base^(2^6 * d), ... for d from 1 to 2^6 as rows of entries."""
    N, R, pairs = ring.modulus, ring.radix, Pairs(ring.modulus)
    first, inverse = pairs.split(base), invert(base % N, N)
    found: list[list[_Entry]] = []
    for _ in range(rows):
        power, inverse_power, row = pairs.one, Integer(1), []
        for _ in range(_ENTRIES):
            power, inverse_power = pairs.multiply(power, first), inverse_power * inverse % N
            y, high = power
            row.append((y, y * R // N, high * inverse_power % N))
        found.append(row)
        first, inverse = power, inverse_power
    return found
