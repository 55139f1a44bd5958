"""Powers of one fixed base with secret exponents, by a table of its small multiples.

Exponents are sums of 8-bit digits, each taken from 1..256 rather than 0..255. A row then never
holds the neutral element and every exponent costs the same multiplications. The shift by
(256^rows - 1)/255 moves the interval of a uniform exponent and changes nothing else.
"""

from __future__ import annotations

import secrets

from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.rings.pairs import Pair, Pairs

_DIGIT_BITS = 8


class FixedBaseTable:
    """base^e mod N^2 for uniform secret e of at least `exponent_bits` bits.

    Takes 256 * exponent_bits / 8 multiplications to build; the table has as many elements
    (16 MB and 0.3 s for 640-bit exponents mod N^2 of 6144 bits).
    """

    def __init__(self, base: Integer, pairs: Pairs, exponent_bits: int) -> None:
        self._pairs = pairs
        self._rows: list[list[Pair]] = []
        first = pairs.split(base)
        for _ in range(-(-exponent_bits // _DIGIT_BITS)):
            row = [first]
            for _ in range((1 << _DIGIT_BITS) - 1):
                row.append(pairs.multiply(row[-1], first))
            self._rows.append(row)
            first = row[-1]  # base^256

    def random_powers(self, count: int) -> list[Integer]:
        """Return base^e for `count` fresh uniform e of 8 * rows bits (shifted, see above), a product a row."""
        return [self._power(secrets.token_bytes(len(self._rows))) for _ in range(count)]

    def _power(self, digits: bytes) -> Integer:
        power = self._pairs.one
        for row, digit in zip(self._rows, digits, strict=True):
            power = self._pairs.multiply(power, row[digit])
        return self._pairs.join(power)
