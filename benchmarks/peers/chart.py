"""CPU time of an identity over the size of the gallery, a line for each peer, readable without colour."""

from __future__ import annotations

from typing import Any

from veilmatch.client.evaluation.libraries import require

_MARKERS = "os^DvP*X<>hd8"


def draw(figures: dict[str, Any]) -> Any:
    """Return a matplotlib figure, a panel for each dimension. figures: those of `run`. Hollow: extrapolated."""
    dimensions = sorted({row["dimension"] for row in figures["rows"]})
    figure = require("matplotlib.figure").Figure(figsize=(1.0 + 5.0 * len(dimensions), 6.2), layout="constrained")
    if not dimensions:
        return figure
    panels = figure.subplots(1, len(dimensions), squeeze=False)[0]
    for panel, dimension in zip(panels, dimensions, strict=True):
        rows = [row for row in figures["rows"] if row["dimension"] == dimension]
        for i, name in enumerate(dict.fromkeys(row["peer"] for row in rows)):
            own, marker = [row for row in rows if row["peer"] == name], _MARKERS[i % len(_MARKERS)]
            style = {"color": "black"} if name.startswith("Veilmatch") else {"color": f"{0.3 + 0.1 * (i % 4):.1f}"}
            x, y = zip(*((row["identities"], row["cpu_s_per_identity"] * 1e6) for row in own), strict=True)
            panel.plot(x, y, linewidth=1.0, marker=marker, markersize=7, label=name, **style)
            hollow = [i for i, row in enumerate(own) if row["extrapolated"]]
            panel.plot(
                [x[i] for i in hollow], [y[i] for i in hollow], linestyle="none", marker=marker, markersize=7,
                markerfacecolor="white", **style,
            )  # fmt: skip
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.set_title(f"D = {dimension}", fontsize=10)
        panel.set_xlabel("identities in the gallery")
        panel.grid(color="0.9", linewidth=0.6)
    panels[0].set_ylabel("CPU time of all parties for an identity [µs]")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=7, title="hollow: extrapolated")
    return figure
