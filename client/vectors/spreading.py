"""Spreading: a public orthonormal map, by which any vector gets the dimension of a parameter set and even coordinates.

The quantiser clips coordinates at c/S, about 3.4 times what an even vector of length 1 has (0.30 for 0.088 with 128
dimensions), and takes squared norms of a window only. Vectors that are put together from parts are not even: a block
that counts for much, or a constant, would be clipped. An orthonormal map changes no inner product and evens them out,
so that the windows and figures of a parameter set hold for them as for embeddings (docs/heads.md).

The map is the same on every device that names the same seed and sizes: the directions of a Gaussian matrix (Haar
measure; Mezzadri, "How to generate random matrices from the classical compact groups", Notices of the AMS 54, 2007).
It is public, and hides nothing.
"""

from __future__ import annotations

import zlib
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from veilmatch.crypto.errors import EmbeddingError

Vector = npt.NDArray[np.float64]
#: As of parameter sets. A map of 4,096 by 4,096 takes 128 MB and half a minute, once.
MAX_DIMENSION = 4096


def spread(vector: Vector, dimension: int, purpose: str) -> Vector:
    """Return float64[dimension] in place of float64[n]: the same length and inner products if n <= dimension.

    A larger n is projected: of inner products of vectors of length 1 an error of about sqrt((1 - dimension/n) /
    dimension) is left, 0.02 from 640 to 512 and 0.08 to 128. purpose: seeds the map. Raises EmbeddingError if n or
    dimension is not 1..4096.
    """
    n = len(vector)
    if not 1 <= n <= MAX_DIMENSION or not 1 <= dimension <= MAX_DIMENSION:
        raise EmbeddingError("a vector of too many coordinates", got=f"{n} to {dimension}", expected="1..4096")
    return np.asarray(_map(n, dimension, purpose) @ vector)


@lru_cache(maxsize=4)
def _map(n: int, dimension: int, purpose: str) -> npt.NDArray[np.float64]:
    """Return float64[dimension, n] with orthonormal columns, or rows if n is larger."""
    tall, wide = max(n, dimension), min(n, dimension)
    rng = np.random.Generator(np.random.PCG64([zlib.crc32(purpose.encode()), tall, wide]))
    q, r = np.linalg.qr(rng.standard_normal((tall, wide)))
    q = q * np.sign(np.diag(r))  # else a library's choice of signs would be part of the map
    made = q if dimension >= n else q.T
    made.flags.writeable = False
    return np.asarray(made)
