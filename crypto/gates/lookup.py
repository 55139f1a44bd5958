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

What is asked for in the same layer is asked for at once (`lookups`): for few numbers, calls are what takes time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from itertools import accumulate, pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from veilmatch.crypto.gates.boolean import Circuit, Evaluator, Layer
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


class Lookup(NamedTuple):
    """So many functions of n pairs (p, q) of numbers in [0, 2^width).

    mine: int64[n], p or q. tables: asked at the minus holder.
    """

    mine: Array
    width: int
    functions: int
    tables: Tables

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of the ANDs: functions, values of p but the first, pairs."""
        return self.functions, (1 << self.width) - 1, len(self.mine)


def lookups(asked: Sequence[Lookup], evaluator: Evaluator) -> Layer:
    """One layer: return shares of what each asks for, uint8[t, n] of 0 or 1.

    Uses `lookup_cost` triple bytes for each.
    """
    shapes = [ask.shape for ask in asked]
    ends = [0, *accumulate(8 * _bytes(t * values * n) for t, values, n in shapes)]
    known = np.zeros(ends[-1], dtype=np.uint8)
    places = [slice(at, at + t * values * n) for at, (t, values, n) in zip(ends, shapes, strict=False)]
    firsts = [
        _fill(known[at].reshape(shape), ask, evaluator) for at, shape, ask in zip(places, shapes, asked, strict=True)
    ]
    products = np.unpackbits((yield from evaluator.crossed(np.packbits(known, bitorder="little"))), bitorder="little")
    return [
        np.bitwise_xor.reduce(products[at].reshape(shape), axis=1) ^ first
        for at, shape, first in zip(places, shapes, firsts, strict=True)
    ]


def _fill(known: Bits, ask: Lookup, evaluator: Evaluator) -> Bits | np.uint8:
    """Write what this holder puts into the ANDs; return what is added to what comes out."""
    values = _values(ask.width)
    if evaluator.is_plus:
        known[:] = values[1:] == ask.mine
        return np.uint8(0)
    table = ask.tables(values)
    np.not_equal(table[:, 1:], table[:, :1], out=known, casting="unsafe")
    return table[:, 0].astype(np.uint8)


def lookup(mine: Array, width: int, count: int, tables: Tables, evaluator: Evaluator) -> Circuit:
    """One layer: return what `lookups` returns for one."""
    (found,) = yield from lookups([Lookup(mine, width, count, tables)], evaluator)
    return found


def lookup_cost(pairs: int, width: int, count: int) -> int:
    """Return how many triple bytes a lookup uses."""
    return _bytes(pairs * count * ((1 << width) - 1))


def all_one(numbers: Array, width: int) -> Lookup:
    """Return the lookup of whether all bits of p ^ q are one, uint8[1, n]. numbers: int64[n] in [0, 2^width)."""
    complement = numbers ^ ((1 << width) - 1)
    return Lookup(numbers, width, 1, lambda values: (values == complement)[None])


def every(bits: Bits, evaluator: Evaluator, at_once: int = _AT_ONCE) -> Circuit:
    """Circuit: return shares of the AND of all rows, uint8[n]; bits: shares, uint8[rows, n] of 0 or 1.

    One layer for up to `at_once` rows, two for up to its square. Uses `every_cost` triple bytes.
    """
    while len(bits) > 1:
        groups = [bits[at : at + at_once] for at in range(0, len(bits), at_once)]
        # A row that is left over goes on as it is.
        alone = groups.pop() if len(groups[-1]) == 1 else bits[:0]
        found = yield from lookups([all_one(as_numbers(group), len(group)) for group in groups], evaluator)
        bits = np.concatenate([*found, alone])
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
    top = (inputs >> (ring_bits - 1) & 1).astype(np.uint8)
    asked = [_carries(inputs >> at & ((1 << width) - 1), width, lowest=not at) for at, width in _digits(ring_bits)]
    carry = yield from top_carry((yield from lookups(asked, evaluator)), evaluator)
    return evaluator.negate(top ^ carry) & np.uint8(1)


def top_carry(digits: list[Bits], evaluator: Evaluator) -> Circuit:
    """Circuit: return shares of whether digits carry in the end, uint8[n]. Four become one in each layer.

    digits: carries and passes of each, uint8[2, n], lowest first; of the lowest carries alone will do. Uses
    `top_carry_cost` triple bytes.
    """
    while len(digits) > 1:
        groups = [digits[at : at + JOINED] for at in range(0, len(digits), JOINED)]
        wanted = [_terms(group, lowest=not i) for i, group in enumerate(groups)]
        found = iter((yield from lookups([term for terms in wanted for term in terms], evaluator)))
        digits = [_joined(group, [next(found)[0] for _ in terms]) for group, terms in zip(groups, wanted, strict=True)]
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


@cache
def _digits(ring_bits: int) -> list[tuple[int, int]]:
    """Place and width of each digit below the top bit: as few layers as with digits of four bits, and as even."""
    bits = ring_bits - 1
    width = _DIGIT_BITS if bits <= _DIGIT_BITS * JOINED else _DIGIT_BITS + 1
    count = -(-bits // width)
    ends = [bits * i // count for i in range(count + 1)]
    return [(low, high - low) for low, high in pairwise(ends)]


def _carries(digit: Array, width: int, *, lowest: bool) -> Lookup:
    """Whether p + q carries, and whether it passes a carry on, which nobody asks of the lowest."""
    count = 1 if lowest else 2

    def tables(values: Array) -> NDArray[np.bool_]:
        total = values + digit
        found = np.empty((count, *total.shape), dtype=np.bool_)
        np.greater_equal(total, 1 << width, out=found[0])
        if not lowest:
            np.equal(total, (1 << width) - 1, out=found[1])
        return found

    return Lookup(digit, width, count, tables)


def all_at_once(rows: Bits, evaluator: Evaluator) -> Circuit:
    """One layer, or none for a single row: shares of the AND of all rows, uint8[1, n].

    rows: shares, uint8[rows, n] of 0 or 1. Uses 2^rows - 1 AND gates a column.
    """
    if len(rows) == 1:
        return rows
    (found,) = yield from lookups([all_one(as_numbers(rows), len(rows))], evaluator)
    return found


def as_numbers(rows: Bits) -> Array:
    """Return the numbers whose bits stand in rows, lowest first: int64[n] of uint8[rows, n] of 0 or 1."""
    return np.asarray((1 << np.arange(len(rows))) @ rows.astype(np.int64))


def _terms(group: list[Bits], *, lowest: bool) -> list[Lookup]:
    """What is asked to make one of neighbouring digits: of each but the last whether it carries and all above pass.

    Then, unless these are the lowest, whether all pass. Nothing of a digit that is alone.
    """
    if len(group) == 1:
        return []
    passes = as_numbers(np.array([digit[1] for digit in group[1:]]))
    above = len(group) - 1
    terms = [all_one((passes >> i << 1) + digit[0], above - i + 1) for i, digit in enumerate(group[:-1])]
    if not lowest:
        terms.append(all_one((passes << 1) + group[0][1], above + 1))
    return terms


def _joined(group: list[Bits], found: list[Bits]) -> Bits:
    """Return carries and passes of neighbouring digits as one, uint8[2, n], of what was found of their `_terms`.

    Of the lowest digits carries alone, uint8[1, n].
    """
    if len(group) == 1:
        return group[0]
    carry = np.bitwise_xor.reduce([group[-1][0], *found[: len(group) - 1]])
    return np.array([carry, *found[len(group) - 1 :]])


def _join_cost(digits: int, count: int, *, lowest: bool) -> int:
    if digits == 1:
        return 0
    widths = [*range(2, digits + 1), *([] if lowest else [digits])]
    return sum(lookup_cost(count, width, 1) for width in widths)


@cache
def _values(width: int) -> Array:
    values = np.arange(1 << width)[:, None]
    values.setflags(write=False)
    return values


def _bytes(bits: int) -> int:
    return -(-bits // 8)
