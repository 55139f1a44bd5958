"""Functions of a few bits in one layer: more AND gates than a circuit of small gates, and fewer messages in a row.

Both holders know a number of a few bits each, p and q, and want shares of T(p, q), a bit. The plus holder shares the
unit vector of its p, the minus holder the table of T(., q), and their inner product is one layer of ANDs. As the
entries of a unit vector add up to one, the first of them is left out. Two uses:

- **All of some shared bits** (`every`): the bits are all one if and only if q is the complement of p.
- **A comparison** (`reaches`): the sum of two numbers is cut into digits. Whether a digit carries, and whether it
  passes a carry on, are functions of p and q. In the next layer the digits are joined: the top carry is the sum (XOR)
  of "digit i carries and all above pass it on", and each of those is an AND of a few shared bits.

Only the ANDs are messages: each is masked by a fresh triple (boolean.py). So what is sent is uniform, whatever the
tables are. A small table of what one party knows instead of many small gates: Ishai et al., TCC 2013; Dessouky et al.,
NDSS 2017.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from veilmatch.crypto.gates.boolean import Circuit, Evaluator, together
from veilmatch.crypto.packing.fields import Array

Bits = NDArray[np.uint8]
#: Of the minus holder: given all values of p, int64[2^width, 1], the tables, bool[t, 2^width, n].
Tables = Callable[[Array], NDArray[np.bool_]]
#: Bits of the digits that `reaches` cuts a number into, if they are few enough.
_DIGIT_BITS = 4
#: Digits that become one in a layer.
JOINED = 4
#: Bits that `every` takes at once: 255 ANDs.
_AT_ONCE = 8


def lookup(mine: Array, width: int, count: int, tables: Tables, evaluator: Evaluator) -> Circuit:
    """One layer: return shares of t = `count` functions of n pairs (p, q), uint8[t, n] of 0 or 1.

    mine: int64[n] in [0, 2^width), p or q. tables: asked at the minus holder. Uses `lookup_cost` triple bytes.
    """
    values = np.arange(1 << width)[:, None]
    if evaluator.is_plus:
        known = np.broadcast_to(values == mine, (count, 1 << width, len(mine)))[:, 1:]
        first = np.zeros((count, len(mine)), dtype=np.uint8)
    else:
        table = tables(values)
        known, first = table[:, 1:] ^ table[:, :1], table[:, 0].astype(np.uint8)
    packed = np.packbits(known.ravel(), bitorder="little")
    nothing = np.zeros_like(packed)
    xs, ys = (packed, nothing) if evaluator.is_plus else (nothing, packed)
    (products,) = yield from evaluator.all_of([xs], [ys])
    found = np.unpackbits(products, count=known.size, bitorder="little").reshape(known.shape)
    return np.asarray(np.bitwise_xor.reduce(found, axis=1) ^ first)


def lookup_cost(pairs: int, width: int, count: int) -> int:
    """Return how many triple bytes `lookup` uses."""
    return -(-pairs * count * ((1 << width) - 1) // 8)


def every(bits: Bits, evaluator: Evaluator, at_once: int = _AT_ONCE) -> Circuit:
    """Circuit: return shares of the AND of all rows, uint8[n]; bits: shares, uint8[rows, n] of 0 or 1.

    One layer for up to `at_once` rows, two for up to its square. Uses `every_cost` triple bytes.
    """
    while len(bits) > 1:
        groups = [bits[at : at + at_once] for at in range(0, len(bits), at_once)]
        bits = np.concatenate((yield from together(*(all_at_once(group, evaluator) for group in groups))))
    return np.asarray(bits[0])


def every_cost(rows: int, columns: int, at_once: int = _AT_ONCE) -> int:
    """Return how many triple bytes `every` uses."""
    used = 0
    while rows > 1:
        sizes = [min(at_once, rows - at) for at in range(0, rows, at_once)]
        used += sum(lookup_cost(columns, size, 1) if size > 1 else 0 for size in sizes)
        rows = len(sizes)
    return used


def layers_of(rows: int, at_once: int) -> int:
    """Return how many layers it takes to join so many rows, `at_once` of them in each layer."""
    layers = 0
    while rows > 1:
        rows, layers = -(-rows // at_once), layers + 1
    return layers


def reaches(inputs: Array, ring_bits: int, evaluator: Evaluator) -> Circuit:
    """Circuit: what `decision.decide` computes, as shares uint8[n] of 0 or 1, in two layers up to 17 bits, or three.

    inputs: int64[n] in [0, 2^k) from `decision_input`. Uses `reaches_cost` triple bytes.
    """
    places = _digits(ring_bits)
    top = (inputs >> (ring_bits - 1) & 1).astype(np.uint8)
    parts = []
    for at, width in places:
        digit = inputs >> at & ((1 << width) - 1)
        parts.append(lookup(digit, width, 2 if at else 1, _carries(digit, width, lowest=not at), evaluator))
    digits: list[Bits] = yield from together(*parts)
    carry = yield from top_carry(digits, evaluator)
    return evaluator.negate(top ^ carry) & np.uint8(1)


def top_carry(digits: list[Bits], evaluator: Evaluator) -> Circuit:
    """Circuit: return shares of whether digits carry in the end, uint8[n]. Four become one in each layer.

    digits: carries and passes of each, uint8[2, n], lowest first. Uses `top_carry_cost` triple bytes.
    """
    while len(digits) > 1:
        groups = [digits[at : at + JOINED] for at in range(0, len(digits), JOINED)]
        digits = yield from together(*(_join(group, evaluator, lowest=not i) for i, group in enumerate(groups)))
    return np.asarray(digits[0][0])


def top_carry_cost(digits: int, count: int) -> int:
    """Return how many triple bytes `top_carry` uses for `count` columns."""
    used = 0
    while digits > 1:
        sizes = [min(JOINED, digits - at) for at in range(0, digits, JOINED)]
        used += sum(_join_cost(size, count, lowest=not i) for i, size in enumerate(sizes))
        digits = len(sizes)
    return used


def reaches_cost(count: int, ring_bits: int) -> int:
    """Return how many triple bytes `reaches` uses for `count` numbers."""
    digits = _digits(ring_bits)
    looked_up = sum(lookup_cost(count, width, 2 if at else 1) for at, width in digits)
    return looked_up + top_carry_cost(len(digits), count)


def _digits(ring_bits: int) -> list[tuple[int, int]]:
    """Place and width of each digit below the top bit: as few layers as with digits of four bits, and as even."""
    bits = ring_bits - 1
    width = _DIGIT_BITS if bits <= _DIGIT_BITS * JOINED else _DIGIT_BITS + 1
    count = -(-bits // width)
    ends = [bits * i // count for i in range(count + 1)]
    return [(low, high - low) for low, high in pairwise(ends)]


def _carries(digit: Array, width: int, *, lowest: bool) -> Tables:
    """Whether p + digit carries, and whether it passes a carry on, which nobody asks of the lowest."""

    def tables(values: Array) -> NDArray[np.bool_]:
        total = values + digit
        return np.stack([total >= 1 << width, *([] if lowest else [total == (1 << width) - 1])])

    return tables


def all_at_once(rows: Bits, evaluator: Evaluator) -> Circuit:
    """One layer, or none for a single row: shares of the AND of all rows, uint8[1, n].

    rows: shares, uint8[rows, n] of 0 or 1. Uses 2^rows - 1 AND gates a column.
    """
    if len(rows) == 1:
        return rows
    width = len(rows)
    mine = np.bitwise_or.reduce(rows.astype(np.int64) << np.arange(width)[:, None], axis=0)
    complement = mine ^ ((1 << width) - 1)
    return (yield from lookup(mine, width, 1, lambda values: (values == complement)[None], evaluator))


def _join(group: list[Bits], evaluator: Evaluator, *, lowest: bool) -> Circuit:
    """One layer: carries and passes of neighbouring digits, lowest first, as one: uint8[2, n].

    Of the lowest digits carries alone, uint8[1, n].
    """
    if len(group) == 1:
        return group[0]
    passes = [digit[1] for digit in group[1:]]
    wanted = [np.stack([digit[0], *passes[i:]]) for i, digit in enumerate(group[:-1])]
    if not lowest:
        wanted.append(np.stack([group[0][1], *passes]))
    products = yield from together(*(all_at_once(rows, evaluator) for rows in wanted))
    carries, passed = products[: len(group) - 1], products[len(group) - 1 :]
    carry = np.bitwise_xor.reduce(np.stack([group[-1][0], *(part[0] for part in carries)]), axis=0)
    return np.stack([carry, *(part[0] for part in passed)])


def _join_cost(digits: int, count: int, *, lowest: bool) -> int:
    if digits == 1:
        return 0
    widths = [*range(2, digits + 1), *([] if lowest else [digits])]
    return sum(lookup_cost(count, width, 1) for width in widths)
