"""Intervals: the rule of three, and subjects drawn again."""

from __future__ import annotations

import math

import numpy as np
import pytest

from veilmatch.client.evaluation.figures.intervals import interval, resamples, rule_of_three


def test_rule_of_three_is_near_the_exact_bound() -> None:
    for n in (100, 300, 3000):
        exact = 1 - 0.05 ** (1 / n)  # no error in n with probability 5 %
        assert rule_of_three(n).high == pytest.approx(exact, rel=0.05)
        assert rule_of_three(n).low == 0


@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_comparisons_show_nothing(n: int) -> None:
    assert (rule_of_three(n).low, rule_of_three(n).high) == (0, 1)


def test_no_error_seen_is_the_rule_of_three_whatever_the_bootstrap_says() -> None:
    found = interval(0.0, np.zeros(100), 600)
    assert (found.high, found.method) == (0.005, "rule of three")


def test_interval_is_the_middle_95_percent_of_the_replicates() -> None:
    found = interval(0.5, np.arange(1001) / 1000, 10)
    assert (found.low, found.high) == (pytest.approx(0.025), pytest.approx(0.975))
    assert found.method == "bootstrap over subjects"


def test_replicates_without_a_value_are_left_out() -> None:
    found = interval(0.5, np.array([math.nan, 0.4, 0.6]), 10)
    assert 0.4 <= found.low < found.high <= 0.6
    assert interval(0.5, np.array([math.nan]), 10).method == "none"


def test_every_replicate_draws_as_many_subjects_as_there_are() -> None:
    drawn = resamples(lambda counts: [float(counts.sum()), float(counts.max())], 9, 200, seed=3)
    assert drawn.shape == (200, 2)
    assert set(drawn[:, 0]) == {9.0} and len(set(drawn[:, 1])) > 1


def test_a_seed_makes_the_same_replicates_again() -> None:
    first, again, other = (resamples(lambda c: c.astype(float).tolist(), 5, 20, seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_bootstrap_over_subjects_is_as_wide_as_subjects_differ() -> None:
    """Half of 40 subjects fail always: the standard error is that of 40 coins, however many comparisons they make."""
    fails = np.arange(40) % 2
    found = interval(0.5, resamples(lambda c: [float(c @ fails) / 40], 40, 4000, 1)[:, 0], 40 * 1000)
    assert found.high - found.low == pytest.approx(2 * 1.96 * 0.5 / math.sqrt(40), rel=0.1)
