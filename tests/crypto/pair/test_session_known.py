"""known in whole sessions: whether any slot reaches the threshold, one bit, and not which."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest

from tests.crypto.toys import TOY
from tests.simulator import Keys, PairSimulator, SimulatedGallery, unit_vectors
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.errors import ProtocolError, ServerDeviationError
from veilmatch.crypto.packing.fields import Array

RNG = np.random.default_rng(61)


def is_known(
    keys: Keys, probe: Array, gallery: SimulatedGallery, threshold: int, wanted: Iterable[int] | None = None
) -> bool:
    places = None if wanted is None else [gallery.places[i] for i in wanted]
    (bit,) = PairSimulator(keys).decide("known", probe, gallery, threshold, places)
    return bool(bit)


@pytest.mark.parametrize("count", [1, 2, 3, 8, 9, TOY.slots, TOY.slots + 1, 2 * TOY.slots + 5])
def test_it_is_what_plain_integers_say_at_and_around_the_best_score(keys: Keys, count: int) -> None:
    templates = unit_vectors(RNG, count, TOY)
    gallery = SimulatedGallery.of(keys.scheme, templates)
    for probe in unit_vectors(RNG, 2, TOY):
        scores = templates @ probe
        top = max(1, int(scores.max()))
        for threshold in (max(1, top - 1), top, min(top + 1, TOY.threshold_max)):
            assert is_known(keys, probe, gallery, threshold) == bool((scores >= threshold).any())


def test_several_that_match_are_one_bit(keys: Keys) -> None:
    templates = unit_vectors(RNG, TOY.slots + 4, TOY)
    templates[[1, 2, TOY.slots + 1]] = templates[0]
    gallery = SimulatedGallery.of(keys.scheme, templates)
    threshold = min(int(templates[0] @ templates[0]), TOY.threshold_max)
    assert is_known(keys, templates[0], gallery, threshold)


def test_slots_that_are_not_asked_for_are_nobody(keys: Keys) -> None:
    templates = unit_vectors(RNG, TOY.slots + 3, TOY)
    gallery = SimulatedGallery.of(keys.scheme, templates)
    probe = templates[4]
    threshold = min(int(probe @ probe), TOY.threshold_max)
    others = [i for i in range(len(templates)) if i != 4]
    assert is_known(keys, probe, gallery, threshold)
    assert is_known(keys, probe, gallery, threshold, others) == bool((templates[others] @ probe >= threshold).any())
    with pytest.raises(ProtocolError):
        is_known(keys, probe, gallery, threshold, [])


def test_invalid_probe_is_refused_at_the_device_and_is_nobody(keys: Keys) -> None:
    gallery = SimulatedGallery.of(keys.scheme, unit_vectors(RNG, 5, TOY))
    simulator = PairSimulator(keys)
    for probe in (0 * gallery.templates[0], 2 * gallery.templates[0]):
        with pytest.raises(ServerDeviationError):
            simulator.decide("known", probe, gallery, 1)
        plus, minus = simulator.run(simulator.request("known", 1), simulator.encrypt(probe), gallery, gallery.places)
        assert plus.valid == minus.valid and not (plus.bits ^ minus.bits).any()


def test_one_share_of_the_answer_says_nothing(keys: Keys) -> None:
    gallery = SimulatedGallery.of(keys.scheme, unit_vectors(RNG, 9, TOY))
    simulator = PairSimulator(keys)
    ciphertexts: list[Integer] = simulator.encrypt(gallery.templates[8])
    request = simulator.request("known", 1)
    shares = [int(simulator.run(request, ciphertexts, gallery, gallery.places)[0].bits[0]) for _ in range(40)]
    assert 5 < sum(shares) < 35
