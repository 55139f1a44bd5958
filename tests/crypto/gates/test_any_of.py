"""Whether any bit is one, against Python's any(), and what the messages of the circuit tell."""

from __future__ import annotations

from collections import Counter
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from veilmatch.crypto.dealing import BitTriples
from veilmatch.crypto.errors import ProtocolError
from veilmatch.crypto.gates.answer import answer_bits, answer_cost
from veilmatch.crypto.gates.any_of import FEW_BITS, any_of, any_of_cost
from veilmatch.crypto.gates.boolean import Evaluator

RNG = np.random.default_rng(16)


def played(bits: np.ndarray, size: int | None = None, masks: np.ndarray | None = None) -> tuple[int, list[bytes]]:
    """The opened outcome, and what the minus holder was sent."""
    count = len(bits)
    used = any_of_cost(count) if size is None else size
    a, b, *other = (RNG.integers(0, 256, used, dtype=np.uint8) for _ in range(5))
    stock = BitTriples(a ^ other[0], b ^ other[1], a & b ^ other[2]), BitTriples(*other)
    mask = RNG.integers(0, 2, count).astype(np.uint8) if masks is None else masks
    shares = (np.packbits(share, bitorder="little") for share in (bits ^ mask, mask))
    circuits = [
        any_of(share, count, Evaluator(dealt, is_plus=is_plus))
        for share, dealt, is_plus in zip(shares, stock, (True, False), strict=True)
    ]
    outcome, received, seen = [], [None, None], []
    while not outcome:
        sent = []
        for circuit, part in zip(circuits, received, strict=True):
            try:
                sent.append(circuit.send(part))
            except StopIteration as stop:
                outcome.append(stop.value)
        if sent:
            seen.append(sent[0])
            received = sent[::-1]
    assert all(part.shape == (1,) and part[0] in (0, 1) for part in outcome)
    return int(outcome[0][0] ^ outcome[1][0]), seen


@pytest.mark.parametrize("count", [*range(1, 20), 63, 64, 65, 4095, 4096, 4097, 8193, 20_001])
def test_it_is_one_if_and_only_if_some_bit_is(count: int) -> None:
    nothing = np.zeros(count, dtype=np.uint8)
    assert played(nothing)[0] == 0
    for at in {0, count // 2, count - 1}:
        one = nothing.copy()
        one[at] = 1
        assert played(one)[0] == 1
    assert played(nothing + 1)[0] == 1


@given(st.lists(st.integers(0, 1), min_size=1, max_size=300))
def test_any_bits(bits: list[int]) -> None:
    assert played(np.array(bits, dtype=np.uint8))[0] == int(any(bits))


@pytest.mark.parametrize("count", [1, 2, 7, 9, 65, FEW_BITS + 1, 3 * FEW_BITS])
def test_exactly_what_it_costs_is_used(count: int) -> None:
    bits = np.zeros(count, dtype=np.uint8)
    if any_of_cost(count):
        with pytest.raises(ProtocolError, match="more bit triples than were reserved"):
            played(bits, any_of_cost(count) - 1)
    assert answer_bits("known", count) == 1
    assert answer_cost("known", count, 15) > answer_cost("candidates", count, 15) - count


@pytest.mark.parametrize("bits", list(product((0, 1), repeat=3)))
def test_messages_are_as_uniform_whatever_the_bits_are(bits: tuple[int, ...]) -> None:
    """Each bit of a message is masked by a fresh triple: over many runs each of them is a fair coin."""
    runs = 400
    counts: Counter[int] = Counter()
    for _ in range(runs):
        _, sent = played(np.array(bits, dtype=np.uint8))
        seen = np.unpackbits(np.frombuffer(b"".join(sent), dtype=np.uint8))
        counts.update(np.flatnonzero(seen).tolist())
    assert all(abs(counts[place] - runs / 2) < 6 * np.sqrt(runs) / 2 for place in range(len(seen)))
