"""What an evaluation says to somebody who has a door: how many strangers get in, and how many of ours are turned away.

Counted in a thousand, with the 95 % intervals of the rates. Of a search in a gallery of n templates by somebody who is
not in it, the rate is 1 - (1 - FMR)^n, as if comparisons did not resemble each other (ISO/IEC 19795-1, estimating FPIR
from FMR): an upper estimate where they do.
"""

from __future__ import annotations

from dataclasses import dataclass

from veilmatch.client.evaluation.study import Figures, Point


@dataclass(frozen=True)
class PerThousand:
    """A rate in a thousand, with its 95 % interval."""

    rate: float
    low: float
    high: float

    def __str__(self) -> str:
        if self.rate == 0:
            return f"at most {_number(self.high)}"
        return f"{_number(self.rate)} ({_number(self.low)} to {_number(self.high)})"


@dataclass(frozen=True)
class Summary:
    """What happens of a thousand, at the chosen threshold.

    strangers: that are let in where one person is claimed. turned_away: of ours, photos that cannot be used counted in.
    named: searches by strangers, in a gallery of so many templates, that name somebody.
    """

    cosine: float
    strangers: PerThousand
    turned_away: PerThousand
    gallery: int
    named: PerThousand

    def __str__(self) -> str:
        return (
            f"At threshold {self.cosine:g}, of 1,000 strangers {self.strangers} get in as a person they claim to be; "
            f"of 1,000 attempts by that person {self.turned_away} are turned away; and in a gallery of "
            f"{self.gallery:,}, of 1,000 searches by strangers {self.named} name somebody."
        )


def summary(figures: Figures, gallery: int | None = None) -> Summary:
    """Return the summary. gallery: how many templates are searched; default: those that this evaluation enrolled."""
    point = chosen(figures)
    size = figures.enrolled if gallery is None else gallery
    fmr, fnmr, fta = point.fmr, point.fnmr, figures.fta
    ours = [fta + (1 - fta) * rate for rate in (fnmr.rate, fnmr.interval.low, fnmr.interval.high)]
    strangers = (fmr.rate, fmr.interval.low, fmr.interval.high)
    return Summary(
        figures.choice.cosine,
        _thousand(*strangers),
        _thousand(*ours),
        size,
        _thousand(*(1 - (1 - rate) ** size for rate in strangers)),
    )


def chosen(figures: Figures) -> Point:
    """Return what the quantised integers give at the threshold that was chosen."""
    return next(p for p in figures.scorers["integer"].points if p.target_fmr == figures.choice.fmr)


def _thousand(rate: float, low: float, high: float) -> PerThousand:
    return PerThousand(1000 * rate, 1000 * low, 1000 * high)


def _number(value: float) -> str:
    """Two digits that count, and no digits behind the point from 10 on."""
    if value >= 10 or value == 0:
        return f"{value:,.0f}"
    return f"{value:.2g}"
