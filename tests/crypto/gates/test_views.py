"""The bits and scores of several views of a probe become one for each slot, or one in all: against plain integers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.crypto.gates.both_holders import played
from veilmatch.crypto.errors import ProtocolError
from veilmatch.crypto.gates.answer import FEW_SLOTS, answer, answer_bits, answer_cost
from veilmatch.crypto.gates.any_of import FEW_BITS, any_view, any_view_cost
from veilmatch.crypto.gates.boolean import Evaluator, Layer
from veilmatch.crypto.gates.decision import decision_input
from veilmatch.crypto.gates.tournament import best_layers
from veilmatch.crypto.packing.fields import Array

RING_BITS = 13
#: |2(s - t) + carry| stays below 2^(k-1).
LARGEST = (1 << (RING_BITS - 3)) - 1
RNG = np.random.default_rng(17)


def opened(
    operation: str, scores: Array, threshold: int, valid: list[int], size: int | None = None
) -> tuple[int, list[int], int]:
    """Whether the probe is valid, the answer bits of scores[views, slots], and how many layers it took."""
    views, slots = scores.shape
    ring, flat = 1 << RING_BITS, scores.ravel()
    minus = RNG.integers(0, ring, flat.size)
    plus = (2 * flat + RNG.integers(0, 2, flat.size) + minus) % ring
    flags = np.array(valid, dtype=np.uint8)
    masks = RNG.integers(0, 2, views, dtype=np.uint8)

    def circuit(is_plus: bool) -> Callable[[Evaluator], Layer]:
        inputs = decision_input(plus if is_plus else minus, threshold, RING_BITS, is_plus=is_plus)
        share = np.packbits(flags ^ masks if is_plus else masks, bitorder="little")
        return lambda evaluator: answer(operation, inputs, RING_BITS, share, evaluator, views)

    cost = answer_cost(operation, slots, RING_BITS, views) if size is None else size
    (bits, all_valid), layers = played(circuit(True), circuit(False), cost)
    count = answer_bits(operation, slots)
    return int(all_valid[0] & 1), np.unpackbits(bits, count=count, bitorder="little").tolist(), layers


def expected(operation: str, scores: Array, threshold: int) -> list[int]:
    best = scores.max(axis=0)
    if operation == "candidates":
        return [int(score >= threshold) for score in best]
    if operation == "known":
        return [int(best.max() >= threshold)]
    number = int(np.argmax(best)) + 1 if best.max() >= threshold else 0
    return [number >> i & 1 for i in range(len(best).bit_length())]


@pytest.mark.parametrize("operation", ["known", "candidates", "identify"])
@pytest.mark.parametrize("views", [1, 2, 3, 4])
@pytest.mark.parametrize("slots", [1, 2, 7, 16, 100, FEW_SLOTS // 2 + 1])
def test_answers_are_about_the_best_view_of_each_slot(operation: str, views: int, slots: int) -> None:
    for spread in (LARGEST, 2):
        scores = RNG.integers(-spread, spread + 1, (views, slots))
        top = int(scores.max())
        for threshold in {max(1, top - 1), max(1, top), top + 1}:
            valid, bits, layers = opened(operation, scores, threshold, [1] * views)
            assert valid == 1 and bits == expected(operation, scores, threshold)
            if operation == "identify":
                assert layers == best_layers(slots, RING_BITS, views) + 1


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_scores_and_any_validity(data: st.DataObject) -> None:
    operation = data.draw(st.sampled_from(["known", "candidates", "identify"]))
    views, slots = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 20))
    row = st.lists(st.integers(-5, 5), min_size=slots, max_size=slots)
    scores = np.array(data.draw(st.lists(row, min_size=views, max_size=views)))
    flags = data.draw(st.lists(st.integers(0, 1), min_size=views, max_size=views))
    threshold = data.draw(st.integers(1, 6))
    valid, bits, _ = opened(operation, scores, threshold, flags)
    assert valid == int(all(flags))
    assert bits == (expected(operation, scores, threshold) if valid else [0] * len(bits))


@pytest.mark.parametrize("views", [2, 3, 4])
@pytest.mark.parametrize("slots", [1, 8, 9, FEW_BITS, FEW_BITS + 1, 9001])
def test_bits_of_a_slot_are_joined_and_of_no_other(views: int, slots: int) -> None:
    bits = (RNG.random((views, slots)) < 0.2).astype(np.uint8)
    masks = RNG.integers(0, 2, views * slots, dtype=np.uint8)

    def circuit(share: Array) -> Callable[[Evaluator], Layer]:
        packed = np.packbits(share, bitorder="little")

        def run(evaluator: Evaluator) -> Layer:
            return [(yield from any_view(packed, views, slots, evaluator))]

        return run

    ((found,), layers) = played(circuit(bits.ravel() ^ masks), circuit(masks), any_view_cost(views, slots))
    assert np.array_equal(np.unpackbits(found, count=slots, bitorder="little"), bits.max(axis=0))
    assert layers == (1 if slots <= FEW_BITS else (views - 1).bit_length())


@pytest.mark.parametrize("slots", [100_001, 1_000_000])
def test_known_goes_as_far_as_candidates(slots: int) -> None:
    """A gallery of a million is one circuit like any other: only the best score counts, wherever it is."""
    scores = np.full((1, slots), -3)
    for at in (None, 0, slots // 3, slots - 1):
        if at is not None:
            scores[0, at] = 4
        valid, bits, layers = opened("known", scores, 4, [1])
        assert (valid, bits) == (1, [int(at is not None)]) and layers <= 18
        scores[:] = -3


@pytest.mark.parametrize("slots", [100_001, 1_000_000])
def test_known_of_a_large_gallery_is_exact_at_the_threshold(slots: int) -> None:
    """Everybody one below the threshold is nobody; one at it, or several, or all, is somebody."""
    scores = np.full((1, slots), 3)
    assert opened("known", scores, 4, [1])[:2] == (1, [0])
    for tied in ([slots // 2], [0, 7, slots - 1], slice(None)):
        scores[0, tied] = 4
        assert opened("known", scores, 4, [1])[:2] == (1, [1])
        assert opened("known", scores, 5, [1])[:2] == (1, [0])
        scores[:] = 3


def test_known_of_a_large_gallery_is_exact_at_the_threshold_in_each_view() -> None:
    slots = 100_001
    scores = np.full((2, slots), 3)
    assert opened("known", scores, 4, [1, 1])[:2] == (1, [0])
    for view, slot in ((0, 0), (1, 0), (0, slots - 1), (1, slots - 1), (slice(None), slots // 2)):
        scores[view, slot] = 4
        assert opened("known", scores, 4, [1, 1])[:2] == (1, [1])
        scores[:] = 3
    scores[1, 5] = 4
    assert opened("known", scores, 4, [1, 0])[:2] == (0, [0])


def test_too_few_triples_end_it() -> None:
    scores = np.zeros((3, 5), dtype=np.int64)
    for operation in ("known", "candidates", "identify"):
        with pytest.raises(ProtocolError):
            opened(operation, scores, 1, [1] * 3, answer_cost(operation, 5, RING_BITS, 3) - 1)
