"""The chart of scaling: what was measured, and the lines through it."""

from __future__ import annotations

from dataclasses import asdict

from benchmarks.costs import fit
from benchmarks.scaling_chart import PANELS, draw
from veilmatch.client.evaluation.figures.curves import svg


def test_chart_names_sets_and_units_and_holds_every_point() -> None:
    packs, costs = [1, 10, 91], [0.02, 0.03, 0.1]
    fits = [
        {
            "parameter_set": name,
            "packs": packs,
            "values": dict.fromkeys(PANELS, costs),
            "lines": dict.fromkeys(PANELS, asdict(fit(packs, costs))),
        }
        for name in ("d128", "d256", "d512")
    ]
    figure = draw(fits)
    for axes in figure.axes:
        assert [line.get_xdata().tolist() for line in axes.lines[1::3]] == [packs] * 3
    text = svg(figure)
    for words in ("d128", "d512", "size of the gallery [packs]", *PANELS.values()):
        assert words in text
