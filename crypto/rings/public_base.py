"""Powers of one fixed base with public exponents, by a table of its multiples. Not constant time.

With digits of w bits, base^e is a product of one table entry a digit (Brickell, Gordon, McCurley, Wilson, EUROCRYPT
'92, with every multiple kept): 160 products for 960 bits in the place of some 1,150. Where the kernel has lanes,
native/public_base.py is faster.
"""

from __future__ import annotations

from collections.abc import Sequence

from veilmatch.crypto.arithmetic import Integer, invert, power
from veilmatch.crypto.rings.multiexp import product_of_public_powers

_DIGIT_BITS = 6


class TablePublicBase:
    """base^e mod modulus for public e, by the table for the lowest `exponent_bits` bits of e.

    Takes 64 products a digit to build; the table has as many numbers (4 MB and 0.03 s for 930 bits and a modulus of
    3072). Threads may share it.
    """

    def __init__(self, base: Integer, modulus: Integer, exponent_bits: int) -> None:
        self._modulus = modulus
        self._rows: list[list[Integer]] = []
        first = base % modulus
        for _ in range(-(-exponent_bits // _DIGIT_BITS)):
            row = [Integer(1) % modulus]
            for _ in range(1 << _DIGIT_BITS):
                row.append(row[-1] * first % modulus)
            first = row.pop()
            self._rows.append(row)
        self._next = first  # base^(2^(bits of all rows))

    def power(self, exponent: Integer) -> Integer:
        """Return base^exponent mod modulus for exponent >= 0."""
        modulus, mask = self._modulus, (1 << _DIGIT_BITS) - 1
        product, rest = Integer(1) % modulus, exponent
        for row in self._rows:
            digit = int(rest & mask)
            if digit:
                product = product * row[digit] % modulus
            rest >>= _DIGIT_BITS
        return product * power(self._next, rest, modulus) % modulus if rest else product

    def power_over(self, exponent: Integer, divisors: Sequence[Integer], exponents: Sequence[Integer]) -> Integer:
        """Return base^exponent / prod divisors[i]^exponents[i] mod modulus, for at least one divisor.

        Raises ZeroDivisionError if one of them shares a factor with the modulus.
        """
        bits = max(exponent.bit_length() for exponent in exponents)
        product = product_of_public_powers(divisors, exponents, bits, self._modulus)
        return self.power(exponent) * invert(product, self._modulus) % self._modulus
