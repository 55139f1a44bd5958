"""A function of two numbers in one layer (gates/lookup.py), seen by a holder that puts in whatever it likes.

An honest plus holder puts in the unit vector of its number, an honest minus holder a table. Nothing proves that to the
other one. So here a holder puts in every vector of bits, and the other one is honest: for each number, or each table of
bits, what is received is the same. What comes out stays shared, so the answer is all that such a holder can bend, and
nothing that it sees.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np

from tests.enumeration.dealt import bit_material, bits_of
from tests.enumeration.steps import MINUS, PLUS, Run, run_circuits
from tests.enumeration.views import MINUS_VIEW, PLUS_VIEW, Case, Views
from veilmatch.crypto.gates.boolean import Circuit, Evaluator
from veilmatch.crypto.gates.lookup import lookup, lookup_cost

#: Bits of a number, and ANDs of one function of two of them: the first entry is left out.
WIDTH = 2
ANDS = (1 << WIDTH) - 1
#: Values of the triples of a holder.
TRIPLES = 4
NUMBERS = range(1 << WIDTH)
TABLES = tuple(product((0, 1), repeat=1 << WIDTH))
VECTORS = tuple(product((0, 1), repeat=ANDS))


def _honest(secret: Any, evaluator: Evaluator) -> Circuit:
    """secret: the number of a plus holder, or the table of a minus holder."""
    if evaluator.is_plus:
        return lookup(np.array([secret]), WIDTH, 1, lambda values: values != values, evaluator)
    table = np.array(secret, dtype=np.bool_).reshape(1, -1, 1)
    return lookup(np.array([0]), WIDTH, 1, lambda values: table, evaluator)


def _anything(vector: tuple[int, ...], evaluator: Evaluator) -> Circuit:
    """The layer of a holder that puts in any bits."""
    mine = np.packbits(np.array(vector, dtype=np.uint8), bitorder="little")
    nothing = np.zeros_like(mine)
    xs, ys = (mine, nothing) if evaluator.is_plus else (nothing, mine)
    (products,) = yield from evaluator.all_of([xs], [ys])
    return np.atleast_1d(np.bitwise_xor.reduce(np.unpackbits(products, bitorder="little")[:ANDS]))


def _run(holder: int, parts: tuple[Any, Any], vector: tuple[int, ...], secret: Any) -> Run:
    evaluators = [Evaluator(parts[at], is_plus=at == PLUS) for at in (PLUS, MINUS)]
    circuits = [_anything(vector, one) if at == holder else _honest(secret, one) for at, one in enumerate(evaluators)]
    return run_circuits(circuits[PLUS], circuits[MINUS], holder)


def seen_by(holder: int, *, reused: bool = False) -> Views:
    """What a holder sees of one layer, whatever it puts in, for each secret of the other. reused: its triple is known.

    The bits of a byte that are no gate are left out: nothing but its own triple is in them.
    """
    assert lookup_cost(1, WIDTH, 1) == 1
    others = bits_of(np.arange(1 << 2 * ANDS), 2 * ANDS).T
    seen = []
    for secret in NUMBERS if holder == MINUS else TABLES:
        row: list[object] = []
        for number, column, vector in product(range(TRIPLES), others[:1] if reused else others, VECTORS):
            a, b = np.zeros((2, 1, 8), dtype=np.uint8)
            a[0, :ANDS], b[0, :ANDS] = column[:ANDS], column[ANDS:]
            held = np.random.default_rng(number).integers(0, 2, (3, 1, 8), dtype=np.uint8)
            parts = bit_material((held[0], held[1], held[2]), a, b)
            run = _run(holder, parts if holder == PLUS else parts[::-1], vector, secret)
            payloads = [bytes(x & ((1 << ANDS) - 1) for x in payload) for payload in run.received[holder]]
            row.append((number, vector, *payloads, int(run.ended[holder][0]) & 1))
        seen.append(row)
    return Views.of(seen)


def cases() -> Iterator[Case]:
    """Both holders."""
    for holder, name in ((PLUS, PLUS_VIEW), (MINUS, MINUS_VIEW)):
        yield Case(f"a table of {WIDTH} bits and {WIDTH}", name, f"puts in any bits, {TRIPLES} values of its triples",
                   lambda h=holder: seen_by(h))  # fmt: skip
