"""Error rates against values found by hand and by scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import det_curve

from veilmatch.client.evaluation.data.pairs import all_pairs
from veilmatch.client.evaluation.figures.rates import curve, rates
from veilmatch.crypto.errors import InvalidInputError

GENUINE = [0.9, 0.8, 0.3]
IMPOSTOR = [0.5, 0.2, 0.1, 0.0]
SCORES = np.array(GENUINE + IMPOSTOR)
LABELS = np.array([True] * 3 + [False] * 4)

SCORED = st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=30).filter(
    lambda pairs: len({genuine for _, genuine in pairs}) == 2
)


@pytest.mark.parametrize(
    ("fmr", "fnmr", "threshold"), [(0.0, 1 / 3, 0.8), (0.24, 1 / 3, 0.8), (0.25, 0, 0.3), (1, 0, 0)]
)
def test_fnmr_and_threshold_at_an_fmr_by_hand(fmr: float, fnmr: float, threshold: float) -> None:
    found = curve(SCORES, LABELS)
    assert found.fnmr_at(fmr) == pytest.approx(fnmr)
    assert found.threshold_at(fmr) == threshold


def test_equal_error_rate_by_hand() -> None:
    # Between (FMR 0, FNMR 1/3) and (1/4, 1/3) FNMR stays at 1/3; then it falls to 0 at FMR 1/4: they cross there.
    assert curve(SCORES, LABELS).eer == pytest.approx(0.25)
    assert curve(np.array([1.0, 0.0]), np.array([True, False])).eer == 0


@given(SCORED)
def test_rates_are_those_of_counting(pairs: list[tuple[int, bool]]) -> None:
    scores, genuine = np.array([s for s, _ in pairs], float), np.array([g for _, g in pairs])
    found = curve(scores, genuine)
    for fmr, fnmr, threshold in zip(found.fmr, found.fnmr, found.thresholds, strict=True):
        assert rates(scores >= threshold, genuine) == (pytest.approx(fmr), pytest.approx(fnmr))
    for target in (0, 0.1, 0.5, 1):
        above = np.nextafter(scores.max(), np.inf)
        allowed = [t for t in [*scores, above] if rates(scores >= t, genuine)[0] <= target]
        assert found.threshold_at(target) == min(allowed)
        assert found.fnmr_at(target) == pytest.approx(min(rates(scores >= t, genuine)[1] for t in allowed))
    assert 0 <= found.eer <= 1


@given(SCORED)
def test_curve_is_the_det_curve_of_scikit_learn(pairs: list[tuple[int, bool]]) -> None:
    scores, genuine = np.array([s for s, _ in pairs], float), np.array([g for _, g in pairs])
    found = curve(scores, genuine)
    for fmr, fnmr, threshold in zip(*det_curve(genuine, scores), strict=True):
        if np.isfinite(threshold):
            (at,) = np.flatnonzero(found.thresholds == threshold)
            assert (found.fmr[at], found.fnmr[at]) == (pytest.approx(fmr), pytest.approx(fnmr))


@given(SCORED, st.integers(0, 10**6))
def test_weights_count_as_often_as_repeated_comparisons(pairs: list[tuple[int, bool]], seed: int) -> None:
    scores, genuine = np.array([s for s, _ in pairs], float), np.array([g for _, g in pairs])
    weights = np.random.default_rng(seed).integers(1, 4, len(pairs))
    weighted, repeated = curve(scores, genuine, weights), curve(np.repeat(scores, weights), np.repeat(genuine, weights))
    assert weighted.eer == pytest.approx(repeated.eer)
    assert rates(scores >= 3, genuine, weights) == pytest.approx(
        rates(np.repeat(scores, weights) >= 3, np.repeat(genuine, weights))
    )


def test_all_the_same_scores_are_a_coin() -> None:
    found = curve(np.ones(6), np.array([True, True, False, False, False, False]))
    assert found.eer == pytest.approx(0.5)
    assert found.fnmr_at(0.1) == 1
    assert found.threshold_at(0.1) == np.nextafter(1, 2), "above all scores, and finite"


@pytest.mark.parametrize("genuine", [[True, True], [False, False], []])
def test_rates_of_one_kind_of_comparison_are_refused(genuine: list[bool]) -> None:
    with pytest.raises(InvalidInputError, match="genuine and impostor"):
        curve(np.ones(len(genuine)), np.array(genuine, bool))


def test_comparisons_without_weight_do_not_count() -> None:
    with pytest.raises(InvalidInputError):
        curve(SCORES, LABELS, LABELS.astype(np.int64))
    assert math.isnan(rates(LABELS, LABELS, LABELS.astype(np.int64))[0])


def test_every_comparison_is_made_once() -> None:
    pairs = all_pairs(np.array([0, 0, 1, 1, 1, 2]))
    assert len(pairs.first) == 15 and int(pairs.genuine.sum()) == 1 + 3
    assert len({frozenset(pair) for pair in zip(pairs.first, pairs.second, strict=True)}) == 15


def test_orl_gives_the_pairs_that_the_literature_counts() -> None:
    pairs = all_pairs(np.repeat(np.arange(40), 10))
    assert (int(pairs.genuine.sum()), int((~pairs.genuine).sum())) == (1800, 78000)


@pytest.mark.parametrize("labels", [[0], [0, 0, 0], [0, 1, 2]])
def test_one_subject_or_one_photo_each_leaves_nothing_to_compare(labels: list[int]) -> None:
    with pytest.raises(InvalidInputError, match="nothing to compare"):
        all_pairs(np.array(labels))


def test_weights_of_drawn_subjects_never_make_an_impostor_of_a_copy() -> None:
    labels = np.array([0, 0, 1, 1, 2])
    pairs = all_pairs(labels)
    counts = np.array([2, 1, 0])
    drawn = dict(zip(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True), pairs.weights(counts), strict=True))
    assert drawn[0, 1] == 2 and drawn[2, 3] == 1, "genuine comparisons come with their subject"
    assert drawn[0, 2] == 2 and drawn[0, 4] == 0, "impostor comparisons with both"
