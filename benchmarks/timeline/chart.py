"""The picture of one request: a line for each party, its work on it, and every message between two, by time.

Readable without colour: thick arrows are the chain that the answer waited for, thin ones all others; dark bars are work
in threads, hatched by what it is, light ones the event loop.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from veilmatch.client.evaluation.libraries import require

from .events import Happened, Message, Work

#: Inches of a millisecond, and of the whole picture at least and at most.
INCHES_PER_MS, LEAST_INCHES, MOST_INCHES = 0.09, 14.0, 60.0
#: Work that takes less has no name in the picture, in ms.
NAMED_MS = 0.8
_HATCHES = ("", "//", "\\\\", "xx", "..", "++", "--", "||", "oo", "**")
_BAR = 0.16
_KEY = "thick: what the answer waited for; thin: other messages; dark: work in threads; light: the event loop"


def draw(happened: Happened, waited: Sequence[Message], title: str) -> Any:
    """Return a matplotlib figure. waited: the chain of `happened`."""
    total = 1e3 * (happened.ended_s - happened.began_s)
    width = min(MOST_INCHES, max(LEAST_INCHES, INCHES_PER_MS * total))
    figure = require("matplotlib.figure").Figure(
        figsize=(width, 1.9 * len(happened.parties) + 1.2), layout="constrained"
    )
    axes = figure.subplots()
    rows = {party: -float(number) for number, party in enumerate(happened.parties)}

    def at(when_s: float) -> float:
        return 1e3 * (when_s - happened.began_s)

    for row in rows.values():
        axes.plot([0, total], [row, row], color="0.6", linewidth=0.6, zorder=1)
    _draw_work(axes, happened.works, rows, at)
    chosen = set(waited)
    for message in sorted(happened.messages, key=lambda m: m in chosen):
        ends = (at(message.sent_s), rows[message.sender]), (at(message.taken_s), rows[message.receiver])
        thick = message in chosen
        axes.annotate(
            "", xy=ends[1], xytext=ends[0], zorder=4 if thick else 3,
            arrowprops={
                "arrowstyle": "-|>", "color": "black" if thick else "0.45", "linewidth": 1.8 if thick else 0.5,
                "shrinkA": 0, "shrinkB": 0, "mutation_scale": 9 if thick else 6,
            },
        )  # fmt: skip
        if thick:
            (x, y), (to_x, to_y) = ends
            axes.text(
                x + 0.35 * (to_x - x), y + 0.35 * (to_y - y), f"{message.name}", fontsize=5.5, rotation=90, ha="center",
                va="center", zorder=5, bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.3, "alpha": 0.85},
            )  # fmt: skip
    axes.set_yticks(list(rows.values()), list(rows))
    axes.set_xlim(0, total)
    axes.set_ylim(min(rows.values()) - 0.5, 0.5)
    axes.set_xlabel("time since the device began [ms]")
    axes.set_title(f"{title}\n{_KEY}", fontsize=10, loc="left")
    axes.xaxis.set_major_locator(require("matplotlib.ticker").MaxNLocator(max(10, int(width))))
    axes.grid(axis="x", color="0.93", linewidth=0.5, zorder=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    return figure


def _draw_work(axes: Any, works: Sequence[Work], rows: dict[str, float], at: Any) -> None:
    """Bars: threads above the line of their party, the event loop below it. What overlaps lies in several layers."""
    names = sorted({work.name for work in works if work.kind == "thread"})
    hatches = {name: _HATCHES[number % len(_HATCHES)] for number, name in enumerate(names)}
    # Of each kind the longest has its name, however short it is.
    longest = {name: max((w for w in works if w.name == name), key=lambda w: w.ended_s - w.began_s) for name in names}
    busy: dict[str, list[float]] = defaultdict(list)
    for work in works:
        left, width = at(work.began_s), 1e3 * (work.ended_s - work.began_s)
        if work.kind == "loop":
            axes.barh(
                rows[work.party] - _BAR / 2, width, left=left, height=_BAR / 2, color="0.8", linewidth=0, zorder=2
            )
            continue
        layers = busy[work.party]
        layer = next((i for i, until in enumerate(layers) if until <= work.began_s), len(layers))
        layers[layer : layer + 1] = [work.ended_s]
        y = rows[work.party] + _BAR * (0.5 + layer)
        axes.barh(
            y, width, left=left, height=0.9 * _BAR, color="0.35", hatch=hatches[work.name], edgecolor="white",
            linewidth=0, zorder=2,
        )  # fmt: skip
        if width >= NAMED_MS or work is longest.get(work.name):
            axes.text(left, y + 0.6 * _BAR, work.name, fontsize=5, rotation=25, ha="left", va="bottom", zorder=5)
