"""What a search answers: the circuit of each operation over the compared slots, and how large its answer is.

candidates: one bit a slot. identify: the number of the best slot plus one, or 0 for nobody, the lowest bit first.
Whatever it is, every bit of it is ANDed with "the probe is valid". Slots are numbered from 0 in the order of packs and
slots. A verification compares no slots: verification.py. docs/protocol.md.
"""

from __future__ import annotations

import numpy as np

from veilmatch.crypto.gates.boolean import Circuit, Evaluator, Wire
from veilmatch.crypto.gates.decision import decide, decide_cost, only_if, only_if_cost
from veilmatch.crypto.gates.lookup import reaches, reaches_cost
from veilmatch.crypto.gates.tournament import best_cost, best_of, label_bits
from veilmatch.crypto.packing.fields import Array

#: Up to so many slots are compared in two layers, with three times the AND gates; more in five.
FEW_SLOTS = 4096


def answer(operation: str, inputs: Array, ring_bits: int, valid: Wire, evaluator: Evaluator) -> Circuit:
    """Circuit: return shares of the `answer_bits` of an answer, packed, little-endian.

    inputs: int64[n] from `decision_input`, n >= 1. valid: share of one bit, in the lowest of one byte.
    """
    if operation == "identify":
        bits = yield from best_of(inputs, ring_bits, evaluator)
    elif len(inputs) <= FEW_SLOTS:
        bits = np.packbits((yield from reaches(inputs, ring_bits, evaluator)), bitorder="little")
    else:
        bits = yield from decide(inputs, ring_bits, evaluator)
    return (yield from only_if(valid, bits, evaluator))


def answer_bits(operation: str, slots: int) -> int:
    """Return how many bits the answer about so many compared slots has; at most one a slot. A verification has one."""
    if operation == "identify":
        return label_bits(slots)
    return 1 if operation == "verify" else slots


def answer_cost(operation: str, slots: int, ring_bits: int) -> int:
    """Return how many triple bytes `answer` uses."""
    if operation == "identify":
        cost = best_cost(slots, ring_bits)
    elif slots <= FEW_SLOTS:
        cost = reaches_cost(slots, ring_bits)
    else:
        cost = decide_cost(slots, ring_bits)
    return cost + only_if_cost(answer_bits(operation, slots))
