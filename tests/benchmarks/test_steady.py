"""Lines through what was seen of memory and files, and the times of each window."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.loads.asked import Asked
from benchmarks.loads.steady import by_window, steady

TIMES = [10.0 * number for number in range(180)]
NOISE = np.random.default_rng(1).normal(0.0, 3e5, len(TIMES))


def test_a_line_is_found_and_what_grows_is_not_flat() -> None:
    grows = steady(TIMES, list(1e8 + 1e4 * np.array(TIMES) + NOISE))
    assert grows["slope_an_hour"] == pytest.approx(3.6e7, rel=0.05) and grows["is_flat"] is False
    assert 0 < grows["error_an_hour"] < 2e6
    assert (grows["first"], grows["last"]) == (1e8 + NOISE[0], pytest.approx(1e8 + 1e4 * TIMES[-1] + NOISE[-1]))
    still = steady(TIMES, list(1e8 + NOISE))
    assert still["is_flat"] is True and abs(still["slope_an_hour"]) <= 2 * still["error_an_hour"]
    shrinks = steady(TIMES, list(1e8 - 1e4 * np.array(TIMES)))
    assert shrinks["is_flat"] is True


def test_what_grows_at_the_beginning_only_is_flat() -> None:
    filled = [min(1e8, 5e7 + 2e5 * at) for at in TIMES]
    assert filled[0] < filled[25] == 1e8
    assert steady(TIMES, filled)["is_flat"] is True


def test_a_few_open_files_more_are_none_that_are_lost() -> None:
    files = [40.0 + (number > 100) for number in range(len(TIMES))]
    assert steady(TIMES, files)["is_flat"] is False and steady(TIMES, files, at_least=4.0)["is_flat"] is True
    assert steady(TIMES[:3], files[:3])["is_flat"] is None


def test_each_window_has_its_own_times() -> None:
    asked = [Asked("verify", 0, float(i), i + 0.1 * (1 + i // 60)) for i in range(120)]
    asked.append(Asked("enrol", 1, 61.0, 65.0, error="overloaded"))
    first, second = by_window(asked, 60.0, 120.0)
    assert (first["due"], first["answered"], first["errors"]) == (60, 60, {})
    assert (second["due"], second["answered"], second["errors"]) == (61, 60, {"overloaded": 1})
    assert (first["p50_s"], second["p99_s"]) == (pytest.approx(0.1), pytest.approx(0.2))
    assert len(by_window([], 300.0, 1800.0)) == 6
