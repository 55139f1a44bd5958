"""Straight lines through measured costs, and what follows from them for galleries that were not measured.

A query does the same work for every pack, and some work once. So every cost is fixed + slope * packs, and two
numbers say what any gallery costs. `fit` finds them and says how far the measurements lie from the line;
`Figure` keeps a derived number together with the arithmetic that gave it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Line:
    """cost = fixed + slope * packs. residuals: measured / line - 1 of every measurement, in their order."""

    fixed: float
    slope: float
    residuals: tuple[float, ...]

    @property
    def worst(self) -> float:
        """The largest relative residual, as an absolute number."""
        return max(map(abs, self.residuals))

    def at(self, packs: float) -> float:
        """Return the cost of a gallery of so many packs."""
        return self.fixed + self.slope * packs


@dataclass(frozen=True)
class Figure:
    """A derived number. derivation: the arithmetic that gives it, to be read by a person."""

    value: float
    unit: str
    derivation: str


def fit(packs: Sequence[float], costs: Sequence[float]) -> Line:
    """Return the line with the least squares of relative residuals; a small gallery counts as much as a large one.

    packs, costs: of the same length, two or more different numbers of packs, every cost above 0. Raises ValueError
    otherwise.
    """
    if len(packs) != len(costs) or len(set(packs)) < 2 or min(costs) <= 0:
        raise ValueError("a line needs two galleries of different sizes, and costs above 0")
    x, y = np.array(packs, dtype=float), np.array(costs, dtype=float)
    slope, fixed = np.polyfit(x, y, 1, w=1 / y)
    residuals = y / (fixed + slope * x) - 1
    return Line(float(fixed), float(slope), tuple(residuals.tolist()))


#: What `derive` needs a line of. CPU in core-seconds: of one matcher, of one key holder of the pair, of each of
#: these for checking the dealt randomness of the query, and of the dealer. Memory of one matcher. Bytes, both
#: directions together: between the matchers, between the key holders, between them for checking, and from the dealer.
MATCHER, HOLDER, CHECKING, DEALING = "matcher_cpu_s", "keyholder_cpu_s", "checking_cpu_s", "dealing_cpu_s"
MEMORY = "matcher_memory_bytes"
MATCHERS, HOLDERS, CHECKS, DEALT = "matchers_bytes", "keyholders_bytes", "checking_bytes", "dealt_bytes"
QUANTITIES = (MATCHER, HOLDER, CHECKING, DEALING, MEMORY, MATCHERS, HOLDERS, CHECKS, DEALT)


def derive(slots: int, lines: Mapping[str, Line], identities: int, cores: int) -> dict[str, Figure]:
    """Return what one search of a full gallery of `identities` costs, each figure with its derivation.

    slots: of a pack. lines: of all QUANTITIES. cores: of one machine.
    """
    packs = -(-identities // slots)
    figures = {"packs": Figure(packs, "packs", f"{identities:,} / {slots}, rounded up")}
    for name in QUANTITIES:
        line, unit = lines[name], "core-seconds" if name.endswith("_s") else "bytes"
        figures[name] = Figure(line.at(packs), unit, f"{line.fixed:.4g} + {line.slope:.4g} * {packs:,}")

    def total(*names: str) -> tuple[float, str]:
        return sum(figures[name].value for name in names), " + ".join(f"{figures[name].value:.4g}" for name in names)

    value, text = total(MATCHER, HOLDER, CHECKING)
    figures["organisation_cpu_s"] = Figure(value, "core-seconds", text)
    dealing = figures[DEALING].value
    figures["cpu_s"] = Figure(2 * value + dealing, "core-seconds", f"2 * {value:.4g} + {dealing:.4g}")
    figures["machines"] = Figure(
        2 * math.ceil(value / cores) + math.ceil(dealing / cores), "machines",
        f"2 * ceil({value:.4g} / {cores}) + ceil({dealing:.4g} / {cores})",
    )  # fmt: skip
    moved, text = total(MATCHERS, HOLDERS, CHECKS, DEALT)
    figures["bandwidth"] = Figure(8 * moved / 1e9, "Gbit/s", f"8 * ({text}) / 1e9")
    return figures
