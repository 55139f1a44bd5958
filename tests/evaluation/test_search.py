"""Search 1:N by hand: rank 1, FPIR and FNIR."""

from __future__ import annotations

import numpy as np
import pytest

from veilmatch.client.evaluation.search import Searches, open_set, open_set_curve, rank_one

#: Three subjects enrolled; four probes, of subjects 0, 0, 1, 2.
SEARCHES = Searches.of(np.array([0, 0, 0, 1, 1, 2, 2]))
SCORES = np.array([[0.9, 0.1, 0.2], [0.3, 0.4, 0.1], [0.6, 0.6, 0.0], [0.2, 0.1, 0.8]])


def test_first_photo_is_enrolled_and_the_others_search() -> None:
    assert SEARCHES.enrolled.tolist() == [0, 3, 5]
    assert SEARCHES.probes.tolist() == [1, 2, 4, 6]
    assert SEARCHES.mates.tolist() == [0, 0, 1, 2]


def test_table_takes_probes_and_enrolled() -> None:
    square = np.arange(49).reshape(7, 7)
    assert SEARCHES.table(square).tolist() == [[7 * p + e for e in (0, 3, 5)] for p in (1, 2, 4, 6)]


def test_a_tie_is_not_rank_one() -> None:
    assert rank_one(SEARCHES, SCORES) == pytest.approx(2 / 4)


@pytest.mark.parametrize(
    ("threshold", "fpir", "fnir"), [(0.95, 0, 1), (0.5, 1 / 4, 1 / 4), (0.35, 2 / 4, 1 / 4), (0.0, 1, 0)]
)
def test_fpir_and_fnir_by_hand(threshold: float, fpir: float, fnir: float) -> None:
    assert open_set(SEARCHES, threshold <= SCORES) == (pytest.approx(fpir), pytest.approx(fnir))


def test_curve_agrees_with_decisions_at_every_threshold() -> None:
    found = open_set_curve(SEARCHES, SCORES)
    for fpir, fnir, threshold in zip(found.fmr, found.fnmr, found.thresholds, strict=True):
        assert open_set(SEARCHES, threshold <= SCORES) == (pytest.approx(fpir), pytest.approx(fnir))
    assert found.fnmr_at(0.25) == pytest.approx(1 / 4)
