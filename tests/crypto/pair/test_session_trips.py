"""How many trips a session takes between organisations that are apart: the bound that its rounds are made for."""

from __future__ import annotations

import numpy as np
import pytest

from tests.crypto.pair.trips import trips_of
from tests.crypto.toys import TOY, keys_of
from tests.simulator import PairSimulator, SimulatedGallery, unit_vectors
from veilmatch.crypto.gates.tournament import best_layers
from veilmatch.crypto.pair.request import Operation

TEMPLATES = unit_vectors(np.random.default_rng(31), 9, TOY)


@pytest.mark.parametrize(
    ("operation", "by_device", "trips"),
    [("candidates", True, 10), ("verify", True, 8), ("verify", False, 8),
     ("identify", True, 8 + best_layers(9, TOY.ring_bits)), ("known", True, 12),
     ("enrol", True, 9), ("erase", True, 9),
     ("rotate", True, 9), ("erase", False, 5), ("rotate", False, 5)],
)  # fmt: skip
def test_session_takes_few_trips(operation: Operation, by_device: bool, trips: int) -> None:
    """The minus holder is brought the request a trip before the plus holder: its matcher hears of the state first."""
    simulator = PairSimulator(keys_of("stand-in"))
    gallery = SimulatedGallery.of(simulator.keys.scheme, TEMPLATES)
    wanted = gallery.places[:1] if operation == "verify" else gallery.places
    ciphertexts = simulator.encrypt(TEMPLATES[0])
    for starts in ((1, 0), (0, 0)):
        taken = trips_of(simulator, operation, ciphertexts, gallery, wanted, [by_device], starts)
        assert max(taken) == trips


@pytest.mark.parametrize(
    ("templates", "by_device", "trips"), [(2, False, 8), (64, False, 8), (4, True, 8), (5, True, 9), (64, True, 10)]
)
def test_verification_of_several_templates_takes_hardly_more(templates: int, by_device: bool, trips: int) -> None:
    simulator = PairSimulator(keys_of("stand-in"))
    gallery = SimulatedGallery.of(simulator.keys.scheme, unit_vectors(np.random.default_rng(32), templates, TOY))
    probe = simulator.encrypt(TEMPLATES[0])
    for starts in ((1, 0), (0, 0)):
        assert max(trips_of(simulator, "verify", probe, gallery, gallery.places, [by_device], starts)) == trips
