"""The page of all benchmarks: what counts first, then pictures, what was missed and why, and every table folded.

Everything on it is read from the figures of this run; what was not run is not there.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from benchmarks.quantisation import BAR, keeps_the_bar
from veilmatch.client.evaluation.figures.curves import svg
from veilmatch.client.evaluation.libraries import require
from veilmatch.client.evaluation.pages import markup, render, unique_ids

Figures = Mapping[str, Any]
"""The JSON of each benchmark, by name."""

#: The |t| from which on chance is no excuse: where dudect's own program (`t_threshold_moderate`) calls a test failed.
#: The largest of eleven t of one case is above 5 once in a hundred thousand times by chance alone; what other work of a
#: machine adds to that stayed below 5 in the runs of docs/kernel.md, and what was above 10 had a cause.
NO_CHANCE = 10.0


@dataclass(frozen=True)
class Run:
    """What became of one benchmark. printed: its table, or the end of its errors. plot: SVG, or nothing."""

    name: str
    command: str
    status: int
    seconds: float
    printed: str
    plot: bytes = b""

    @property
    def picture(self) -> str:
        """The plot as a data URL, or nothing."""
        return f"data:image/svg+xml;base64,{b64encode(self.plot).decode()}" if self.plot else ""


@dataclass(frozen=True)
class Tile:
    """A figure of the first row."""

    value: str
    what: str
    command: str


@dataclass(frozen=True)
class Remark:
    """Something that a reader would stumble over, in words."""

    what: str
    why: str


@dataclass(frozen=True)
class Drawn:
    """A picture of the page. words: what it shows, for who does not see it as well."""

    title: str
    picture: Any
    words: str


def page(runs: Sequence[Run], figures: Figures, machine: str, when: datetime) -> str:
    """Return the page of these runs, HTML without any other file."""
    return render(
        "benchmarks.html",
        title="Veilmatch benchmarks",
        machine=machine,
        when=f"{when:%Y-%m-%d %H:%M} UTC",
        tiles=list(tiles(figures)),
        figures=list(drawn(figures)),
        remarks=[*failed(runs), *remarks(figures)],
        runs=runs,
    )


# -- the first row -------------------------------------------------------------------------------


def tiles(figures: Figures) -> Iterator[Tile]:
    """Yield what somebody asks first: how long, how many, how dear."""
    if system := figures.get("system"):
        command = "benchmarks/system.py"
        many = f"among {system['identities']:,}"
        yield Tile(f"{1e3 * system['verify_total_s']:.0f} ms", "to verify one person", command)
        yield Tile(f"{system['candidates_total_s']:.2f} s", f"to search {many}", command)
        cpu = sum(system["candidates_cpu_s"].values()) / system["identities"]
        yield Tile(f"{1e6 * cpu:.0f} µs", f"of CPU for each identity of a search {many}, all parties", command)
    if loads := figures.get("load"):
        most = max(
            (load for load in loads["closed"] if load["operation"] == "verify"),
            key=lambda load: load["answered_a_second"],
            default=None,
        )
        if most is not None:
            what = f"verifications a second, {most['devices']} devices at once"
            yield Tile(f"{most['answered_a_second']:.0f}", what, "benchmarks/load.py")


# -- pictures ------------------------------------------------------------------------------------

#: Who learns a score, in the words of the bar chart: the colour and hatching of a bar, by how `score_to` begins.
_LEARNS = {
    "nobody;": ("#c98a1b", "\\\\", "nobody, but a server sees blinded differences"),
    "nobody": ("#1f7a5a", "", "nobody"),
    "the device": ("#5a8fbf", "..", "the device"),
    "holder": ("#b5483a", "//", "whoever holds the secret key: every score, and the gallery"),
    "the server": ("#5b2b2b", "xx", "the server: everything is in clear"),
}
_OTHER = ("#777777", "++", "others: see the table")


def drawn(figures: Figures) -> Iterator[Drawn]:
    """Yield what can be drawn of these figures."""
    if cells := figures.get("scaling", {}).get("cells"):
        yield Drawn(
            "How long a search takes",
            _element("latency", latency(cells)),
            "Each point is a search of a gallery of that size, over all steps and parties.",
        )
    if (peers := figures.get("peers")) and peers["rows"]:
        yield Drawn(
            "What others cost, and who learns a score there",
            _element("peers", bars(peers)),
            "CPU time of all parties for each identity, on one core, on a logarithmic axis: longer is dearer.",
        )


def latency(cells: Sequence[Mapping[str, Any]]) -> Any:
    """Return a figure of seconds over identities, a line for each parameter set, with the most workers there are."""
    figure = require("matplotlib.figure").Figure(figsize=(7.0, 4.2), layout="constrained")
    axes = figure.subplots()
    most = max(cell["workers"] for cell in cells)
    names = dict.fromkeys(cell["parameter_set"] for cell in cells)
    for name, marker, colour in zip(names, "os^D", ("black", "0.4", "0.6", "0.2"), strict=False):
        line = [cell for cell in cells if cell["parameter_set"] == name and cell["workers"] == most]
        x, y = [cell["identities"] for cell in line], [cell["total_s"] for cell in line]
        axes.plot(x, y, marker=marker, color=colour, label=f"{name}, {most} workers a daemon")
        for at, seconds in zip(x, y, strict=True):
            # Left of where the line goes on upwards; the first one has the axis there.
            side = "right" if at not in (x[0], x[-1]) else "center"
            axes.annotate(f"{seconds:.2g} s", (at, seconds), textcoords="offset points", xytext=(0, 8), ha=side)
    axes.set_xscale("log")
    axes.set_ylim(0, 1.25 * max(cell["total_s"] for cell in cells if cell["workers"] == most))
    axes.xaxis.set_major_formatter(require("matplotlib.ticker").FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_xlabel("identities in the gallery")
    axes.set_ylabel("time of a search [s]")
    axes.grid(color="0.9", linewidth=0.6)
    axes.legend(loc="lower right", fontsize=8)
    return figure


def bars(peers: Mapping[str, Any]) -> Any:
    """Return a bar chart of all peers at the largest gallery and first dimension, the cheapest on top."""
    dimension = min(row["dimension"] for row in peers["rows"])
    size = max(row["identities"] for row in peers["rows"] if row["dimension"] == dimension)
    rows = sorted(
        (row for row in peers["rows"] if (row["dimension"], row["identities"]) == (dimension, size)),
        key=lambda row: -row["cpu_s_per_identity"],
    )
    figure = require("matplotlib.figure").Figure(figsize=(8.4, 1.8 + 0.42 * len(rows)), layout="constrained")
    axes, used = figure.subplots(), {}
    for place, row in enumerate(rows):
        colour, hatch, words = learns(peers["peers"][row["peer"]]["score_to"])
        cost = 1e6 * row["cpu_s_per_identity"]
        made = axes.barh(place, cost, color=colour, hatch=hatch, edgecolor="white")
        used.setdefault(words, made)
        mark = " x" if row["extrapolated"] else ""
        shown = f"{cost:,.0f}" if cost >= 100 else f"{cost:.3g}"
        axes.annotate(f"{shown} µs{mark}", (cost, place), textcoords="offset points", xytext=(4, 0), va="center")
    axes.set_yticks(range(len(rows)), [row["peer"] for row in rows])
    axes.set_xscale("log")
    axes.set_xlim(right=axes.get_xlim()[1] * 200)  # room for the figure beside the longest
    axes.set_xlabel(f"CPU of all parties for an identity [µs], D = {dimension}, {size:,} identities; x: extrapolated")
    figure.legend(used.values(), used.keys(), loc="outside lower center", title="Who learns a score", fontsize=8)
    return figure


def learns(score_to: str) -> tuple[str, str, str]:
    """Return colour, hatching and words for who learns a score."""
    return next((kind for start, kind in _LEARNS.items() if score_to.startswith(start)), _OTHER)


def _element(name: str, figure: Any) -> Any:
    return markup(unique_ids(name, svg(figure)))


# -- in words ------------------------------------------------------------------------------------


def failed(runs: Sequence[Run]) -> Iterator[Remark]:
    """Yield the benchmarks that did not end well."""
    for run in runs:
        if run.status:
            yield Remark(f"{run.name} failed", "What it printed last is below, in its own part.")


def remarks(figures: Figures) -> Iterator[Remark]:
    """Yield each bar that was missed and each large t-value, with what is known of the reason."""
    for bar in figures.get("peers", {}).get("bars", ()):
        if not bar["met"]:
            what = (
                f"{bar['peer']} takes {bar['ratio']:,.2f} times the CPU of a search here at {bar['identities']:,} "
                f"identities, D = {bar['dimension']}; the aim was {bar['needed']:g}"
            )
            yield Remark(what, _why_missed(bar))
    yield from _costly_sets(figures.get("quantisation", {}).get("sets", ()))
    for case in figures.get("constant_time", {}).get("cases", ()):
        if abs(case["t"]) > figures["constant_time"]["bound"]:
            yield Remark(f"{case['code']}, by its {case['secret']}: t = {case['t']:.1f}", _why_large(case))


def _why_missed(bar: Mapping[str, Any]) -> str:
    if bar["ratio"] < 1:
        return (
            "It is ahead of us: it adds up packed vectors and decides nothing under encryption, and whoever holds its "
            "key sees every score. What a search does once, whatever the size, weighs most in small galleries."
        )
    if bar["identities"] <= 1_000:
        return (
            "A small gallery: converting the probe, proofs and gates cost the same for one identity as for a hundred, "
            "and they are most of a search here. The ratio grows with the gallery."
        )
    return "It is cheaper than was aimed at. docs/comparison.md says what each of the two does."


def _why_large(case: Mapping[str, Any]) -> str:
    difference = case["random_us"] - case["fixed_us"]
    if case["code"].startswith("gmpy2.powmod") and "sec" not in case["code"]:
        return (
            f"As it should be: this code is not constant time ({difference:+.2f} µs), is not used with secrets, and "
            "stands here to show that the measurement finds such code."
        )
    means = f"The medians differ by {difference:+.3f} µs ({abs(difference) / case['fixed_us']:.2%})."
    if abs(case["t"]) > NO_CHANCE:
        return (
            f"{means} This is not chance, and has to be looked at before this code gets secrets: either its time "
            "depends on them, or the measurement treats the two sides differently. tests/kernel/constant_time.sh looks "
            "at the branches and addresses themselves; docs/kernel.md tells of one such value, and what it came from."
        )
    return (
        f"{means} Not above {NO_CHANCE:g}, in a short run on a machine that does other work: such values come and go. "
        "A difference that is there grows with the root of --measurements, chance does not: one that stays is a "
        "finding. "
        "tests/kernel/constant_time.sh looks at the branches and addresses themselves."
    )


def _costly_sets(sets: Sequence[Mapping[str, Any]]) -> Iterator[Remark]:
    """Yield each set of scale and clip that the tables of quantisation.py say missed the bar, as often as they do."""
    for one in sets:
        if not keeps_the_bar(one["rotated"]):
            what = f"{one['parameter_set']}, which is shipped, costs {_cost(one['rotated'])} on {one['photos']} photos"
            yield Remark(f"{what}; the bar is {BAR}", _why_costly(one["rotated"], one))
    for good, hard in zip(sets[::2], sets[1::2], strict=True):
        for pair in zip(good["choices"], hard["choices"], strict=True):
            if not keeps_the_bar(*pair):
                worst = max(pair, key=lambda one: one["points"])
                what = f"{hard['model']} with S = {worst['scale']}, c = {worst['clip']} costs {_cost(worst)}"
                yield Remark(f"{what}; the bar is {BAR}", _why_costly(worst, hard))


def _cost(rotated: Mapping[str, float]) -> str:
    return f"{rotated['points']:+.2f} points of FNMR (standard error {rotated['standard_error']:.2f})"


def _why_costly(rotated: Mapping[str, float], shipped: Mapping[str, Any]) -> str:
    """Return why one set of scale and clip costs more than the bar. shipped: figures of the shipped set beside it."""
    drawn = (
        f"The mean is over {shipped['sets']} sets of photos; which comparisons lie at the threshold is luck, which the "
        "standard error, of the rotations alone, does not have. docs/evaluation.md has the long run."
    )
    at, best = (rotated["scale"], rotated["clip"]), (shipped["scale"], shipped["clip"])
    is_clear = rotated["points"] - 2 * rotated["standard_error"] > BAR
    if at == best:
        if is_clear:
            return f"More than two standard errors above the bar: it has to be looked at, since it is shipped. {drawn}"
        return f"Within two standard errors of the bar. {drawn}"
    clip, other_clip = at[1] / at[0], best[1] / best[0]
    if at[0] >= best[0] and clip >= other_clip:
        return f"It stands here for comparison and is no coarser than the shipped set: most likely luck. {drawn}"
    reason = (
        f"It stands here for comparison and is coarser than the shipped set: steps of 1/{at[0]} of an embedding's "
        f"length for 1/{best[0]}, a clip at {clip:.2f} of it for {other_clip:.2f}. Noise of rounding lifts the highest "
        "scores of impostors, and with them the threshold."
    )
    return f"{reason} {drawn}" if is_clear else f"{reason} Within two standard errors of the bar. {drawn}"
