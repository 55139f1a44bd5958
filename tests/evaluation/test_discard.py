"""Error versus discard: quality that knows the errors takes them away, and floors are counted."""

from __future__ import annotations

import numpy as np
import pytest

from veilmatch.client.capture.quality.assessment import Quality, Reason
from veilmatch.client.evaluation.figures.discard import KNOWING, SHARES, Genuine, error_versus_discard


def photo(length: float, refused: bool = False) -> Quality:
    reasons = (Reason("unified_quality_score", 10, 40),) if refused else ()
    return Quality({"unified_quality_score": 50}, {"unified_quality_score": length}, 1, (0, 0, 1, 1), reasons)


def test_errors_of_the_lowest_quality_are_discarded_first() -> None:
    probes = [photo(float(n), refused=n < 12) for n in range(100)]
    rows = np.arange(100)
    part = Genuine(rows, np.zeros(100, np.int64), rows < 10, probes, [photo(1000.0)])
    found = error_versus_discard([part])
    assert found is not None and found.shares == SHARES
    assert found.fnmr[0] == 0.1 and found.fnmr[SHARES.index(0.05)] == pytest.approx(5 / 95)
    assert found.fnmr[SHARES.index(0.10)] == 0 and found.kept_fnmr == 0
    assert (found.photos, found.refused, found.bad, found.bad_refused) == (100, 12, 10, 10)
    assert (found.good, found.good_refused) == (90, 2)
    shuffled = Genuine(rows, np.zeros(100, np.int64), rows % 10 == 0, probes, [photo(1000.0)])
    level = error_versus_discard([shuffled])
    assert level is not None and min(level.fnmr) > 0.08, "a quality that knows nothing takes nothing away"


def test_the_worse_photo_of_a_comparison_counts_and_both_if_photos_meet_each_other() -> None:
    photos = [photo(5.0), photo(1.0), photo(9.0)]
    part = Genuine(np.array([0, 0, 1]), np.array([1, 2, 2]), np.array([True, False, True]), photos, photos)
    found = error_versus_discard([part], symmetric=True)
    assert found is not None and found.bad == 1, "only the second photo fails in more than half of its comparisons"


def test_every_component_that_all_photos_have_gets_a_curve_of_its_own() -> None:
    def with_pose(n: int, **more: float) -> Quality:
        # Photos turned to either side fail, whatever their length; blurred ones have the larger value.
        values = {"unified_quality_score": 50.0, "head_pose_yaw": float(n - 50), "sharpness": float(n % 2), **more}
        return Quality({"unified_quality_score": 50}, values, 1, (0, 0, 1, 1), ())  # type: ignore[arg-type]

    rows = np.arange(100)
    errors = abs(rows - 50) >= 46
    probes = [with_pose(n, eyes_open=0.1) for n in rows]
    found = error_versus_discard([Genuine(rows, np.zeros(100, np.int64), errors, probes, [with_pose(50)])])
    assert found is not None
    assert list(found.components) == [KNOWING, "unified_quality_score", "sharpness", "head_pose_yaw"]
    assert found.components["unified_quality_score"] == found.fnmr
    assert found.components["head_pose_yaw"] == found.components[KNOWING]
    assert found.components[KNOWING][SHARES.index(0.10)] == 0.0 and found.fnmr[SHARES.index(0.10)] > 0.04
    blurred = error_versus_discard([Genuine(rows, np.zeros(100, np.int64), rows % 2 == 1, probes, [with_pose(50)])])
    assert blurred is not None and blurred.components["sharpness"] == blurred.components[KNOWING]


def test_without_comparisons_or_scores_there_is_none() -> None:
    nothing = np.zeros(0, np.int64)
    assert error_versus_discard([]) is None
    assert error_versus_discard([Genuine(nothing, nothing, nothing.astype(bool), [], [])]) is None
    unknown = Quality({}, {}, 1, (0, 0, 1, 1), ())
    one = np.zeros(1, np.int64)
    assert error_versus_discard([Genuine(one, one, np.ones(1, bool), [unknown], [unknown])]) is None
