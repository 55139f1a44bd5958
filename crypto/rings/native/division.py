"""Division of many numbers mod N^2 at once, a column of numbers in each lane, by one inversion for all.

Montgomery's trick (1987): the product of all divisors of a lane is inverted, and multiplied by the products of all but
one. Three products a number, none of them in Python's integers.
"""

from __future__ import annotations

from veilmatch.crypto.arithmetic import Integer, gcd, invert_many, product_mod, to_bytes
from veilmatch.crypto.rings.native.groups import Groups
from veilmatch.crypto.rings.native.limbs import Limbs, empty


def quotients(on: Groups, dividends: bytes, divisors: bytes, factor: Integer) -> bytes:
    """Return factor * a / b for the numbers a and b at each place, at least one, as bytes; factor: in [0, N^2).

    Raises ZeroDivisionError if one of them shares a factor with N.
    """
    count = len(dividends) // on.number_bytes
    padding = to_bytes(Integer(1), on.number_bytes) * (-count % on.lanes)
    a, b = on.enter_bytes(dividends + padding), on.enter_bytes(divisors + padding)
    products = _products(on, b)
    inverted = invert_many(on.leave(products[-1:], on.lanes), on.modulus**2)
    if gcd(product_mod(on.leave(_products(on, a)[-1:], on.lanes), on.modulus), on.modulus) != 1:
        raise ZeroDivisionError("a dividend shares a factor with N")
    on.multiply(a, a, on.enter([factor] * on.lanes))
    inverse, spare = on.enter(inverted), empty(on.group_shape(1))  # of the product of the divisors up to the i-th
    for i in range(len(a) - 1, 0, -1):
        on.multiply(a[i : i + 1], a[i : i + 1], on.multiply(spare, inverse, products[i - 1 : i]))
        on.multiply(inverse, inverse, b[i : i + 1])
    on.multiply(a[:1], a[:1], inverse)
    return on.leave_bytes(a, count)


def _products(on: Groups, groups: Limbs) -> Limbs:
    """Return the product of each group and all before it."""
    products = empty(groups.shape)
    products[0] = groups[0]
    for i in range(1, len(groups)):
        on.multiply(products[i : i + 1], products[i - 1 : i], groups[i : i + 1])
    return products
