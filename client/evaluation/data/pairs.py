"""The comparisons of an evaluation: which faces meet, and whether they are of one subject.

A comparison of two photos of one subject is genuine (mated), one of two subjects an impostor (non-mated)
comparison: ISO/IEC 19795-1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from veilmatch.crypto.errors import InvalidInputError
from veilmatch.crypto.packing.fields import Array

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Pairs:
    """Comparisons. first, second: int64[n], rows of the two faces; labels: int64[faces], the subject of each face."""

    first: Array
    second: Array
    labels: Array

    @property
    def genuine(self) -> Flags:
        """bool[n]: whether both faces are of one subject."""
        return np.asarray(self.labels[self.first] == self.labels[self.second])

    @property
    def subjects(self) -> int:
        """How many subjects there are."""
        return int(self.labels.max()) + 1

    def weights(self, counts: Array) -> Array:
        """Return how often each comparison occurs, int64[n], if subject s was drawn counts[s] times.

        A genuine comparison comes with every copy of its subject; an impostor comparison with every pair of
        copies. Copies of one subject are not compared with each other: that would make false impostors.
        """
        first, second = counts[self.labels[self.first]], counts[self.labels[self.second]]
        return np.where(self.genuine, first, first * second)


def all_pairs(labels: Array) -> Pairs:
    """Return every comparison of two different faces, each once (first < second), ordered by the first.

    labels: int64[n], the subject of each face as a number from 0. Raises InvalidInputError unless there is a
    genuine and an impostor comparison: two subjects, one of them with two photos.
    """
    first, second = np.triu_indices(len(labels), 1)
    pairs = Pairs(first.astype(np.int64), second.astype(np.int64), labels)
    if not len(first) or pairs.genuine.all() or not pairs.genuine.any():
        raise InvalidInputError(
            "there is nothing to compare",
            got=f"subjects: {len(np.unique(labels))}, usable photos: {len(labels)}",
            expected="two subjects or more, one of them with two usable photos or more",
        )
    return pairs
