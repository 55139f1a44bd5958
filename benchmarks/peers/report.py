"""The figures of a run as tables."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console
from rich.table import Table

_CAPTION = (
    "x: extrapolated; servers send: to each other, for an identity of the largest gallery, where that was counted"
)


def show(figures: dict[str, Any]) -> None:
    """Print what was measured, what each peer encrypts and reveals, and the bars."""
    console = _console()
    for dimension in sorted({row["dimension"] for row in figures["rows"]}):
        console.print(_costs(figures, dimension))
    console.print(_privacy(figures))
    console.print(_bars(figures))
    for each in figures["missing"]:
        console.print(f"missing: {each['peer']} (pip install {each['install']})")


def _console() -> Console:
    """Wide enough for every table."""
    return Console(file=sys.stdout, width=170)


def _costs(figures: dict[str, Any], dimension: int) -> Table:
    rows = [row for row in figures["rows"] if row["dimension"] == dimension]
    sizes = sorted({row["identities"] for row in rows})
    title = f"D = {dimension}, one core of {figures['cpu']}: CPU time of a query over all parties, for each identity"
    table = Table("peer", *(f"N = {n:,}" for n in sizes), title=title, caption=_CAPTION)
    for column in (
        f"latency at {sizes[-1]:,}",
        "device sends",
        "stored an identity",
        "servers send",
        "rounds",
        "largest error",
    ):
        table.add_column(column)
    for name in dict.fromkeys(row["peer"] for row in rows):
        by_size = {row["identities"]: row for row in rows if row["peer"] == name}
        cells = [time(by_size[n]["cpu_s_per_identity"], by_size[n]["extrapolated"]) for n in sizes]
        last = by_size[sizes[-1]]
        error = "" if last["max_error"] is None else f"{last['max_error']:.1g}"
        latency = time(last["latency_s"], last["extrapolated"])
        stored, between = size(last["template_bytes"]), last["server_bytes"]
        each = "" if between is None else size(between / last["identities"])
        rounds = "" if last["rounds"] is None else str(last["rounds"])
        table.add_row(name, *cells, latency, size(last["device_bytes"]), stored, each, rounds, error)
    return table


def _privacy(figures: dict[str, Any]) -> Table:
    table = Table("peer", "answers", "probe", "template", "who learns scores", "security bits")
    for peer in figures["peers"].values():
        bits = "none" if peer["security_bits"] is None else str(peer["security_bits"])
        table.add_row(peer["name"], peer["operation"], peer["probe"], peer["template"], peer["score_to"], bits)
    return table


def _bars(figures: dict[str, Any]) -> Table:
    table = Table("CPU time of the peer / of Veilmatch candidates", "D", "N", "ratio", "at least", "met")
    for bar in figures["bars"]:
        ratio = f"{bar['ratio']:,.2f}" + (" x" if bar["extrapolated"] else "")
        table.add_row(
            bar["peer"], str(bar["dimension"]), f"{bar['identities']:,}", ratio, f"{bar['needed']:g}",
            "yes" if bar["met"] else "NO",
        )  # fmt: skip
    return table


def time(seconds: float, extrapolated: str | None) -> str:
    """Return a time with three digits and its unit."""
    text = next(
        f"{seconds / unit:,.3g} {name}" if seconds < 1_000 * unit else f"{seconds / unit:,.0f} {name}"
        for unit, name in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
        if seconds >= unit or unit == 1e-9
    )
    return text + (" x" if extrapolated else "")


def size(count: float) -> str:
    """Return a number of bytes with its unit."""
    return f"{count / 1e6:,.1f} MB" if count >= 1e6 else f"{count / 1e3:,.1f} kB" if count >= 1e3 else f"{count:,.0f} B"
