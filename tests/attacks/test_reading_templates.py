"""The simulation that budgets and lowest thresholds rest on: repeatable, and never better than its answers."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.budget_attack import faces
from benchmarks.budget_attack.attacks import asked
from benchmarks.budget_attack.device import THRESHOLD, Device, P
from benchmarks.budget_attack.faces import Faces
from benchmarks.budget_attack.templates import AT, ATTACKS, run
from veilmatch.client.capture.quantiser import quantise

#: Attacks that a device with a lowest threshold can carry out.
BOUND = [name for name in ATTACKS if not name.startswith("any")]


@pytest.mark.parametrize("name", [name for name in ATTACKS if name != "bound"])
def test_the_simulation_is_repeatable_and_learns(name: str) -> None:
    found = run(name, 2, 7)
    assert found == run(name, 2, 7) != run(name, 2, 8)
    assert found[AT[-1]] > found[AT[0]]


def test_no_attack_beats_the_information_in_its_answers() -> None:
    # Rate and distortion of 128 normal coordinates: n bits leave at least 2^(-2n/128) of the square error.
    for n, cosine in run("any threshold", 3, 1).items():
        assert cosine**2 <= 1 - 2 ** (-2 * n / 128) + 0.05


class Noting(Device):
    """A device that notes the thresholds it asks at."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        super().__init__(quantise(rng.standard_normal(P.dimension), P), P.threshold(THRESHOLD))
        self.thresholds: list[int] = []

    def ask(self, probe: np.ndarray, t: int) -> bool:
        self.thresholds.append(t)
        return super().ask(probe, t)


@pytest.mark.parametrize("name", ATTACKS)
def test_only_the_attacks_without_a_bound_ask_below_it(name: str) -> None:
    device = Noting(3)
    asked(device, ATTACKS[name](device, np.random.default_rng(4)), 200)
    assert (min(device.thresholds) >= P.threshold(THRESHOLD)) is (name in BOUND)


def test_under_a_bound_and_without_a_match_nothing_is_learnt_of_a_random_template() -> None:
    for seed in (5, 6):
        device = Noting(seed)
        asked(device, ATTACKS["bound"](device, np.random.default_rng(seed)), 500)
        assert device.passed is None and max(map(abs, device.cosines)) < THRESHOLD


@pytest.fixture(scope="module")
def people() -> Faces:
    """Made-up faces in which a few directions say most, as in real ones."""
    rng = np.random.default_rng(9)
    weights = 1 / np.sqrt(1 + np.arange(P.dimension))
    centres = rng.standard_normal((16, P.dimension)) * weights + 0.15 * weights
    photos = np.repeat(centres, 9, axis=0) + 0.4 * weights * rng.standard_normal((16 * 9, P.dimension))
    photos = photos @ np.linalg.qr(rng.standard_normal((P.dimension, P.dimension)))[0]  # no coordinate is clipped
    units = photos / np.linalg.norm(photos, axis=1, keepdims=True)
    return Faces(units, np.array([quantise(face, P) for face in units]), np.repeat(np.arange(16), 9))


def test_faces_are_found_the_sooner_the_lower_the_device_may_ask(people: Faces) -> None:
    found = {name: faces.run(people, name, 3, 1) for name in faces.ATTACKS}
    assert found["0.50 guesses"] == faces.run(people, "0.50 guesses", 3, 1)
    for shares in found.values():
        assert list(shares.values()) == sorted(shares.values())
    for n in faces.AT[2:]:
        for kind in ("guesses", "strangers"):
            shares = [found[f"{bound:.2f} {kind}"][n] for bound in faces.BOUNDS]
            assert found["any threshold"][n] >= shares[0] >= shares[1] >= shares[2]
    assert found["any threshold"][35] == 1 > 2 * found["0.50 guesses"][35]
    rates = [faces.rates(people)[f"{bound:.2f}"] for bound in faces.BOUNDS]
    assert rates[0]["fmr_longest"] >= rates[0]["fmr"] > rates[1]["fmr"] > rates[2]["fmr"]
    assert rates[0]["fnmr"] <= rates[1]["fnmr"] <= rates[2]["fnmr"]
