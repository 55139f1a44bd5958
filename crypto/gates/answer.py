"""What a search answers: the circuit of each operation over the compared slots, and how large its answer is.

candidates: one bit a slot. identify: the number of the best slot plus one, or 0 for nobody, the lowest bit first.
known: one bit, whether any slot reaches the threshold (any_of.py).
Whatever it is, every bit of it is ANDed with "the probe is valid". Slots are numbered from 0 in the order of packs and
slots. A verification compares no slots: verification.py. docs/protocol.md.

A probe may have several views, each compared with every slot. Then a slot matches if any view does, its score is the
best one, and all views have to be valid: the answer is as large as that of one view, and says of none which it was.
"""

from __future__ import annotations

import numpy as np

from veilmatch.crypto.gates.any_of import any_of, any_of_cost, any_view, any_view_cost
from veilmatch.crypto.gates.boolean import Circuit, Evaluator, Layer, Wire, together
from veilmatch.crypto.gates.decision import decide, decide_cost, only_if, only_if_cost
from veilmatch.crypto.gates.lookup import every, every_cost, reaches, reaches_cost
from veilmatch.crypto.gates.tournament import best_cost, best_of, label_bits
from veilmatch.crypto.packing.fields import Array

#: Up to so many slots are compared in two layers, with three times the AND gates; more in five.
FEW_SLOTS = 4096


def answer(operation: str, inputs: Array, ring_bits: int, valid: Wire, evaluator: Evaluator, views: int = 1) -> Layer:
    """Circuit: return shares of the `answer_bits` of an answer, packed, little-endian, and of whether the probe is
    valid, in the lowest bit of one byte.

    inputs: int64[views * n] from `decision_input`, n >= 1: of one view after the other. valid: shares of one bit for
    each view, packed, little-endian.
    """
    bits, all_valid = yield from together(
        _found(operation, inputs, ring_bits, evaluator, views), _all_of(valid, views, evaluator)
    )
    return [(yield from only_if(all_valid, bits, evaluator)), all_valid]


def _found(operation: str, inputs: Array, ring_bits: int, evaluator: Evaluator, views: int) -> Circuit:
    """Circuit: return the answer for a valid probe."""
    if operation == "identify":
        return (yield from best_of(inputs, ring_bits, evaluator, views))
    if len(inputs) <= FEW_SLOTS:
        bits = np.packbits((yield from reaches(inputs, ring_bits, evaluator)), bitorder="little")
    else:
        bits = yield from decide(inputs, ring_bits, evaluator)
    if operation == "known":
        return (yield from any_of(bits, len(inputs), evaluator))
    return (yield from any_view(bits, views, len(inputs) // views, evaluator)) if views > 1 else bits


def _all_of(valid: Wire, views: int, evaluator: Evaluator) -> Circuit:
    """Circuit: return shares of whether all views are valid; one layer, none for one view."""
    rows = np.unpackbits(valid, count=views, bitorder="little")[:, None]
    return (yield from every(rows, evaluator))


def answer_bits(operation: str, slots: int) -> int:
    """Return how many bits the answer about so many compared slots has; at most one a slot.

    A verification has one, and so has `known`.
    """
    if operation == "identify":
        return label_bits(slots)
    return slots if operation == "candidates" else 1


def answer_cost(operation: str, slots: int, ring_bits: int, views: int = 1) -> int:
    """Return how many triple bytes `answer` uses for so many slots."""
    compared = views * slots
    if operation == "identify":
        cost = best_cost(slots, ring_bits, views)
    elif compared <= FEW_SLOTS:
        cost = reaches_cost(compared, ring_bits)
    else:
        cost = decide_cost(compared, ring_bits)
    if operation == "known":
        cost += any_of_cost(compared)
    elif operation == "candidates" and views > 1:
        cost += any_view_cost(views, slots)
    return cost + every_cost(views, 1) + only_if_cost(answer_bits(operation, slots))
