"""Division of many numbers mod N^2 at once, a column of numbers in each lane, by one inversion for all.

Montgomery's trick (1987), twice: the product of all divisors of a lane is multiplied by those of the other lanes, and
what comes out is inverted; times the products of all but one, that is the inverse of the one. Three products a number,
and nine for the lanes, none of them in Python's integers.
"""

from __future__ import annotations

import numpy as np

from veilmatch.crypto.arithmetic import Integer, gcd, invert, to_bytes
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
    inverse, spare = _inverses(on, products[-1:]), empty(on.group_shape(1))  # of the product of the divisors up to i
    whole, _ = _across(on, _products(on, a)[-1:])
    if gcd(on.leave(whole, 1)[0], on.modulus) != 1:
        raise ZeroDivisionError("a dividend shares a factor with N")
    on.multiply(a, a, on.enter([factor] * on.lanes))
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


def _inverses(on: Groups, group: Limbs) -> Limbs:
    """Return the inverse of the number in each lane. Raises ZeroDivisionError if one has none."""
    whole, others = _across(on, group)
    inverse = invert(on.leave(whole, 1)[0], on.modulus**2)
    return on.multiply(others, others, on.enter([inverse] * on.lanes))


def _across(on: Groups, group: Limbs) -> tuple[Limbs, Limbs]:
    """Return the product of all lanes, in every lane, and in each the product of all others.

    The lanes are a power of two: each takes over what its neighbour at distance 1, 2, 4, ... has.
    """
    whole, others, distance = group, on.ones(), 1
    while distance < on.lanes:
        neighbours = empty(whole.shape)
        neighbours[...] = whole[..., np.arange(on.lanes) ^ distance]
        others = on.multiply(others, others, neighbours)
        whole = on.multiply(empty(whole.shape), whole, neighbours)
        distance *= 2
    return whole, others
