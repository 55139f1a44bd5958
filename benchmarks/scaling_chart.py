"""Time and CPU of a search over the number of packs, with the fitted lines, readable without colour."""

from __future__ import annotations

from typing import Any

import numpy as np

from veilmatch.client.evaluation.libraries import require

#: Quantities that are drawn, each in a panel of its own.
PANELS = {"matcher_cpu_s": "CPU time of one matcher [s]", "keyholder_cpu_s": "CPU time of one key holder [s]"}
_STYLES = (("o", "-", "black"), ("s", "--", "0.35"), ("^", ":", "0.55"))


def draw(fits: list[dict[str, Any]]) -> Any:
    """Return a matplotlib figure. fits: those of benchmarks/scaling.py, with "packs" and "values" of every line."""
    figure = require("matplotlib.figure").Figure(figsize=(10.0, 4.2), layout="constrained")
    ticker = require("matplotlib.ticker")
    for panel, (quantity, label) in zip(figure.subplots(1, len(PANELS)), PANELS.items(), strict=True):
        for each, (marker, line, colour) in zip(fits, _STYLES, strict=False):
            found = each["lines"][quantity]
            x = np.geomspace(min(each["packs"]), max(each["packs"]), 50)
            panel.plot(x, found["fixed"] + found["slope"] * x, linestyle=line, color=colour, linewidth=1.2)
            panel.plot(
                each["packs"], each["values"][quantity], marker=marker, linestyle="none", color=colour,
                markerfacecolor="white", markersize=7,
            )  # fmt: skip
            # A legend entry with both the marker and the line.
            panel.plot(
                [],
                [],
                marker=marker,
                linestyle=line,
                color=colour,
                markerfacecolor="white",
                label=each["parameter_set"],
            )
        panel.set_xscale("log")
        panel.set_yscale("log")
        for axis in (panel.xaxis, panel.yaxis):
            axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_locator(ticker.NullLocator())
        panel.set_xlabel("size of the gallery [packs]")
        panel.set_ylabel(label)
        panel.grid(color="0.9", linewidth=0.6)
    figure.axes[0].legend(loc="upper left", fontsize=8, framealpha=1, title="points measured, lines fitted")
    return figure
