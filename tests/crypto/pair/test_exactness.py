"""Encrypted decisions equal plaintext ones: 10,000 pairs at a time through the whole path, most of them at an edge."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from tests.crypto.toys import SCHEMES, aimed, keys_of, lane_shares, with_low_bits
from tests.simulator import Aim, PairSimulator, SimulatedGallery, first_taken, unit_vectors
from tests.storing import each_template, empty_gallery, records_of, store
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.packing import lanes
from veilmatch.crypto.packing.fields import Array
from veilmatch.crypto.parameters import D512, DEFAULT, ParameterSet

#: The real numbers over a toy modulus, with how many packs and probes make 10,000 pairs.
D128_TOY = ParameterSet(128, 60, 23, 1024)
D512_TOY = ParameterSet(512, 40, 15, 1024)


@dataclass(frozen=True)
class Population:
    """Templates, and probes each with a threshold at which many templates decide by one point."""

    parameters: ParameterSet
    templates: Array
    probes: Array
    thresholds: list[int]

    @property
    def scores(self) -> Array:
        return self.probes @ self.templates.T

    @property
    def distances(self) -> Array:
        return self.scores - np.array(self.thresholds)[:, None]


def population(parameters: ParameterSet, templates: int, probes: int, seed: int) -> Population:
    """Random, extreme and crafted vectors: for each probe twelve templates with a score of t-1, t or t+1."""
    rng = np.random.default_rng(seed)
    sought = [parameters.threshold(0.35), 1, parameters.threshold_max, parameters.threshold(0.6)]
    thresholds = [sought[i % len(sought)] for i in range(probes)]
    all_probes = unit_vectors(rng, probes, parameters)
    for i in range(0, probes, max(1, probes // 3)):
        all_probes[i] = extreme(rng, parameters, ones=40)
    crafted = [
        template_with_score(probe, t + near, rng, parameters)
        for probe, t in zip(all_probes, thresholds, strict=True)
        for near in (-1, 0, 1) * 4
    ]
    made = [*crafted, *(extreme(rng, parameters) for _ in range(20)), *all_probes[:4], *-all_probes[:4]]
    assert len(made) <= templates
    made += list(unit_vectors(rng, templates - len(made), parameters))
    order = rng.permutation(len(made))
    return Population(parameters, np.array(made)[order], all_probes, thresholds)


def extreme(rng: np.random.Generator, p: ParameterSet, ones: int = 0) -> Array:
    """As many coordinates of +-c as the norm admits beside `ones` of +-1, the rest 0."""
    count = (p.norm_max - ones) // p.clip**2
    values = np.repeat([p.clip, 1, 0], [count, ones, p.dimension - count - ones])
    return rng.permutation(values) * rng.choice([-1, 1], p.dimension)


def template_with_score(probe: Array, score: int, rng: np.random.Generator, p: ParameterSet) -> Array:
    """A template whose inner product with the probe is exactly this."""
    unit = probe / np.linalg.norm(probe)
    other = rng.standard_normal(p.dimension)
    other -= (other @ unit) * unit
    along = min(score / (p.scale * np.linalg.norm(probe)), 1.0)
    blend = along * unit + np.sqrt(1 - along**2) * other / np.linalg.norm(other)
    x = np.clip(np.rint(p.scale * blend), -p.clip, p.clip).astype(np.int64)
    while (missing := score - int(x @ probe)) != 0:
        step = np.sign(probe) * np.sign(missing)
        free = (probe != 0) & (np.abs(probe) <= abs(missing)) & (np.abs(x + step) <= p.clip)
        assert free.any(), "no template has this score"
        i = rng.choice(np.flatnonzero(free))
        x[i] += step[i]
    return x


def most_wraps(probe: Array, p: ParameterSet, rng: np.random.Generator) -> list[Integer]:
    """w of the minus holder for which W coordinates of the probe wrap, those with the largest values."""
    ring = rng.integers(2 * p.clip, 2**p.ring_bits - 2 * p.clip, p.dimension)
    largest = np.argsort(-np.abs(probe))[: p.wrap_limit]
    ring[largest] = np.where(probe[largest] >= 0, 2**p.ring_bits - 1, 0)
    return lane_shares(with_low_bits(ring, p), p)


def aims(people: Population, packs: int, rng: np.random.Generator) -> list[Aim | None]:
    """For each probe: chance, most wraps and no carry in any slot, most wraps and a carry in every slot."""
    p = people.parameters
    no_carry, all_carry = Integer(0), (Integer(1) << (p.slots * p.slot_bits)) - 1
    made: list[Aim | None] = []
    for i, probe in enumerate(people.probes):
        results = [no_carry if i % 3 == 1 else all_carry] * packs
        made.append(aimed(most_wraps(probe, p, rng), results) if i % 3 else None)
    return made


def check(scheme: str, people: Population) -> None:
    """Every encrypted decision equals the plaintext one."""
    keys = keys_of(scheme, people.parameters)
    gallery = SimulatedGallery.of(keys.scheme, people.templates)
    simulator = PairSimulator(keys)
    found = []
    runs = zip(
        people.probes, people.thresholds, aims(people, len(gallery.packs), np.random.default_rng(9)), strict=True
    )
    for probe, threshold, aim in runs:
        simulator.aim = aim
        found.append(simulator.decide("candidates", probe, gallery, threshold))
        assert first_taken(simulator) == ([True, True] if aim else [None, None]), "what is aimed at is within the rules"
    assert np.array_equal(np.array(found, dtype=bool), people.scores >= np.array(people.thresholds)[:, None])


@pytest.fixture(scope="module")
def crowds() -> dict[str, Population]:
    return {
        "128-d": population(D128_TOY, 10 * D128_TOY.slots, 26, 1),
        "512-d": population(D512_TOY, 10 * D512_TOY.slots, 25, 2),
        "128-d, 3072 bits": population(DEFAULT, DEFAULT.slots + 3, 3, 3),
        "512-d, 3072 bits": population(D512, 60, 2, 4),
    }


@pytest.mark.parametrize("crowd", ["128-d", "512-d"])
def test_populations_are_10_000_pairs_with_hundreds_at_the_threshold(crowds: dict[str, Population], crowd: str) -> None:
    people = crowds[crowd]
    assert people.scores.size >= 10_000
    for distance in (-1, 0, 1):
        assert np.count_nonzero(people.distances == distance) >= 4 * len(people.probes)
    p = people.parameters
    norms = np.sum(people.templates**2, axis=1)
    assert norms.max() <= p.norm_max and norms.max() > p.norm_max - p.clip**2, "up to the largest norm"
    assert np.abs(people.scores).max() > p.threshold_max, "and scores above the largest threshold"
    assert set(np.abs(people.templates).max(axis=1).tolist()) >= {p.clip}


@pytest.mark.parametrize("crowd", ["128-d", "512-d"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_10_000_encrypted_decisions_equal_plaintext_ones(
    crowds: dict[str, Population], crowd: str, scheme: str
) -> None:
    check(scheme, crowds[crowd])


@pytest.mark.parametrize("crowd", ["128-d, 3072 bits", "512-d, 3072 bits"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_decisions_at_the_full_size_equal_plaintext_ones(
    crowds: dict[str, Population], crowd: str, scheme: str
) -> None:
    check(scheme, crowds[crowd])


@pytest.mark.parametrize("scheme", SCHEMES)
def test_enrolled_lanes_become_columns_that_decide_exactly(scheme: str) -> None:
    """Enrolment as the matchers do it: their columns multiplied into an empty pack, then one of them erased."""
    p = D128_TOY
    keys, rng = keys_of(scheme, p), np.random.default_rng(5)
    people, simulator = unit_vectors(rng, 4, p), PairSimulator(keys)
    gallery, records = empty_gallery(keys.scheme), []
    for slot, template in zip((0, 1, 2, p.slots - 1), people, strict=True):
        shares = simulator.run(simulator.request("enrol", 0), simulator.encrypt(template))
        store(gallery, slot, shares)
        records.append(records_of(keys.scheme, shares))
    erased = simulator.run(simulator.request("erase", 0), records[1], by_device=[False])
    store(gallery, 1, erased, erase=True)
    expected = np.zeros(p.slots, dtype=np.int64)
    expected[[0, 2, p.slots - 1]] = people[[0, 2, 3]] @ people[0]
    for threshold in (1, int(expected[0])):
        found = simulator.decide("candidates", people[0], gallery, threshold)
        assert np.array_equal(found, expected >= threshold)


def lane_edges(number: int, p: ParameterSet) -> Aim | None:
    """Lanes of the minus holder by chance, all at 0, all at the largest value that its rule admits, or too large."""
    largest = (1 << p.lane_bits) - p.lane_risk - 1
    value = (None, 0, largest, largest + 1)[number % 4]
    return None if value is None else aimed(lane_shares(np.full(p.dimension, value), p))


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("seed", [21, 22])
def test_templates_that_were_enrolled_decide_like_plaintext_ones(scheme: str, seed: int) -> None:
    """Random, extreme and crafted ones, at the threshold and one beside it; and refused vectors among them."""
    p = D128_TOY
    keys, people = keys_of(scheme, p), population(p, p.slots - 3, 1, seed)
    refused = [3 * people.templates[0], 0 * people.templates[0], people.templates[1] + (1 << p.ring_bits)]
    vectors = [*people.templates, *refused]
    valid = [p.norm_min <= int(x @ x) <= p.norm_max for x in people.templates] + [False] * 3
    simulator, gallery, records = PairSimulator(keys), empty_gallery(keys.scheme), []
    for slot, vector in enumerate(vectors):
        simulator.aim = lane_edges(slot, p)
        shares = simulator.run(simulator.request("enrol", 0), simulator.encrypt(vector))
        assert first_taken(simulator) == [(None, True, True, False)[slot % 4], None]
        assert bool(simulator.opened(shares)[1]) == valid[slot]
        store(gallery, slot, shares)
        records.append(records_of(keys.scheme, shares))
    kept = np.where(np.array(valid)[:, None], vectors, 0)
    simulator.aim = None

    def check_decisions() -> None:
        probe, threshold = people.probes[0], people.thresholds[0]
        asked = [(probe, threshold + d) for d in (-1, 0, 1)]
        for probe in (people.templates[5], -people.templates[6]):
            asked += [(probe, t) for t in (1, p.threshold(0.6), p.threshold_max)]
        for probe, t in asked:
            assert np.array_equal(simulator.decide("candidates", probe, gallery, t), kept @ probe >= t)

    check_decisions()
    assert all(np.count_nonzero(people.distances == d) >= 4 for d in (-1, 0, 1)), "at the threshold and beside it"
    assert sum(valid) > len(valid) - 10
    # Every third one is erased again; the others stay as they were.
    for slot in range(0, len(vectors), 3):
        store(gallery, slot, simulator.run(simulator.request("erase", 0), records[slot], by_device=[False]), erase=True)
        kept[slot] = 0
    check_decisions()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_records_of_one_key_become_packs_and_records_of_another_that_decide_exactly(scheme: str) -> None:
    """Rotation as the matchers do it, to a modulus of another size; a bulk record that is not valid becomes zero."""
    old, p = ParameterSet(64, 60, 23, 1024), ParameterSet(64, 60, 23, 512)
    keys, new, rng = keys_of(scheme, old), keys_of(scheme, p), np.random.default_rng(6)
    people = unit_vectors(rng, 4, old)
    simulator = PairSimulator(keys)
    stored = [c for template in [*people, 3 * people[0]] for c in simulator.encrypt(template)]
    shares = simulator.run(simulator.request("rotate", 0), stored)
    assert simulator.opened(shares)[1].tolist() == [1, 1, 1, 1, 0]
    gallery, kept = empty_gallery(new.scheme), np.vstack([people, 0 * people[:1]])
    for slot, both in enumerate(each_template(p.dimension, shares)):
        store(gallery, slot, both)
    gallery.places = gallery.places[:5]

    rotated = PairSimulator(new)
    scores = kept @ people[0]
    for threshold in sorted({1, *(int(score) + d for score in scores for d in (0, 1) if score + d > 0)}):
        if threshold <= p.threshold_max:
            assert np.array_equal(rotated.decide("candidates", people[0], gallery, threshold), scores >= threshold)
    again = rotated.run(rotated.request("rotate", 0), records_of(new.scheme, shares), by_device=[False] * 5)
    assert np.array_equal(rotated.opened(again)[0] - p.offset, kept.ravel())


def test_both_parts_of_a_record_add_up_to_what_the_device_encrypts() -> None:
    rng = np.random.default_rng(7)
    for p in (DEFAULT, D512, D128_TOY):
        vector = unit_vectors(rng, 1, p)[0]
        for end in (48, 64):  # of lanes, and of words
            minus = rng.integers(0, (1 << end) - p.lane_risk, p.dimension, dtype=np.uint64)
            minus[:2] = 0, (1 << end) - p.lane_risk - 1
            parts = (
                lanes.record_part(minus + (vector + p.offset).astype(np.uint64), p, is_plus=True),
                lanes.record_part(minus, p, is_plus=False),
            )
            assert [a + b for a, b in zip(*parts, strict=True)] == lanes.pack(vector, p)
