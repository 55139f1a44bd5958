"""Multi-exponentiation: prod base_i^(e_i) for many bases and short exponents.

The bucket method (Pippenger, 1976): exponents are cut into windows; for each window every base is
multiplied into the bucket of its digit, and sum d * bucket_d is formed by running products. The
window width is the one with the fewest multiplications for the number of bases at hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.rings.pairs import Pair, Pairs

#: Bases that share a table of all products of some of them.
_TOGETHER = 3


@cache
def window_bits(bases: int, exponent_bits: int) -> int:
    """Return the window width that costs the fewest multiplications."""
    return min(range(1, exponent_bits + 1), key=lambda w: _cost(bases, exponent_bits, w))


def _cost(bases: int, exponent_bits: int, window: int) -> int:
    """Multiplications of one multi-exponentiation: buckets, running products, squarings."""
    windows = -(-exponent_bits // window)
    return windows * (bases + 2 * (1 << window) - 3) + (windows - 1) * window


def product_of_powers(bases: Sequence[Pair], exponents: Sequence[int], exponent_bits: int, pairs: Pairs) -> Pair:
    """Return prod bases[i]^exponents[i] mod N^2, for 0 <= exponents[i] < 2^exponent_bits.

    A zero digit costs a multiplication like any other (into a bucket that is thrown away): the time
    does not tell a peer, who can relate the exponents to the probe, how many digits are zero.
    """
    window, multiply = window_bits(len(bases), exponent_bits), pairs.multiply
    mask = (1 << window) - 1
    result = pairs.one
    top = (exponent_bits - 1) // window * window
    for shift in range(top, -1, -window):
        for _ in range(window if shift < top else 0):
            result = multiply(result, result)
        buckets = [pairs.one] * (1 << window)
        for base, exponent in zip(bases, exponents, strict=True):
            digit = exponent >> shift & mask
            buckets[digit] = multiply(buckets[digit], base)
        running = total = buckets[mask]
        for bucket in buckets[mask - 1 : 0 : -1]:
            running = multiply(running, bucket)
            total = multiply(total, running)
        result = multiply(result, total)
    return result


def product_of_public_powers(
    bases: Sequence[Integer], exponents: Sequence[int], exponent_bits: int, modulus: Integer
) -> Integer:
    """Return prod bases[i]^exponents[i] mod modulus, for public exponents in [0, 2^exponent_bits). Not constant time.

    One chain of squarings serves all bases, and one product a bit serves three of them (Straus, 1964).
    """
    tables, result = [], Integer(1)
    for first in range(0, len(bases), _TOGETHER):
        table = [Integer(1)]
        for base in bases[first : first + _TOGETHER]:
            table += [x * base % modulus for x in table]
        tables.append((table, exponents[first : first + _TOGETHER]))
    for bit in reversed(range(exponent_bits)):
        result = result * result % modulus
        for table, group in tables:
            if chosen := sum((exponent >> bit & 1) << i for i, exponent in enumerate(group)):
                result = result * table[chosen] % modulus
    return result
