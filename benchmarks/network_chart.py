"""The chart of benchmarks/network.py: time to an answer over the delay of links, readable without colour."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from veilmatch.client.evaluation.libraries import require

_STYLES = {
    "verify": ("o", "-"), "assured": ("D", "-"), "candidates": ("s", "--"), "identify": ("^", ":"),
    "enrol": ("v", "-."), "erase": ("x", (0, (1, 3))),
}  # fmt: skip


def draw(operations: Mapping[str, Any]) -> Any:
    """Return a matplotlib figure. operations: those of benchmarks/network.py, with their times by delay and lines."""
    figure = require("matplotlib.figure").Figure(figsize=(8.0, 4.8), layout="constrained")
    axes = figure.subplots()
    for name, found in operations.items():
        marker, line = _STYLES[name]
        delays = [float(delay) for delay in found["by_delay_ms"]]
        times = [1e3 * times["median_s"] for times in found["by_delay_ms"].values()]
        label = name if found["trips"] is None else f"{name}: {found['trips']:.1f} trips in a row"
        axes.plot(
            delays, times, marker=marker, linestyle=line, color="black", linewidth=1.1, markerfacecolor="white",
            markersize=6, label=label, clip_on=False, zorder=3,
        )  # fmt: skip
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("delay between organisations, each way [ms]")
    axes.set_ylabel("time to the answer, median [ms]")
    axes.grid(color="0.9", linewidth=0.6)
    axes.legend(loc="upper left", fontsize=8, framealpha=1)
    return figure
