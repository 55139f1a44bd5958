"""Both holders of a circuit, with dealt triples: what comes out, opened, and how many layers it took."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from veilmatch.crypto.dealing import BitTriples
from veilmatch.crypto.gates.boolean import Evaluator, Layer, Wire

RNG = np.random.default_rng(18)


def played(
    plus: Callable[[Evaluator], Layer], minus: Callable[[Evaluator], Layer], used: int
) -> tuple[list[Wire], int]:
    """Run both with so many triple bytes. Raises what one of them raises; AssertionError if some are left over."""
    a, b, *other = (RNG.integers(0, 256, used, dtype=np.uint8) for _ in range(5))
    stock = BitTriples(a ^ other[0], b ^ other[1], a & b ^ other[2]), BitTriples(*other)
    evaluators = [Evaluator(dealt, is_plus=is_plus) for dealt, is_plus in zip(stock, (True, False), strict=True)]
    circuits = [plus(evaluators[0]), minus(evaluators[1])]
    received: list[Any] = [None, None]
    outcome: list[list[Wire]] = []
    layers = 0
    while not outcome:
        sent = []
        for circuit, part in zip(circuits, received, strict=True):
            try:
                sent.append(circuit.send(part))
            except StopIteration as stop:
                outcome.append(stop.value)
        layers += bool(sent)
        received = sent[::-1]
    assert len(outcome) == 2 and all(evaluator._used == used for evaluator in evaluators)
    return [x ^ y for x, y in zip(*outcome, strict=True)], layers
