"""The profile of a query: what remains, what counts as multiplication, and its chart."""

from __future__ import annotations

import pytest

from benchmarks.profile_chart import PARTIES, STYLES, draw, lay
from veilmatch.client.evaluation.figures.curves import png, svg
from veilmatch.crypto.parameters import DEFAULT

MEASURED = dict(zip(PARTIES, (0.010, 0.020, 0.020, 0.050, 0.050), strict=True))
STEPS = {
    "device": {"encrypt probe": 0.002},
    "matcher": {"packs to exponents": 0.008, "re-randomise": 0.002},
    "keyholder": {"convert probe": 0.010, "validity gate": 0.001},
    "daemons": {"multiplications": 0.035},
}


def test_what_is_not_a_step_is_everything_else() -> None:
    laid = lay(DEFAULT, "verify", 10, 0.1, MEASURED, STEPS)["steps"]
    assert laid["matcher-b"]["everything else"] == pytest.approx(0.010)
    assert laid["keyholder-a"]["everything else"] == pytest.approx(0.039)
    for party, steps in laid.items():
        assert sum(steps.values()) == pytest.approx(MEASURED[party])


def test_shares_count_multiplications_only() -> None:
    made = lay(DEFAULT, "candidates", 10, 0.1, MEASURED, STEPS)
    assert made["share_of_daemons"] == pytest.approx(0.035 / 0.140)
    assert made["share_of_all"] == pytest.approx((0.002 + 2 * 0.010 + 2 * 0.010) / 0.150)


def test_steps_longer_than_the_whole_leave_nothing() -> None:
    made = lay(DEFAULT, "verify", 10, 0.1, dict.fromkeys(PARTIES, 0.001), STEPS)
    assert all(steps["everything else"] == 0.0 for party, steps in made["steps"].items() if party != "device")


def test_chart_names_parties_steps_and_units() -> None:
    profiles = [lay(DEFAULT, operation, 10, 0.1, MEASURED, STEPS) for operation in ("verify", "candidates")]
    figure = draw(profiles)
    text = svg(figure)
    for words in (*PARTIES, *STYLES, "CPU time of one query [ms]", "candidates over 10, D = 128"):
        assert words in text
    assert png(figure).startswith(b"\x89PNG")
