"""The tournament against numpy's argmax, which takes the first of equal ones as well."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from veilmatch.crypto.dealing import BitTriples
from veilmatch.crypto.errors import ProtocolError
from veilmatch.crypto.gates.boolean import Evaluator
from veilmatch.crypto.gates.decision import decision_input
from veilmatch.crypto.gates.tournament import best_cost, best_layers, best_of, group_sizes, label_bits
from veilmatch.crypto.packing.fields import Array

RING_BITS = 15
#: |2(s - t) + carry| stays below 2^(k-1).
LARGEST = (1 << (RING_BITS - 3)) - 1
RNG = np.random.default_rng(8)


def triples(size: int) -> tuple[BitTriples, BitTriples]:
    a, b, *masks = (RNG.integers(0, 256, size, dtype=np.uint8) for _ in range(5))
    return BitTriples(a ^ masks[0], b ^ masks[1], a & b ^ masks[2]), BitTriples(*masks)


def play(
    scores: Array, threshold: int, carries: Array, size: int | None = None
) -> tuple[int, list[tuple[bytes, bytes]]]:
    """Run both sides; return the outcome and every pair of messages."""
    ring, count = 1 << RING_BITS, len(scores)
    minus = RNG.integers(0, ring, count)
    shares = (2 * scores + carries + minus) % ring, minus
    stock = triples(best_cost(count, RING_BITS) if size is None else size)
    circuits = []
    for mine, dealt, is_plus in zip(shares, stock, (True, False), strict=True):
        inputs = decision_input(mine, threshold, RING_BITS, is_plus=is_plus)
        circuits.append(best_of(inputs, RING_BITS, Evaluator(dealt, is_plus=is_plus)))
    messages = [(next(circuits[0]), next(circuits[1]))]
    outcome: list[Any] = []
    while not outcome:
        sent = []
        for circuit, received in zip(circuits, reversed(messages[-1]), strict=True):
            try:
                sent.append(circuit.send(received))
            except StopIteration as stop:
                outcome.append(stop.value)
        if sent:
            messages.append((sent[0], sent[1]))
    bits = np.unpackbits(outcome[0] ^ outcome[1], count=label_bits(count), bitorder="little").astype(np.int64)
    return int((bits << np.arange(len(bits))).sum()), messages


def expected(scores: Array, threshold: int) -> int:
    best = int(np.argmax(scores))
    return best + 1 if scores[best] >= threshold else 0


@pytest.mark.parametrize("count", [*range(1, 35), 63, 64, 65, 255, 256, 257, 1000, 4097])
@pytest.mark.parametrize("spread", [LARGEST, 3, 0])
def test_the_best_slot_at_or_above_the_threshold_wins(count: int, spread: int) -> None:
    scores = RNG.integers(-spread, spread + 1, count)
    carries = RNG.integers(0, 2, count)
    top = int(scores.max())
    for threshold in (1, top, top + 1):
        outcome, messages = play(scores, threshold, carries)
        assert outcome == expected(scores, threshold)
        assert len(messages) == best_layers(count, RING_BITS)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.sampled_from([-LARGEST, -1, 0, 1, 99, 100, 101, LARGEST]) | st.integers(-LARGEST, LARGEST), min_size=1),
    st.integers(1, 200),
    st.integers(0, 2**32),
)
def test_any_scores(scores: list[int], threshold: int, seed: int) -> None:
    values = np.array(scores)
    outcome, _ = play(values, threshold, np.random.default_rng(seed).integers(0, 2, len(values)))
    assert outcome == expected(values, threshold)


@pytest.mark.parametrize("first", [0, 1])
def test_a_carry_does_not_decide_between_equal_scores(first: int) -> None:
    scores = np.array([5, 700, 700, 699])
    carries = np.array([1, first, 1 - first, 1])
    assert play(scores, 1, carries)[0] == 2


def test_what_is_sent_has_the_same_sizes_whatever_the_outcome() -> None:
    carries = np.zeros(300, dtype=np.int64)
    nobody, last = np.full(300, -5), np.full(300, -5)
    last[299] = 900
    shapes = [[tuple(map(len, pair)) for pair in play(s, 100, carries)[1]] for s in (nobody, last)]
    assert shapes[0] == shapes[1]


def test_messages_look_random() -> None:
    """The same inputs twice: what one holder sends is masked by fresh triples."""
    scores, carries = np.arange(500), np.zeros(500, dtype=np.int64)
    first, second = (b"".join(m for m, _ in play(scores, 1, carries)[1]) for _ in range(2))
    differing = np.unpackbits(np.frombuffer(first, np.uint8) ^ np.frombuffer(second, np.uint8)).mean()
    assert 0.49 < differing < 0.51


def test_too_few_triples_end_in_an_error() -> None:
    with pytest.raises(ProtocolError):
        play(np.arange(20), 1, np.zeros(20, dtype=np.int64), size=best_cost(20, RING_BITS) - 1)


@pytest.mark.parametrize("count", [2, 17, 1000, 100_000])
def test_groups_end_with_one_winner(count: int) -> None:
    left = count
    for log_size in group_sizes(count, RING_BITS):
        left = -(-left >> log_size)
    assert left == 1
