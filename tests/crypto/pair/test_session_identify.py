"""identify in whole sessions: the best slot at or above the threshold, the lower one of equals, or nobody."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest

from tests.crypto.toys import TOY
from tests.simulator import Keys, PairSimulator, SimulatedGallery, unit_vectors
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.errors import ProtocolError, ServerDeviationError
from veilmatch.crypto.gates.answer import answer_bits, answer_cost
from veilmatch.crypto.gates.tournament import label_bits
from veilmatch.crypto.packing.fields import Array
from veilmatch.crypto.pair.messages import DecisionShare, Reserve

RNG = np.random.default_rng(31)


def identified(
    keys: Keys, probe: Array, gallery: SimulatedGallery, threshold: int, wanted: Iterable[int] | None = None
) -> int:
    """The opened answer: number of the best wanted slot, from 1, or 0."""
    places = None if wanted is None else [gallery.places[i] for i in wanted]
    bits = PairSimulator(keys).decide("identify", probe, gallery, threshold, places)
    assert len(bits) == label_bits(len(gallery.places if places is None else places))
    return sum(int(bit) << i for i, bit in enumerate(bits))


def best(scores: Array, threshold: int) -> int:
    """The same in clear: numpy's argmax takes the first of equals."""
    at = int(np.argmax(scores))
    return at + 1 if scores[at] >= threshold else 0


@pytest.mark.parametrize("count", [2, 3, 7, 8, TOY.slots, TOY.slots + 1, 2 * TOY.slots + 5])
def test_best_slot_of_a_random_gallery_is_that_of_plain_integers(keys: Keys, count: int) -> None:
    templates = unit_vectors(RNG, count, TOY)
    gallery = SimulatedGallery.of(keys.scheme, templates)
    for probe in unit_vectors(RNG, 2, TOY):
        scores = templates @ probe
        top = max(1, int(scores.max()))
        for threshold in (max(1, top - 1), top, min(top + 1, TOY.threshold_max)):
            assert identified(keys, probe, gallery, threshold) == best(scores, threshold)


def test_threshold_at_the_best_score_finds_it_and_one_above_finds_nobody(keys: Keys) -> None:
    probe, *others = unit_vectors(RNG, 6, TOY)
    # Scores are then the threshold's own range: a vector with itself may be above S^2.
    templates = np.array([t for t in (-probe, *others) if t @ probe < TOY.threshold_max])
    gallery = SimulatedGallery.of(keys.scheme, templates)
    scores = templates @ probe
    top = int(scores.max())
    assert 1 < top < TOY.threshold_max
    assert [identified(keys, probe, gallery, top + step) for step in (-1, 0, 1)] == [int(np.argmax(scores)) + 1] * 2 + [
        0
    ]


@pytest.mark.parametrize("at", [(0, 1), (2, 5), (7, TOY.slots + 3), (TOY.slots - 1, TOY.slots), (0, 3, 4, 9)])
def test_lower_slot_wins_a_tie(keys: Keys, at: tuple[int, ...]) -> None:
    templates = unit_vectors(RNG, TOY.slots + 4, TOY)
    probe = templates[at[0]].copy()
    templates[templates @ probe >= probe @ probe] *= -1
    templates[list(at)] = probe
    assert identified(keys, probe, SimulatedGallery.of(keys.scheme, templates), 1) == at[0] + 1


def test_one_template_alone_is_found_or_not(keys: Keys) -> None:
    face, stranger = unit_vectors(RNG, 2, TOY)
    gallery = SimulatedGallery.of(keys.scheme, np.array([face]))
    threshold = min(int(face @ face), TOY.threshold_max)
    assert identified(keys, face, gallery, threshold) == 1
    assert identified(keys, -face, gallery, 1) == 0
    assert identified(keys, stranger, gallery, 1) == int(stranger @ face >= 1)


def test_slots_that_are_not_asked_for_neither_win_nor_count(keys: Keys) -> None:
    """Erased and free slots: the numbers are those among the slots that are left."""
    templates = unit_vectors(RNG, TOY.slots + 6, TOY)
    gallery = SimulatedGallery.of(keys.scheme, templates)
    probe = templates[4]
    for erased in ([4], [0, 1, 2], [4, 5, TOY.slots], list(range(TOY.slots))):
        left = [i for i in range(len(templates)) if i not in erased]
        assert identified(keys, probe, gallery, 1, left) == best(templates[left] @ probe, 1)


def test_empty_gallery_has_no_session(keys: Keys) -> None:
    """A matcher answers for it alone; results that ask for no slot are refused."""
    gallery = SimulatedGallery.of(keys.scheme, unit_vectors(RNG, 2, TOY))
    with pytest.raises(ProtocolError):
        identified(keys, gallery.templates[0], gallery, 1, [])


def test_invalid_probe_is_refused_at_the_device_and_finds_nobody(keys: Keys) -> None:
    gallery = SimulatedGallery.of(keys.scheme, unit_vectors(RNG, 5, TOY))
    simulator = PairSimulator(keys)
    for probe in (0 * gallery.templates[0], 2 * gallery.templates[0]):
        with pytest.raises(ServerDeviationError):
            simulator.decide("identify", probe, gallery, 1)
        request = simulator.request("identify", 1)
        plus, minus = simulator.run(request, simulator.encrypt(probe), gallery, gallery.places)
        assert plus.valid == minus.valid and not (plus.bits ^ minus.bits).any()


def test_one_share_of_the_answer_says_nothing(keys: Keys) -> None:
    gallery = SimulatedGallery.of(keys.scheme, unit_vectors(RNG, 9, TOY))
    simulator = PairSimulator(keys)
    ciphertexts: list[Integer] = simulator.encrypt(gallery.templates[8])
    request = simulator.request("identify", 1)
    shares = np.array([simulator.run(request, ciphertexts, gallery, gallery.places)[0].bits for _ in range(24)])
    assert np.all(shares.min(axis=0) == 0) and np.all(shares.max(axis=0) == 1), "each bit of it was 0 and 1"


@pytest.mark.parametrize("count", [1, 2, 9])
def test_as_many_bit_triples_are_reserved_as_the_answer_costs(keys: Keys, count: int) -> None:
    gallery = SimulatedGallery.of(keys.scheme, unit_vectors(RNG, count, TOY))
    seen: list[object] = []
    simulator = PairSimulator(keys, observe=lambda holder, action: seen.append(action))
    plus, _ = simulator.run(
        simulator.request("identify", 1), simulator.encrypt(gallery.templates[0]), gallery, gallery.places
    )
    reserved = [a.count for a in seen if isinstance(a, Reserve) and a.kind == "bits"]
    assert reserved[-1] == answer_cost("identify", count, TOY.ring_bits)
    assert isinstance(plus, DecisionShare) and len(plus.bits) == answer_bits("identify", count)


def test_an_answer_never_has_more_bits_than_slots() -> None:
    for slots in range(1, 300):
        assert [answer_bits(o, slots) for o in ("verify", "candidates")] == [1, slots]
        assert slots < 1 << answer_bits("identify", slots) <= 2 * slots and answer_bits("identify", slots) <= slots
