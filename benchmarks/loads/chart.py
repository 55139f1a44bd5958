"""The charts of benchmarks/load.py, readable without colour.

What devices get and wait in closed and open loops, and the CPU time of a request.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from veilmatch.client.evaluation.libraries import require

_STYLES = {
    "verify": ("o", "-"), "identify": ("^", ":"), "candidates": ("s", "--"), "enrol": ("v", "-."),
    "mix": ("D", (0, (1, 3))),
}  # fmt: skip
_SHADES = {"matchers_s": ("0.35", ""), "keyholders_s": ("0.6", "//"), "devices_s": ("0.95", "..")}
_QUANTILES = {"p50_s": ("-", "half"), "p95_s": ("--", "95 %"), "p99_s": (":", "99 %")}


def draw(closed: Sequence[dict[str, Any]], opened: Sequence[dict[str, Any]]) -> Any:
    """Return a matplotlib figure. closed, opened: the loads of benchmarks/load.py."""
    figure = require("matplotlib.figure").Figure(figsize=(12.0, 8.0), layout="constrained")
    (rates, waits), (work, arrivals) = figure.subplots(2, 2)
    for operation in dict.fromkeys(load["operation"] for load in closed):
        marker, line = _STYLES[operation]
        loads = [load for load in closed if load["operation"] == operation]
        style: dict[str, Any] = {
            "marker": marker, "linestyle": line, "color": "black", "linewidth": 1.1, "markerfacecolor": "white",
            "label": operation,
        }  # fmt: skip
        devices = [load["devices"] for load in loads]
        rates.plot(devices, [load["answered_a_second"] for load in loads], **style)
        waits.plot(devices, _ms(load["p95_s"] for load in loads), **style)
    ticker = require("matplotlib.ticker")
    plain = ticker.FuncFormatter(lambda value, _: f"{value:g}")
    for panel in (rates, waits):
        panel.set_xscale("log", base=2)
        panel.xaxis.set_major_formatter(plain)
        panel.set_xlabel("devices at once, each waiting for its answers (closed loop)")
        panel.legend(fontsize=8, framealpha=1)
    rates.set_ylim(bottom=0)
    rates.set_ylabel("answers a second")
    waits.set_yscale("log")
    waits.set_ylabel("95 % of answers within [ms]")
    _draw_cpu(work, closed)
    _draw_open(arrivals, opened)
    for panel in (waits, arrivals):
        panel.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        panel.yaxis.set_major_formatter(plain)
        panel.yaxis.set_minor_locator(ticker.NullLocator())
    for panel in (rates, waits, arrivals):
        panel.grid(color="0.9", linewidth=0.6)
    return figure


def _ms(seconds: Any) -> list[float]:
    """None, where nobody was answered, leaves a gap."""
    return [float("nan") if s is None else 1e3 * s for s in seconds]


def _draw_cpu(axes: Any, closed: Sequence[dict[str, Any]]) -> None:
    """Of an answer, for every load."""
    names, left = [], [0.0] * len(closed)
    for load in closed:
        names.append(f"{load['operation']}, {load['devices']} at once")
    for part, (shade, hatch) in _SHADES.items():
        widths = [1e3 * load["cpu"][part] for load in closed]
        axes.barh(
            names, widths, left=left, color=shade, hatch=hatch, edgecolor="black", linewidth=0.5,
            label=part.removesuffix("_s").replace("keyholders", "key holders"),
        )  # fmt: skip
        left = [a + b for a, b in zip(left, widths, strict=True)]
    axes.invert_yaxis()
    axes.tick_params(axis="y", labelsize=7)
    axes.set_xlabel("CPU time of an answer [ms]")
    axes.set_xlim(0, 1.35 * max([1e-3, *left]))  # room for the legend
    axes.legend(loc="center right", fontsize=8, framealpha=1)


def _draw_open(axes: Any, opened: Sequence[dict[str, Any]]) -> None:
    for operation in dict.fromkeys(load["operation"] for load in opened):
        loads = [load for load in opened if load["operation"] == operation]
        for name, (line, label) in _QUANTILES.items():
            axes.plot(
                [load["rate"] for load in loads], _ms(load[name] for load in loads), linestyle=line, color="black",
                marker=_STYLES[operation][0], markerfacecolor="white", linewidth=1.1, label=f"{operation}, {label}",
            )  # fmt: skip
    axes.set_yscale("log")
    axes.set_xlabel("requests that come, a second (open loop)")
    axes.set_ylabel("from when a request was due to its answer [ms]")
    if opened:
        axes.legend(fontsize=8, framealpha=1)
