"""The three scorers that an evaluation compares: float cosine, quantised integers, and the encrypted path.

The first two give a score for every comparison, and with it rates at every threshold. The encrypted path gives
one bit for each comparison at one threshold, as it gives a device: it is run at the operating thresholds only. Its
bits must equal "integer score >= threshold" everywhere; quantising is the only step that may change a decision.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from veilmatch.client.evaluation.data.faces import FaceSet, Progress
from veilmatch.client.evaluation.data.pairs import Flags, Pairs
from veilmatch.client.evaluation.figures.rates import Floats
from veilmatch.client.evaluation.local_pair import LocalPair
from veilmatch.crypto.packing.fields import Array


def float_scores(faces: FaceSet, pairs: Pairs) -> Floats:
    """Return the cosine of every comparison, float64[n] in [-1, 1]."""
    scores = faces.embeddings @ faces.embeddings.T
    return np.asarray(scores[pairs.first, pairs.second])


def integer_scores(faces: FaceSet, pairs: Pairs) -> Array:
    """Return the inner product of the quantised vectors of every comparison, int64[n]; S^2 is a cosine of 1."""
    scores = faces.integers @ faces.integers.T
    return np.asarray(scores[pairs.first, pairs.second])


def encrypted_decisions(
    faces: FaceSet,
    pairs: Pairs,
    thresholds: Sequence[int],
    pair: LocalPair,
    progress: Progress = lambda stage, done, total: None,
) -> Flags:
    """Return the encrypted decisions, bool[thresholds, n], in the order of pairs.

    All faces are enrolled; each that is a first face is encrypted as a probe, and decided against the second faces of
    its comparisons. pairs: ordered by the first face. thresholds: integers 1..S^2.
    """
    gallery = pair.gallery(faces.integers)
    probes, starts = np.unique(pairs.first, return_index=True)
    decisions = np.zeros((len(thresholds), len(pairs.first)), bool)
    for done, (probe, start, end) in enumerate(zip(probes, starts, [*starts[1:], len(pairs.first)], strict=True), 1):
        found = pair.decide(faces.integers[probe], gallery, pairs.second[start:end], thresholds)
        decisions[:, start:end] = found.astype(bool)
        progress("encrypted", done, len(probes))
    return decisions
