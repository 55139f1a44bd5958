"""The profile of a query: CPU time by party and step, and the stacked chart of it, readable without colour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from veilmatch.client.evaluation.libraries import require
from veilmatch.crypto.parameters import ParameterSet

#: Every step with its shade and hatch; the dark ones are modular multiplication.
STYLES = {
    "encrypt probe": ("0.35", ""),
    "prove to know it": ("0.35", "//"),
    "packs to exponents": ("0.2", ""),
    "re-randomise": ("0.45", "xx"),
    "join results": ("0.55", "||"),
    "convert probe": ("0.35", "\\\\"),
    "convert results": ("0.2", ".."),
    "check proof": ("0.55", "--"),
    "key-safety check": ("0.55", "++"),
    "validity gate": ("0.92", "//"),
    "decision gate": ("0.92", "xx"),
    "everything else": ("1.0", ""),
}
#: Steps that are modular multiplications and nothing else worth naming.
MULTIPLICATIONS = tuple(name for name, (shade, _) in STYLES.items() if float(shade) < 0.6)
PARTIES = ("device", "matcher-a", "matcher-b", "keyholder-a", "keyholder-b")


def lay(
    parameters: ParameterSet,
    operation: str,
    identities: int,
    total_s: float,
    measured: dict[str, float],
    steps: dict[str, dict[str, float]],
) -> dict[str, Any]:
    """Lay the steps of each party into what it took, and compute both shares of modular multiplication.

    total_s: from question to answer. measured: CPU seconds by party; steps: of each kind of party, "daemons" being
    the part that benchmarks/system.py counts.
    """
    laid = {}
    for party in PARTIES:
        own = {step: s for step, s in steps[party.split("-")[0]].items() if step in STYLES}
        laid[party] = own | {"everything else": max(0.0, measured[party] - sum(own.values()))}
    servers = sum(measured[party] for party in PARTIES if party != "device")
    multiplied = sum(s for own in laid.values() for step, s in own.items() if step in MULTIPLICATIONS)
    where = f" over {identities:,}" if operation == "candidates" else ""
    share, of_all = steps["daemons"]["multiplications"] / servers, multiplied / sum(measured.values())
    return {
        "parameter_set": parameters.name,
        "operation": operation,
        "identities": identities,
        "total_s": total_s,
        "cpu_s": measured,
        "steps": laid,
        "share_of_daemons": share,
        "share_of_all": of_all,
        "title": f"{operation}{where}, D = {parameters.dimension}: answer after {1e3 * total_s:.0f} ms,\n"
        f"dark: modular multiplication, {of_all:.0%} of all CPU time",
    }


def draw(profiles: Sequence[dict[str, Any]]) -> Any:
    """Return a matplotlib figure with one panel for each profile.

    profiles: what `lay` returns.
    """
    columns = 2 if len(profiles) > 1 else 1
    rows = -(-len(profiles) // columns)
    figure = require("matplotlib.figure").Figure(figsize=(6.2 * columns, 2.7 * rows + 1.1), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel, profile in zip(panels, profiles, strict=False):
        left = dict.fromkeys(PARTIES, 0.0)
        for step, (shade, hatch) in STYLES.items():
            widths = [1e3 * profile["steps"][party].get(step, 0.0) for party in PARTIES]
            # Hatches have the colour of the edge: white ones on dark bars.
            edge = "white" if float(shade) < 0.6 else "black"
            panel.barh(PARTIES, widths, left=list(left.values()), color=shade, hatch=hatch, edgecolor=edge, linewidth=0)
            panel.barh(PARTIES, widths, left=list(left.values()), color="none", edgecolor="black", linewidth=0.6)
            left = {party: at + width for (party, at), width in zip(left.items(), widths, strict=True)}
        panel.set_xlim(0, 1.08 * max(left.values()))
        panel.invert_yaxis()
        panel.set_xlabel("CPU time of one query [ms]")
        panel.set_title(profile["title"], fontsize=9)
    for panel in panels[len(profiles) :]:
        panel.set_visible(False)
    patch = require("matplotlib.patches").Patch
    handles = [
        patch(facecolor=shade, hatch=hatch, edgecolor="white" if float(shade) < 0.6 else "black", label=step)
        for step, (shade, hatch) in STYLES.items()
    ]
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=4 if columns > 1 else 3,
        fontsize=8,
        handlelength=4,
        handleheight=1.8,
    )
    return figure
