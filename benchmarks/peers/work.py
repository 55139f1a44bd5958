"""The same work for every peer: random unit vectors, and the probe that all of them look for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from veilmatch.client.capture.quantiser import quantise
from veilmatch.crypto.packing.fields import Array
from veilmatch.crypto.parameters import D512, DEFAULT, ParameterSet

Floats = NDArray[np.float64]
#: The parameter set of Veilmatch for each dimension.
PARAMETERS: dict[int, ParameterSet] = {128: DEFAULT, 512: D512}


def gallery(dimension: int, identities: int) -> Floats:
    """Return unit vectors [identities][dimension]; those of a smaller gallery are the first of a larger one."""
    vectors = np.random.default_rng(1).standard_normal((identities, dimension))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def probe(dimension: int) -> Floats:
    """Return a unit vector near the first of the gallery: its cosine with it is about 0.7."""
    noise = np.random.default_rng(2).standard_normal(dimension)
    near = gallery(dimension, 1)[0] + noise / np.linalg.norm(noise)
    return np.asarray(near / np.linalg.norm(near))


def quantised(vectors: Floats) -> Array:
    """Return the integers of every vector under the parameter set of its dimension."""
    return np.array([quantise(v, PARAMETERS[vectors.shape[1]]) for v in vectors])
