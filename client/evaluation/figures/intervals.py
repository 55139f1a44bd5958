"""How far a measured rate may be from the true one: 95 % confidence intervals.

ISO/IEC 19795-1, statistical considerations: comparisons of one subject resemble each other, so what is drawn
again is subjects with all their comparisons (Bolle, Ratha, Pankanti, "Error analysis of pattern recognition
systems: the subsets bootstrap", CVIU 93, 2004). Where no error was seen the bootstrap sees none either; then the
rule of three gives the upper bound: 3/n for n comparisons, were they independent. They are not, so it is the
least that must be allowed for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from veilmatch.client.evaluation.figures.rates import Floats
from veilmatch.crypto.packing.fields import Array

#: What the interval leaves out at each end.
_TAIL_PERCENT = 2.5


@dataclass(frozen=True)
class Interval:
    """low..high in 0..1. method: "bootstrap over subjects", "rule of three" or "none"."""

    low: float
    high: float
    method: str


def rule_of_three(comparisons: int) -> Interval:
    """Return the interval of a rate of which no error was seen in n comparisons: 0 to 3/n, at most 1."""
    return Interval(0.0, min(1.0, 3 / comparisons) if comparisons else 1.0, "rule of three")


def resamples(statistic: Callable[[Array], Sequence[float]], subjects: int, replicates: int, seed: int) -> Floats:
    """Return the statistics of resampled subjects, float64[replicates, k].

    statistic: called with how often each subject was drawn, int64[subjects]; returns k numbers, NaN where it has
    none, as without any impostor.
    """
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(subjects, np.full(subjects, 1 / subjects), size=replicates)
    return np.array([statistic(counts) for counts in draws], np.float64).reshape(replicates, -1)


def interval(rate: float, replicates: Floats, comparisons: int) -> Interval:
    """Return the interval of a rate: percentiles of its replicates, or the rule of three if the rate is 0.

    comparisons: how many the rate is of. Without a usable replicate (one subject) nothing is known: 0 to 1.
    """
    if rate == 0:
        return rule_of_three(comparisons)
    usable = replicates[np.isfinite(replicates)]
    if not len(usable):
        return Interval(0.0, 1.0, "none")
    low, high = np.percentile(usable, [_TAIL_PERCENT, 100 - _TAIL_PERCENT])
    return Interval(float(low), float(high), "bootstrap over subjects")
