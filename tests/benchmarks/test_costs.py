"""Lines through costs, and what is derived from them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.costs import QUANTITIES, Line, derive, fit


@given(st.floats(0.01, 1e9), st.floats(0.01, 1e6))
def test_a_line_that_costs_lie_on_is_found(fixed: float, slope: float) -> None:
    line = fit([1, 1, 10, 1000], [fixed + slope * x for x in (1, 1, 10, 1000)])
    assert line.at(1_000_000) == pytest.approx(fixed + slope * 1_000_000, rel=1e-6)
    assert line.worst < 1e-6


def test_residuals_are_relative_and_small_galleries_count_as_much() -> None:
    line = fit([1, 1, 1000, 1000], [0.9, 1.1, 900, 1100])
    assert line.at(1) == pytest.approx(0.98, rel=0.001)
    assert line.residuals[:2] == pytest.approx(line.residuals[2:], rel=0.001)
    assert line.worst == line.residuals[1] == pytest.approx(0.122, abs=0.001)


@pytest.mark.parametrize(("packs", "costs"), [([1, 1], [1, 2]), ([1, 2], [1, 0]), ([1, 2], [1]), ([1], [1])])
def test_what_gives_no_line_is_refused(packs: list[float], costs: list[float]) -> None:
    with pytest.raises(ValueError, match="a line needs"):
        fit(packs, costs)


def test_derived_figures_are_what_their_derivations_say() -> None:
    lines = {name: Line(i + 1.0, 0.25 * (i + 1), (0.0,)) for i, name in enumerate(QUANTITIES)}
    figures = derive(111, lines, 1_000_000, 4)
    assert figures["packs"].value == 9010
    assert figures["packs"].derivation == "1,000,000 / 111, rounded up"
    names = ("ceil", "__builtins__")
    for name, figure in figures.items():
        if name != "packs":
            text = figure.derivation.replace(",", "")
            value = eval(text, dict(zip(names, (__import__("math").ceil, {}), strict=True)))
            assert figure.value == pytest.approx(value, rel=2e-3), name
    assert figures["organisation_cpu_s"].value == pytest.approx(sum(lines[n].at(9010) for n in QUANTITIES[:3]))
