"""Powers of one fixed base with secret exponents, by a table of its small multiples.

Exponents are sums of 8-bit digits, each taken from 1..256 rather than 0..255. A row then never
holds the neutral element and every exponent costs the same multiplications. The shift by
(256^rows - 1)/255 moves the interval of a uniform exponent and changes nothing else.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from veilmatch.crypto.arithmetic import Integer, from_little_endian
from veilmatch.crypto.rings.pairs import Pair, Pairs
from veilmatch.crypto.secret_access import SecretHolder

_DIGIT_BITS = 8
#: Exponents of a table for n bits are below 2^(n + 8), on every backend: n is rounded up to whole digits, of at
#: most 8 bits, and the shift adds less than 1 bit.
ROUNDING_BITS = 8


@dataclass(frozen=True, slots=True, repr=False)
class KnownPower(SecretHolder):
    """A power with its exponent. value: base^exponent mod N^2; exponent: secret."""

    value: Integer
    exponent: Integer


def shift_of(rows: int, digit_bits: int) -> Integer:
    """Return what digits from 1 up add to the exponent of digits from 0 up: a one in every row."""
    return ((Integer(1) << (rows * digit_bits)) - 1) // ((1 << digit_bits) - 1)


class FixedBaseTable:
    """base^e mod N^2 for uniform secret e of at least `exponent_bits` bits.

    Takes 256 * exponent_bits / 8 multiplications to build; the table has as many elements
    (16 MB and 0.3 s for 640-bit exponents mod N^2 of 6144 bits).
    """

    def __init__(self, base: Integer, pairs: Pairs, exponent_bits: int) -> None:
        self._pairs = pairs
        self.exponent_bits = -(-exponent_bits // _DIGIT_BITS) * _DIGIT_BITS
        self._rows: list[list[Pair]] = []
        first = pairs.split(base)
        for _ in range(self.exponent_bits // _DIGIT_BITS):
            row = [first]
            for _ in range((1 << _DIGIT_BITS) - 1):
                row.append(pairs.multiply(row[-1], first))
            self._rows.append(row)
            first = row[-1]  # base^256

    def random_powers(self, count: int) -> list[Integer]:
        """Return base^e for `count` fresh uniform e of 8 * rows bits (shifted, see above), a product a row."""
        return [self._power(secrets.token_bytes(len(self._rows))) for _ in range(count)]

    def known_powers(self, count: int) -> list[KnownPower]:
        """Return what `random_powers` returns, each with its e."""
        shift = shift_of(len(self._rows), _DIGIT_BITS)
        drawn = [secrets.token_bytes(len(self._rows)) for _ in range(count)]
        return [KnownPower(self._power(digits), from_little_endian(digits) + shift) for digits in drawn]

    def _power(self, digits: bytes) -> Integer:
        power = self._pairs.one
        for row, digit in zip(self._rows, digits, strict=True):
            power = self._pairs.multiply(power, row[digit])
        return self._pairs.join(power)
