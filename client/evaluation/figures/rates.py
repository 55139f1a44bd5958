"""Error rates of comparisons: FMR, FNMR, the curve through all thresholds, EER, and FNMR at a given FMR.

ISO/IEC 19795-1, performance metrics for verification: the false match rate (FMR) is the proportion of impostor
comparisons that match, the false non-match rate (FNMR) the proportion of genuine comparisons that do not. Both are
of acquired photos: failures to acquire are counted apart. A comparison matches if its score is at or above the
threshold.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from veilmatch.client.evaluation.data.pairs import Flags
from veilmatch.client.evaluation.libraries import require
from veilmatch.crypto.errors import InvalidInputError
from veilmatch.crypto.packing.fields import Array

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Curve:
    """FMR and FNMR, float64[m] in 0..1, at every threshold that occurs as a score, from above all of them downwards."""

    fmr: Floats
    fnmr: Floats
    thresholds: Floats

    @property
    def eer(self) -> float:
        """Equal error rate: where FMR and FNMR cross, on the straight line between two thresholds."""
        return float(np.interp(0.0, self.fmr - self.fnmr, self.fmr))

    def fnmr_at(self, fmr: float) -> float:
        """Return the lowest FNMR of a threshold whose FMR is at most this."""
        return float(self.fnmr[self._at(fmr)])

    def threshold_at(self, fmr: float) -> float:
        """Return the lowest score that, as a threshold, has at most this FMR; just above all scores if none has."""
        at = self._at(fmr)
        return float(self.thresholds[at] if at else np.nextafter(self.thresholds[1], np.inf))

    def _at(self, fmr: float) -> int:
        return int(np.searchsorted(self.fmr, fmr, side="right")) - 1


def curve(scores: Floats, genuine: Flags, weights: Array | None = None) -> Curve:
    """Return the curve of scores, float64[n]. weights: how often each counts, int64[n]. By scikit-learn's `roc_curve`.

    Raises InvalidInputError unless there are genuine and impostor comparisons of some weight.
    """
    used = np.ones(len(genuine), bool) if weights is None else weights > 0
    if not (genuine & used).any() or not (~genuine & used).any():
        raise InvalidInputError("error rates need genuine and impostor comparisons")
    fmr, matched, thresholds = require("sklearn.metrics").roc_curve(
        genuine, scores, sample_weight=weights, drop_intermediate=False
    )
    return Curve(fmr, 1 - matched, thresholds)


def rates(matches: Flags, genuine: Flags, weights: Array | None = None) -> tuple[float, float]:
    """Return (FMR, FNMR) of decisions, bool[n]; NaN where there is nothing to count. weights: see `curve`."""
    w = np.ones(len(genuine)) if weights is None else weights
    impostor, mated = float(w[~genuine].sum()), float(w[genuine].sum())
    fmr = float(w[~genuine & matches].sum()) / impostor if impostor else float("nan")
    fnmr = float(w[genuine & ~matches].sum()) / mated if mated else float("nan")
    return fmr, fnmr
