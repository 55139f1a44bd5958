"""Search 1:N: is the right subject found, and is a stranger taken for somebody.

ISO/IEC 19795-1, performance metrics for identification. The first photo of every subject is enrolled, every other one
searches twice: among all subjects (mated), and among all but its own (non-mated, leave-one-out). A search returns
every candidate at or above the threshold, as `candidates` does. FNIR: mated searches that do not return their
subject. FPIR: non-mated searches that return anybody. Rank 1: mated searches whose subject alone has the best score.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from veilmatch.client.evaluation.data.pairs import Flags
from veilmatch.client.evaluation.figures.rates import Curve, Floats, curve
from veilmatch.crypto.packing.fields import Array

_T = TypeVar("_T", bound=np.generic)


@dataclass(frozen=True, eq=False)
class Searches:
    """Who is enrolled and who searches. enrolled, probes: int64, rows of faces; mates: of each probe, its subject's
    place among the enrolled."""

    enrolled: Array
    probes: Array
    mates: Array

    @staticmethod
    def of(labels: Array) -> Searches:
        """Return the searches of faces with these subjects, int64[n] from 0."""
        _, enrolled = np.unique(labels, return_index=True)
        probes = np.setdiff1d(np.arange(len(labels)), enrolled)
        return Searches(enrolled.astype(np.int64), probes.astype(np.int64), labels[probes])

    def table(self, square: npt.NDArray[_T]) -> npt.NDArray[_T]:
        """Return what a symmetric table of all faces, [n, n], says of probes and enrolled, [probes, enrolled]."""
        return np.asarray(square[np.ix_(self.probes, self.enrolled)])

    @property
    def is_mate(self) -> Flags:
        """bool[probes, enrolled]."""
        return np.asarray(self.mates[:, None] == np.arange(len(self.enrolled)))


def rank_one(searches: Searches, scores: Floats) -> float:
    """Return the rank-1 identification rate; a tie with another subject is an error. scores: [probes, enrolled]."""
    mated, best_other = _mated_and_others(searches, scores)
    return float(np.mean(mated > best_other))


def open_set(searches: Searches, matches: Flags) -> tuple[float, float]:
    """Return (FPIR, FNIR) of decisions at one threshold, bool[probes, enrolled]."""
    mate = searches.is_mate
    return float(np.mean((matches & ~mate).any(axis=1))), float(np.mean(~matches[mate]))


def open_set_curve(searches: Searches, scores: Floats) -> Curve:
    """Return the curve of FPIR (as fmr) and FNIR (as fnmr) over all thresholds."""
    mated, best_other = _mated_and_others(searches, scores)
    return curve(np.concatenate([mated, best_other]), np.repeat([True, False], [len(mated), len(best_other)]))


def _mated_and_others(searches: Searches, scores: Floats) -> tuple[Floats, Floats]:
    """Return the score with the own subject and the best one with another, float64[probes] each."""
    mate = searches.is_mate
    return scores[mate], np.asarray(np.where(mate, -np.inf, scores).max(axis=1))
