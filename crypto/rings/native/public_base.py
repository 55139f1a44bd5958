"""Powers of one fixed base with public exponents, and quotients of them, in the lanes of the kernel: mod N alone.

The exponent of the base is cut into as many pieces as lanes are left beside the divisors. Piece j is the exponent of
base^(2^(j * piece bits)), which is known before, so that all lanes raise to exponents of about one size:

    base^w / prod d_i^(e_i) = prod_j (base^(2^(j*b)))^(w_j) / prod d_i^(e_i)
"""

from __future__ import annotations

from collections.abc import Sequence

from veilmatch.crypto.arithmetic import Integer, invert, power, product_mod, to_little_endian
from veilmatch.crypto.rings.native.groups import Groups


class LanesPublicBase:
    """What public_base.PublicBase is, on a backend with powers mod N. Threads may share it."""

    def __init__(self, on: Groups, base: Integer, exponent_bits: int) -> None:
        self._on = on
        self._exponent_bits = exponent_bits
        self._base = base % on.modulus
        #: By number of pieces.
        self._starts: dict[int, list[Integer]] = {}

    def power_over(self, exponent: Integer, divisors: Sequence[Integer], exponents: Sequence[Integer]) -> Integer:
        """Return base^exponent / prod divisors[i]^exponents[i] mod N, for divisors in [0, N).

        exponent: of at most `exponent_bits` bits. Raises ZeroDivisionError if a divisor shares a factor with N.
        """
        on, N = self._on, self._on.modulus
        pieces = self._pieces(len(divisors))
        bits = -(-self._exponent_bits // pieces)
        cut = [exponent >> bits * j & ((1 << bits) - 1) for j in range(pieces)]
        every = [*cut, *exponents]
        size = max(-(-x.bit_length() // 8) for x in every)
        data = b"".join(to_little_endian(x, size) for x in every)
        groups = on.enter([*self._of_pieces(pieces, bits), *divisors])
        data = data.ljust(len(groups) * on.lanes * size, b"\0")
        powers = on.leave(on.power_mod_n(groups, data), len(every))
        return product_mod(powers[:pieces], N) * invert(product_mod(powers[pieces:], N), N) % N

    def _pieces(self, divisors: int) -> int:
        """Return how many pieces fill groups beside so many divisors: at least half of a group."""
        lanes = self._on.lanes
        left = -divisors % lanes
        return left if 2 * left >= lanes else left + lanes

    def _of_pieces(self, pieces: int, bits: int) -> list[Integer]:
        """Return base^(2^(j*bits)) mod N for every piece."""
        if pieces not in self._starts:
            starts = [self._base]
            for _ in range(1, pieces):
                starts.append(power(starts[-1], Integer(1) << bits, self._on.modulus))
            self._starts[pieces] = starts
        return self._starts[pieces]
