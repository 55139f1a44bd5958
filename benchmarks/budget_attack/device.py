"""The hostile device: what it may ask, and what it has found out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from veilmatch.crypto.parameters import DEFAULT, ParameterSet

Vector = NDArray[np.float64]
Ints = NDArray[np.int64]

P: ParameterSet = DEFAULT
#: The usual threshold, and the bound in the first table.
THRESHOLD = 0.40
#: Almost as long as the gate allows: under a bound nothing is gained by a shorter probe.
LONGEST = (0.995 * P.norm_max) ** 0.5


class Device:
    """A hostile device and the answers it gets. cosines: of its guess before each question.

    passed: the number of the question by which it had a probe that reaches t, if it had one.
    """

    def __init__(self, template: Ints, t: int) -> None:
        self.template = template
        self.t = t
        self.cosines: list[float] = []
        self.guess: Vector = np.zeros(P.dimension)
        self.passed: int | None = None

    def ask(self, probe: Ints, t: int) -> bool:
        """Whether the score reaches t. The probe and t have to be such as are served."""
        assert np.abs(probe).max() <= P.clip and P.norm_min <= int(probe @ probe) <= P.norm_max
        assert 1 <= t <= P.threshold_max
        self.cosines.append(cosine(self.guess, self.template))
        score = int(probe @ self.template)
        # It knows of a probe only what it was told, of its guess what there is to know.
        if self.passed is None and (score >= t >= self.t or self._guess_passes()):
            self.passed = len(self.cosines)
        return score >= t

    def reaches(self, probe: Ints, t: int) -> bool:
        """Whether the score reaches t, of any sign: a score below zero is asked for through the opposite probe."""
        return self.ask(probe, t) if t >= 1 else not self.ask(-probe, 1 - t)

    def _guess_passes(self) -> bool:
        return bool(self.guess.any()) and int(served(self.guess, LONGEST) @ self.template) >= self.t


def cosine(guess: Vector, template: Ints) -> float:
    length = float(np.linalg.norm(guess))
    return float(guess @ template) / (length * float(np.linalg.norm(template))) if length else 0.0


def served(direction: Vector, length: float = P.scale) -> Ints:
    """The integer probe along a direction, of about this length, whose norm the gate lets through."""
    scaled = direction / np.linalg.norm(direction)
    probe = np.clip(np.rint(length * scaled), -P.clip, P.clip).astype(np.int64)
    while int(probe @ probe) > P.norm_max or int(probe @ probe) < P.norm_min:
        length *= 0.99 if int(probe @ probe) > P.norm_max else 1.02
        probe = np.clip(np.rint(length * scaled), -P.clip, P.clip).astype(np.int64)
    return probe
