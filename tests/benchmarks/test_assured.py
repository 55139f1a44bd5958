"""What times of an assured answer are derived from CPU times."""

from __future__ import annotations

import pytest
from assured import _derived

#: b has most to do in plain answers, and as much as the others in assured ones.
FIGURES = {
    "plain": {
        "median_s": 0.04,
        "cpu_s": {"matcher-a": 0.01, "keyholder-a": 0.01, "matcher-b": 0.01, "keyholder-b": 0.03},
    },
    "assured": {
        "median_s": 0.1,
        "cpu_s": {f"{kind}-{x}": s for kind, s in (("matcher", 0.02), ("keyholder", 0.06)) for x in "abc"},
    },
}


def test_more_work_is_spread_over_the_cores() -> None:
    two, four = _derived(FIGURES, 2), _derived(FIGURES, 4)
    assert two["one_machine_s"] == pytest.approx(0.04 + (0.24 - 0.06) / 2)
    assert four["one_machine_s"] == pytest.approx(0.04 + (0.24 - 0.06) / 4)


def test_where_each_organisation_has_a_machine_the_busiest_one_decides() -> None:
    assert _derived(FIGURES, 4)["machine_each_s"] == pytest.approx(0.04 + (0.08 - 0.04) / 4)
