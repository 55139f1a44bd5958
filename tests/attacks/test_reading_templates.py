"""The simulation that the default budgets rest on: repeatable, and never better than one bit an answer allows."""

from __future__ import annotations

import pytest

from benchmarks.budget_attack import AT, ATTACKS, run


@pytest.mark.parametrize("name", ATTACKS)
def test_the_simulation_is_repeatable_and_learns(name: str) -> None:
    found = run(name, 2, 7)
    assert found == run(name, 2, 7) != run(name, 2, 8)
    assert found[AT[-1]] > found[AT[0]]


def test_no_attack_beats_the_information_in_its_answers() -> None:
    # Rate and distortion of 128 normal coordinates: n bits leave at least 2^(-2n/128) of the square error.
    for n, cosine in run("adaptive", 3, 1).items():
        assert cosine**2 <= 1 - 2 ** (-2 * n / 128) + 0.05
