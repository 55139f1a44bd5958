"""The plots of a report, as matplotlib figures: readable in black and white, every axis with its unit.

ISO/IEC 19795-1 asks for DET and ROC curves; the scores behind them and the degradations come in addition.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from veilmatch.client.evaluation.figures.discard import Discard
from veilmatch.client.evaluation.libraries import require
from veilmatch.client.evaluation.study import Evaluation, Point
from veilmatch.client.evaluation.sweep import SweepPoint

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Both scorers with scores; their lines often lie on each other, so the lower one is wide and grey.
_LINES: dict[str, dict[str, Any]] = {
    "float": {"color": "0.65", "linestyle": "-", "linewidth": 4.0, "label": "float cosine"},
    "integer": {"color": "black", "linestyle": "--", "linewidth": 1.4, "label": "quantised integers"},
}
_POINTS: dict[str, Any] = {
    "color": "black",
    "marker": "o",
    "markerfacecolor": "white",
    "linestyle": "none",
    "markersize": 8,
    "label": "encrypted decisions",
}
_PNG_DPI = 150


def plots(
    evaluation: Evaluation, points: Sequence[SweepPoint] = (), degraded: Discard | None = None
) -> dict[str, Figure]:
    """Return the figures by name: det, roc, scores; discard where quality was measured; degradations of a sweep.

    degraded: the error-versus-discard curve of degraded photos.
    """
    made = {"det": det(evaluation), "roc": roc(evaluation), "scores": scores(evaluation)}
    parts = {"these photos": evaluation.figures.discard, "degraded photos": degraded}
    if known := {name: found for name, found in parts.items() if found is not None}:
        made["discard"] = discard(known)
    return made | ({"degradations": degradations(points)} if points else {})


def svg(figure: Figure) -> str:
    """Return the figure as an SVG element, the same for the same figure."""
    import matplotlib as mpl

    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "veilmatch", "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def png(figure: Figure) -> bytes:
    """Return the figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_PNG_DPI)
    return buffer.getvalue()


def det(evaluation: Evaluation) -> Figure:
    """Return the detection error trade-off: FNMR over FMR, both in percent on logarithmic axes."""
    figure, axes = _axes()
    for name, curve in evaluation.curves.items():
        axes.plot(100 * curve.fmr, 100 * curve.fnmr, drawstyle="steps-post", **_LINES[name])
    encrypted = _encrypted(evaluation)
    shown = [p for p in encrypted if p.fmr.rate > 0 and p.fnmr.rate > 0]
    if shown:
        axes.plot([100 * p.fmr.rate for p in shown], [100 * p.fnmr.rate for p in shown], **_POINTS)
    floor = 100 / evaluation.figures.impostors, 100 / evaluation.figures.genuine
    both = min(floor), 100.0
    axes.plot(both, both, color="0.5", linestyle=":", linewidth=1, label="FMR = FNMR")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(floor[0] / 2, 100)
    axes.set_ylim(floor[1] / 2, 100)
    _percent(axes.xaxis)
    _percent(axes.yaxis)
    axes.set_xlabel("false match rate, FMR [% of impostor comparisons]")
    axes.set_ylabel("false non-match rate, FNMR [% of genuine comparisons]")
    axes.set_title(f"DET curve{_left_out(len(encrypted) - len(shown))}", fontsize=10)
    axes.legend(loc="best", framealpha=1)
    return figure


def roc(evaluation: Evaluation) -> Figure:
    """Return the receiver operating characteristic: genuine comparisons that match over FMR, in percent."""
    figure, axes = _axes()
    for name, curve in evaluation.curves.items():
        axes.plot(100 * curve.fmr, 100 * (1 - curve.fnmr), drawstyle="steps-post", **_LINES[name])
    encrypted = _encrypted(evaluation)
    shown = [p for p in encrypted if p.fmr.rate > 0]
    if shown:
        axes.plot([100 * p.fmr.rate for p in shown], [100 * (1 - p.fnmr.rate) for p in shown], **_POINTS)
    axes.set_xscale("log")
    axes.set_xlim(100 / evaluation.figures.impostors / 2, 100)
    lowest = min(float(curve.fnmr[curve.fmr > 0].max()) for curve in evaluation.curves.values())
    axes.set_ylim(max(0.0, 100 - 120 * max(lowest, 0.01)), 100 + 6 * max(lowest, 0.01))
    _percent(axes.xaxis)
    axes.set_xlabel("false match rate, FMR [% of impostor comparisons]")
    axes.set_ylabel("true match rate, 1 - FNMR [% of genuine comparisons]")
    axes.set_title(f"ROC curve{_left_out(len(encrypted) - len(shown))}", fontsize=10)
    axes.legend(loc="lower right", framealpha=1)
    return figure


