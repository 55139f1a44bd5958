"""Whether any of many shared bits is one: a tree of ANDs over their complements, and nothing of it is opened.

    any = NOT (NOT b_0 AND NOT b_1 AND ...)

The same of each of many slots, over the bits that it has by several views of a probe (`any_view`).

Many bits are joined in pairs, which takes one AND gate for each; few of them eight at a time by a table
(`lookup.every`), which takes 255 gates for eight bits and a third of the layers.
"""

from __future__ import annotations

import numpy as np

from veilmatch.crypto.gates.boolean import Circuit, Evaluator, Wire
from veilmatch.crypto.gates.lookup import every, every_cost

#: Up to so many bits eight become one in a layer, of more two: by tables a layer of so many takes 16 kB of triples.
FEW_BITS = 4096
_AT_ONCE = 8


def any_of(bits: Wire, count: int, evaluator: Evaluator) -> Circuit:
    """Circuit: return shares of whether any of the first `count` bits is one, in the lowest bit of one byte.

    bits: shares, packed, little-endian. Uses `any_of_cost(count)` triple bytes.
    """
    none = np.unpackbits(evaluator.negate(bits), count=count, bitorder="little")
    while len(none) > FEW_BITS:
        rows = _in_rows(none, 2, evaluator)
        packed = [np.packbits(row, bitorder="little") for row in rows]
        (joined,) = yield from evaluator.all_of(packed[:1], packed[1:])
        none = np.unpackbits(joined, count=rows.shape[1], bitorder="little")
    while len(none) > 1:
        none = yield from every(_in_rows(none, min(_AT_ONCE, len(none)), evaluator), evaluator, _AT_ONCE)
    return evaluator.negate(np.packbits(none, bitorder="little")) & np.uint8(1)


def any_of_cost(count: int) -> int:
    """Return how many triple bytes `any_of` uses."""
    used = 0
    while count > FEW_BITS:
        count = -(-count // 2)
        used += -(-count // 8)
    while count > 1:
        rows = min(_AT_ONCE, count)
        count = -(-count // rows)
        used += every_cost(rows, count, _AT_ONCE)
    return used


def any_view(bits: Wire, views: int, slots: int, evaluator: Evaluator) -> Circuit:
    """Circuit: return shares of whether any view of each slot has its bit set, packed, little-endian.

    bits: shares of `views * slots` bits, packed, little-endian, of one view after the other. One layer for few slots.
    Uses `any_view_cost` triple bytes.
    """
    none = np.unpackbits(evaluator.negate(bits), count=views * slots, bitorder="little").reshape(views, slots)
    if slots <= FEW_BITS:
        packed = [np.packbits((yield from every(none, evaluator)), bitorder="little")]
    else:
        packed = [np.packbits(row, bitorder="little") for row in none]
    while len(packed) > 1:
        pairs = len(packed) // 2
        packed = (yield from evaluator.all_of(packed[:pairs], packed[pairs : 2 * pairs])) + packed[2 * pairs :]
    return evaluator.negate(packed[0])


def any_view_cost(views: int, slots: int) -> int:
    """Return how many triple bytes `any_view` uses."""
    return every_cost(views, slots) if slots <= FEW_BITS else (views - 1) * -(-slots // 8)


def _in_rows(bits: Wire, rows: int, evaluator: Evaluator) -> Wire:
    """Return shares of bits in so many rows; ones fill the last places."""
    columns = -(-len(bits) // rows)
    padded = np.full(rows * columns, evaluator.is_plus, dtype=np.uint8)
    padded[: len(bits)] = bits
    return padded.reshape(rows, columns)
