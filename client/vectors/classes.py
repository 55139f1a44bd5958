"""Classes as templates: a linear classifier on embeddings becomes vectors that a gallery compares with a probe.

A head has a weight vector w_k and a bias b_k for each class; the class of an embedding is the k with the largest
w_k . f + b_k. `identify` finds the template with the largest inner product among vectors of length 1. So

    probe       spread [ sqrt(1 - beta^2) f,         beta,        0     ]
    class k     spread [ w_k / sqrt(1 - beta^2),     b_k / beta,  pad_k ] / R

both of D coordinates and length 1, with inner product (w_k . f + b_k) / R: the padding meets a zero of the probe, and
makes all classes equally long. What w_k and b_k have in common over k changes no decision; the weights are centred, and
the biases get what lifts the best class above `threshold`, whatever the face: centred scores have the mean b, so the
best is b or more, and b/R is the floor. R is the smallest for which all paddings exist.

f is the direction of the embedding in D - 2 coordinates: projected if it has more of them (the head is trained on what
is left), else as it is. Nothing of the map is secret, and it is the same for all heads of one D and `threshold`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from veilmatch.client.capture.quantiser import unit_vector
from veilmatch.client.vectors.spreading import Vector, spread
from veilmatch.crypto.errors import EmbeddingError, InvalidInputError, ParameterError
from veilmatch.crypto.parameters import ParameterSet

#: Standard deviations of the rounding error by which the floor of the best class lies above the threshold.
_MARGIN = 6.0
#: Classes beyond these are no head: a model of people, which are enrolled one by one.
MAX_CLASSES = 1000
_ADDED = 2  # coordinates: a constant for the bias, and the padding

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ClassMap:
    """How embeddings and classes become vectors of one parameter set. threshold: the cosine that probes ask with.

    Raises ParameterError if there is no room: D below 4, or a threshold so high that classes would hardly differ.
    """

    parameters: ParameterSet
    threshold: float

    def __post_init__(self) -> None:
        self.parameters.threshold(self.threshold)
        if self.parameters.dimension < _ADDED + 2 or self.floor >= 0.9:
            raise ParameterError(
                "no room for classes in this parameter set, at this threshold",
                got=f"{self.parameters.name}, {self.threshold:g}",
                expected="4 dimensions or more, and a threshold below 0.85",
            )

    @property
    def features(self) -> int:
        """Coordinates of an embedding that are left: D - 2."""
        return self.parameters.dimension - _ADDED

    @property
    def noise(self) -> float:
        """Standard deviation of what rounding adds to a cosine: two roundings of vectors of length S, uniform errors.

        sqrt(S^2/6 + D/144) / S^2: 0.0032 for the default set.
        """
        S, D = self.parameters.scale, self.parameters.dimension
        return float(np.sqrt(S * S / 6 + D / 144)) / (S * S)

    @property
    def floor(self) -> float:
        """The best class of any probe has this cosine or more, before rounding."""
        return self.threshold + _MARGIN * self.noise

    @property
    def _beta(self) -> float:
        """Of a head with small biases, sqrt(floor) leaves the most room: R is |w| / (1 - floor)."""
        return float(np.sqrt(self.floor))

    def feature(self, embedding: npt.ArrayLike) -> Vector:
        """Return f, float64[D - 2] of length 1: what a head is trained on. Raises EmbeddingError as the quantiser."""
        given = np.asarray(embedding)
        if given.ndim != 1 or not given.size:
            raise EmbeddingError("an embedding of another shape", got=f"{given.shape}", expected="(n,)")
        vector = unit_vector(embedding, given.size)
        if given.size <= self.features:
            return np.concatenate([vector, np.zeros(self.features - given.size)])
        return unit_vector(spread(vector, self.features, "features of a head"), self.features)

    def probe(self, embedding: npt.ArrayLike) -> Vector:
        """Return the probe of an embedding, float64[D] of length 1."""
        beta = self._beta
        return self._spread(np.concatenate([np.sqrt(1 - beta * beta) * self.feature(embedding), [beta, 0.0]]))

    def templates(self, weights: Matrix, biases: Vector) -> Matrix:
        """Return the vectors of the classes, float64[K, D], each of length 1.

        weights: float64[K, D - 2]; biases: float64[K], K 2..1000. Raises InvalidInputError for another shape, values
        that are not finite, or classes that do not differ.
        """
        classes = len(weights)
        if weights.shape != (classes, self.features) or biases.shape != (classes,) or not 2 <= classes <= MAX_CLASSES:
            raise InvalidInputError(
                "not the weights of a head",
                got=f"{weights.shape} and {biases.shape}",
                expected=f"(K, {self.features}) and (K,), K from 2 to {MAX_CLASSES}",
            )
        if not (np.isfinite(weights).all() and np.isfinite(biases).all()):
            raise InvalidInputError("the weights of a head are finite numbers")
        w, b = weights - weights.mean(axis=0), biases - biases.mean()
        largest = max(float(np.abs(w).max()), float(np.abs(b).max()))
        if largest == 0:
            raise InvalidInputError("the classes of the head do not differ")
        w, b = w / largest, b / largest
        R = self._radius(w, b)
        beta = self._beta
        whole = np.column_stack([w / np.sqrt(1 - beta * beta), (b + self.floor * R) / beta]) / R
        pad = np.sqrt(np.maximum(0.0, 1 - np.einsum("kd,kd->k", whole, whole)))
        return np.array([self._spread(row) for row in np.column_stack([whole, pad])])

    def _radius(self, w: Matrix, b: Vector) -> float:
        """Return the smallest R with |w_k|^2 / (1 - beta^2) + (b_k + floor R)^2 / beta^2 <= R^2 for every k.

        A quadratic in R for each k, with one positive root: the largest of them.
        """
        beta = self._beta
        phi, square = self.floor, beta * beta
        lead = 1 - phi * phi / square
        linear = b * phi / square
        constant = np.einsum("kd,kd->k", w, w) / (1 - square) + b * b / square
        return float(np.max((linear + np.sqrt(linear**2 + lead * constant)) / lead))

    def _spread(self, vector: Vector) -> Vector:
        return unit_vector(spread(vector, self.parameters.dimension, "classes of a head"), self.parameters.dimension)