def scores(evaluation: Evaluation) -> Figure:
    """Return the distributions of integer scores, as cosines, with the operating thresholds."""
    figure, axes = _axes()
    values, genuine = evaluation.cosines["integer"], evaluation.genuine
    bins: Any = np.linspace(float(values.min()), float(values.max()) + 1e-9, 61)
    styles: dict[str, dict[str, Any]] = {
        "impostor": {"color": "0.7", "histtype": "stepfilled"},
        "genuine": {"color": "black", "histtype": "step", "linewidth": 1.5},
    }
    for (label, style), kind in zip(styles.items(), (~genuine, genuine), strict=True):
        count = int(np.count_nonzero(kind))
        shares = np.full(count, 100 / count)
        axes.hist(values[kind], bins, weights=shares, label=f"{label} ({count:,} comparisons)", **style)
    lines = ("-", "--", "-.", ":")
    for point, line in zip(evaluation.figures.scorers["integer"].points, lines * len(lines), strict=False):
        is_chosen = point.target_fmr == evaluation.figures.choice.fmr
        label = f"{'THE threshold' if is_chosen else 'threshold'} at FMR {point.target_fmr:g}: {point.cosine:.3f}"
        axes.axvline(point.cosine, color="black", linestyle=line, linewidth=2.5 if is_chosen else 1, label=label)
    axes.set_xlabel("score [cosine; integer score / S²]")
    axes.set_ylabel("share of comparisons [% per bin]")
    axes.set_title("scores of the quantised integers", fontsize=10)
    axes.set_ylim(0, axes.get_ylim()[1] * 1.45)  # room for the legend
    axes.legend(loc="upper right", framealpha=1, fontsize=8)
    return figure


def discard(curves: Mapping[str, Discard]) -> Figure:
    """Return FNMR over the share of genuine comparisons discarded, of each set of photos."""
    figure, axes = _axes()
    for (name, found), style in zip(curves.items(), ("-o", "--s"), strict=False):
        shares, fnmr = (100 * np.array(values) for values in (found.shares, found.fnmr))
        axes.plot(shares, fnmr, style, color="black", markerfacecolor="white", label=name)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("genuine comparisons discarded, lowest quality first [%]")
    axes.set_ylabel("false non-match rate of the rest, FNMR [%]")
    axes.set_title("error versus discard", fontsize=10)
    axes.legend(loc="best", framealpha=1)
    return figure


def degradations(points: Sequence[SweepPoint]) -> Figure:
    """Return FNMR and FTA over the strength of every degradation, one panel each."""
    groups = [(name, list(group)) for name, group in groupby(points, key=lambda p: p.degradation)]
    columns = min(4, len(groups))
    rows = -(-len(groups) // columns)
    figure = require("matplotlib.figure").Figure(figsize=(3.1 * columns, 2.9 * rows + 0.4), layout="constrained")
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    for panel, (name, group) in zip(panels, groups, strict=False):
        places = np.arange(len(group))
        known = [(x, p.fnmr) for x, p in zip(places, group, strict=True) if p.fnmr is not None]
        if known:
            middle = np.array([100 * rate.rate for _, rate in known])
            ends = np.array([(100 * rate.interval.low, 100 * rate.interval.high) for _, rate in known])
            at, reach = [x for x, _ in known], np.abs(ends.T - middle)
            panel.errorbar(at, middle, reach, color="black", marker="o", capsize=3, label="FNMR, 95 %")
        fta = [100 * p.fta for p in group]
        panel.plot(places, fta, color="0.45", linestyle="--", marker="s", markerfacecolor="white", label="FTA")
        panel.set_xticks(places, [f"{p.strength:g}" for p in group])
        panel.set_xlabel(f"{name} [{group[0].unit}]")
        panel.set_ylim(-4, 104)
        panel.set_xlim(-0.4, len(group) - 0.6)
        panel.grid(True, color="0.88", linewidth=0.6)
    for panel in panels[len(groups) :]:
        panel.set_visible(False)
    for row in range(rows):
        panels[row * columns].set_ylabel("rate [%]")
    panels[0].legend(loc="upper left", framealpha=1, fontsize=8)
    return figure  # type: ignore[no-any-return]


def _axes() -> tuple[Figure, Axes]:
    figure = require("matplotlib.figure").Figure(figsize=(6.4, 5.0), layout="constrained")
    axes = figure.subplots()
    axes.set_axisbelow(True)
    axes.grid(True, color="0.88", linewidth=0.6)
    return figure, axes


def _percent(axis: Any) -> None:
    """Write 0.01 and 10 rather than powers of ten."""
    axis.set_major_formatter(require("matplotlib.ticker").FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(require("matplotlib.ticker").NullFormatter())


def _encrypted(evaluation: Evaluation) -> Sequence[Point]:
    figures = evaluation.figures.scorers.get("encrypted")
    return figures.points if figures else ()


def _left_out(points: int) -> str:
    return f" (encrypted points without errors, off the axes: {points})" if points else ""
