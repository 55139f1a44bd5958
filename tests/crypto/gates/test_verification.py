"""The verification gate: exact scores of shared vectors, and one answer of all that is known of them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.crypto.gates.test_gates import BothHolders
from tests.crypto.gates.test_multiplication import Both, dealt
from tests.crypto.toys import TOY, repeated, valid_vectors
from veilmatch.crypto.errors import ProtocolError
from veilmatch.crypto.gates.boolean import Circuit, Evaluator
from veilmatch.crypto.gates.verification import (
    any_reached,
    any_reached_cost,
    inner_products,
    inner_products_cost,
    reached,
    reached_cost,
)
from veilmatch.crypto.packing.fields import Array
from veilmatch.crypto.parameters import D256, D512, DEFAULT, ParameterSet

RNG = np.random.default_rng(1812)
SETS = [TOY, DEFAULT, D256, D512]


def split(vectors: Array, p: ParameterSet) -> tuple[Array, Array]:
    """Lanes of both holders that differ by coordinate + offset, those of the minus holder anywhere that is no risk."""
    minus = RNG.integers(0, (1 << p.lane_bits) - p.lane_risk, vectors.size)
    return minus + vectors.ravel() + p.offset, minus


def scores_of(probe: Array, templates: Array, p: ParameterSet) -> list[int]:
    """What the circuit says of the scores, as signed numbers."""
    probes, records, material = (
        split(probe, p),
        split(templates, p),
        dealt(inner_products_cost(len(templates), p.dimension)),
    )
    circuits = [inner_products(probes[at], records[at], p, material[at], is_plus=at == 0) for at in (0, 1)]
    both = Both(circuits[0], circuits[1])
    assert len(both.sent) == 1, "one message of each holder"
    return [(x + (1 << 63)) % (1 << 64) - (1 << 63) for x in both.difference]


def decided(probe: Array, templates: Array, threshold: int, p: ParameterSet) -> list[int]:
    """Which templates the probe reaches the threshold with."""
    n = len(templates)
    probes, records, material = split(probe, p), split(templates, p), dealt(inner_products_cost(n, p.dimension))
    both = BothHolders(reached_cost(n, p))

    def circuit(e: Evaluator) -> Circuit:
        at = 0 if e.is_plus else 1
        return reached(probes[at], records[at], np.full(n, threshold), p, material[at], e)

    plus, minus = both.run(circuit)
    assert (both.layers, both.used) == (2 if p is TOY and p.ring_bits - 2 <= 4 else 3, reached_cost(n, p))
    return (plus ^ minus).tolist()  # type: ignore[no-any-return]


def vectors(count: int, p: ParameterSet) -> Array:
    """Random ones, of coordinates that are often clipped."""
    drawn = np.rint(RNG.normal(0, p.scale / p.dimension**0.5, (count, p.dimension)) * RNG.choice([1, 3], (count, 1)))
    return np.clip(drawn.astype(np.int64), -p.clip, p.clip)


@pytest.mark.parametrize("p", SETS, ids=lambda p: p.name)
@pytest.mark.parametrize("count", [1, 2, 30])
def test_scores_are_those_of_plain_integers(p: ParameterSet, count: int) -> None:
    probe, templates = vectors(1, p)[0], vectors(count, p)
    assert scores_of(probe, templates, p) == (templates @ probe).tolist()


@pytest.mark.parametrize("p", SETS, ids=lambda p: p.name)
def test_scores_of_the_largest_coordinates_are_exact(p: ParameterSet) -> None:
    """Whatever their norm: nothing of it wraps mod 2^64."""
    top = repeated(p.clip, p)
    extremes = np.array([top, -top, np.where(np.arange(p.dimension) % 2, p.clip, -p.clip), 0 * top])
    for probe in extremes:
        assert scores_of(probe, extremes, p) == (extremes @ probe).tolist()


@settings(max_examples=80, deadline=None)
@given(valid_vectors(TOY), st.lists(valid_vectors(TOY), min_size=1, max_size=5), st.integers(1, TOY.threshold_max))
def test_any_valid_vectors_are_compared_exactly(probe: Array, templates: list[Array], threshold: int) -> None:
    expected = (np.array(templates) @ probe >= threshold).astype(int).tolist()
    assert decided(probe, np.array(templates), threshold, TOY) == expected


@pytest.mark.parametrize("p", SETS, ids=lambda p: p.name)
def test_a_score_reaches_the_threshold_from_exactly_that_on(p: ParameterSet) -> None:
    """At t - 1, t and t + 1; and at the ends of what valid vectors can score."""
    probe = _of_norm(p.threshold_max, p)
    score = int(probe @ probe)
    assert p.norm_min <= score <= p.norm_max
    templates = np.array([probe, -probe, 0 * probe])
    for threshold in (1, score - 1, score, score + 1):
        if 1 <= threshold <= p.threshold_max:
            assert decided(probe, templates, threshold, p) == [int(score >= threshold), 0, 0]
    largest = _of_norm(p.norm_max, p)
    assert decided(largest, np.array([largest, -largest]), p.threshold_max, p) == [1, 0]


def _of_norm(norm: int, p: ParameterSet) -> Array:
    """A vector of the largest squared norm up to this one that is found coordinate by coordinate."""
    x = np.zeros(p.dimension, dtype=np.int64)
    for i in range(p.dimension):
        x[i] = min(p.clip, int((norm - int(x @ x)) ** 0.5)) * (-1) ** i
    return x


# -- one answer of many bits ---------------------------------------------------------------------------------


def answered(
    found: Sequence[int], valid: Sequence[int], gated: Sequence[bool], layers_before: tuple[int, int] = (0, 0)
) -> tuple[tuple[int, int], BothHolders]:
    """What comes out of these bits, shared: the answer and the validity of the probe.

    valid: of the probe and of the records that are gated. layers_before: of the two circuits, which send nothing here.
    """
    masks = [RNG.integers(0, 2, len(bits), dtype=np.uint8) for bits in (found, valid)]
    both = BothHolders(any_reached_cost([np.array(gated, dtype=np.bool_)]))

    def shared(bits: Sequence[int], mask: Any, e: Evaluator, layers: int) -> Circuit:
        for _ in range(layers):
            yield b""
        return np.array(bits, dtype=np.uint8) ^ mask if e.is_plus else mask

    def packed(e: Evaluator) -> Circuit:
        return np.packbits((yield from shared(valid, masks[1], e, layers_before[0])), bitorder="little")

    def circuit(e: Evaluator) -> Any:
        return any_reached(
            packed(e), shared(found, masks[0], e, layers_before[1]), [np.array(gated, dtype=np.bool_)], e
        )

    plus, minus = both.run(circuit)
    assert both.used == any_reached_cost([np.array(gated, dtype=np.bool_)]), "reserved is what is used"
    answer, of_probe = (int(x[0] ^ y[0]) for x, y in zip(plus, minus, strict=True))
    return (answer, of_probe), both


@pytest.mark.parametrize("gated", list(product([False, True], repeat=3)), ids=str)
def test_answer_of_three_templates_is_right_for_every_outcome(gated: tuple[bool, ...]) -> None:
    for found in product((0, 1), repeat=3):
        for probe, *records in product((0, 1), repeat=1 + sum(gated)):
            left = iter(records)
            valid = [next(left) if is_gated else 1 for is_gated in gated]
            expected = int(any(f and v for f, v in zip(found, valid, strict=True)) and probe)
            assert answered(found, (probe, *records), gated)[0] == (expected, probe)


@pytest.mark.parametrize("count", [1, 2, 4, 5, 8, 9, 16, 31, 63, 64])
@pytest.mark.parametrize("gated", [False, True])
def test_one_template_of_any_number_is_enough(count: int, gated: bool) -> None:
    records = [1] * count if gated else []
    for found in (np.zeros(count, int), np.ones(count, int), *np.eye(count, dtype=int)[:: max(1, count // 9)]):
        for probe in (0, 1):
            expected = int(found.any() and probe)
            assert answered(found, [probe, *records], [gated] * count)[0] == (expected, probe)
        if gated and found.any():
            others = [int(not bit) for bit in found]
            assert answered(found, [1, *others], [True] * count)[0] == (0, 1), "none of those that are valid"


@pytest.mark.parametrize(
    ("count", "gated", "layers"),
    [(1, False, 5), (8, False, 5), (9, False, 5), (64, False, 5), (1, True, 5), (4, True, 5), (5, True, 6),
     (32, True, 6), (33, True, 7), (64, True, 7)],
)  # fmt: skip
def test_bits_are_joined_while_the_validity_gate_runs(count: int, gated: bool, layers: int) -> None:
    """It has four layers; inner products and comparison have three."""
    _, both = answered([0] * count, [1, *[1] * count * gated], [gated] * count, (4, 3))
    assert both.layers == layers


@pytest.mark.parametrize("change", [lambda b: b[:-1], lambda b: b + b"\0", lambda b: b""])
def test_message_of_another_size_is_refused(change: Any) -> None:
    (probe, _), (template, _) = split(vectors(1, TOY), TOY), split(vectors(1, TOY), TOY)
    material, _ = dealt(inner_products_cost(1, TOY.dimension))
    circuit = inner_products(probe, template, TOY, material, is_plus=True)
    with pytest.raises(ProtocolError):
        circuit.send(change(next(circuit)))


@pytest.mark.parametrize("surplus", [-1, 1])
def test_products_of_another_number_are_refused(surplus: int) -> None:
    (probe, _), (template, _) = split(vectors(1, TOY), TOY), split(vectors(1, TOY), TOY)
    material, _ = dealt(inner_products_cost(1, TOY.dimension) + surplus)
    with pytest.raises(ProtocolError):
        next(inner_products(probe, template, TOY, material, is_plus=True))
