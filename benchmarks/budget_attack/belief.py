"""What an attacker believes of a template: a normal distribution that follows every answer."""

from __future__ import annotations

from dataclasses import dataclass
from math import erfc

import numpy as np

from benchmarks.budget_attack.device import LONGEST, Ints, P, Vector

#: Cosine of the false match that an attack starts from.
START_COSINE = 0.42
#: How many faces are drawn to find one that probably matches.
DRAWN = 24


@dataclass(frozen=True)
class Belief:
    """A normal belief about the integers of a template: mean [D] and covariance [D, D]."""

    mean: Vector
    spread: Vector

    def after(self, probe: Ints, t: int, answer: bool) -> Belief:
        """The belief given that the score reaches t or does not."""
        toward = self.spread @ probe
        variance = float(probe @ toward) + 1.0
        away = (t - 0.5 - float(probe @ self.mean)) / variance**0.5
        tail = max(0.5 * erfc((away if answer else -away) / 2**0.5), 1e-12)
        step = float(np.exp(-(away**2) / 2)) / (2 * np.pi) ** 0.5 / tail * (1 if answer else -1)
        spread = self.spread - np.outer(toward, toward) * (step * (step - away)) / variance
        return Belief(self.mean + toward * step / variance**0.5, spread)

    def likely(self, rng: np.random.Generator, t: int) -> Vector:
        """Of some faces between the mean and what is believed possible, the one that most probably reaches t."""
        sides = _product(self.spread, rng.standard_normal((P.dimension, DRAWN)))
        sides *= float(np.trace(self.spread)) ** 0.5 / np.linalg.norm(sides, axis=0)
        faces = self.mean[:, None] + np.linspace(0, 1, DRAWN + 1)[1:] * sides
        faces *= LONGEST / np.linalg.norm(faces, axis=0)
        variances = (faces * _product(self.spread, faces)).sum(axis=0)
        return np.asarray(faces[:, np.argmin((t - self.mean @ faces) / variances**0.5)])


def _product(matrix: Vector, columns: Vector) -> Vector:
    # Not `@`: threads of a linear algebra library that wait for each other take longer than so few products.
    return np.asarray(np.einsum("ij,jk->ik", matrix, columns))


def of_nobody() -> Belief:
    """Any direction may be the template's."""
    return Belief(np.zeros(P.dimension), np.eye(P.dimension) * P.scale**2 / P.dimension)


def of_a_match(match: Vector) -> Belief:
    """This direction has the cosine of the match, and nothing else is known."""
    along = np.outer(match, match)
    across = (np.eye(P.dimension) - along) * (1 - START_COSINE**2) * P.scale**2 / (P.dimension - 1)
    return Belief(START_COSINE * P.scale * match, 9.0 * along + across)


def of_faces(embeddings: Vector) -> Belief:
    """A face like these; a third of the covariance is spread over all directions, because they are few."""
    spread = np.cov(embeddings.T)
    spread = 0.7 * spread + 0.3 * np.trace(spread) / P.dimension * np.eye(P.dimension)
    return Belief(P.scale * embeddings.mean(axis=0), P.scale**2 * spread)
