"""The quantiser: a unit vector of floats becomes the small integers that are encrypted.

`q = clip(round(S*e), -c, c)` (docs/protocol.md). It is the last place where a probe can be
refused with an explanation: behind encryption the validity gate refuses the same vectors with one bit.
Needs numpy only.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from veilmatch.client.given.arrays import plain_array
from veilmatch.crypto.errors import EmbeddingError
from veilmatch.crypto.parameters import ParameterSet


def quantise(embedding: npt.ArrayLike, parameters: ParameterSet) -> npt.NDArray[np.int64]:
    """Return int64[dimension] in [-clip, clip], whose squared norm lies in [norm_min, norm_max].

    embedding: real numbers [dimension] of any length but zero; only the direction counts. Any array of integers or
    floats will do, of any precision, byte order and layout, and any object that numpy reads as one; truth values,
    complex numbers, texts, times, objects and masked values will not, nor will [1, dimension]. What is beyond the range
    of float64 is not finite. Halves round to even. Raises EmbeddingError for another dimension or type, a value that is
    not finite, a zero vector, or a squared norm outside the window, as directions along few axes have that no face
    model gives. The error gives sizes and bounds, never a value.
    """
    q = np.rint(parameters.scale * unit_vector(embedding, parameters.dimension))
    q = np.clip(q, -parameters.clip, parameters.clip).astype(np.int64)
    if not parameters.norm_min <= int(q @ q) <= parameters.norm_max:
        raise EmbeddingError(
            "the embedding does not look like one of a face: its squared norm after rounding is out of range",
            expected=f"{parameters.norm_min} to {parameters.norm_max}",
        )
    return q


def unit_vector(embedding: npt.ArrayLike, dimension: int) -> npt.NDArray[np.float64]:
    """Return float64[dimension] of length 1 along embedding. Raises EmbeddingError as `quantise` does."""
    vector = plain_array(embedding, "an embedding", EmbeddingError)
    if vector.shape != (dimension,):
        raise EmbeddingError(
            "an embedding of another dimension",
            got=f"numbers of shape {vector.shape}",
            expected=f"{dimension} numbers, of shape ({dimension},)",
        )
    if vector.dtype.kind not in "fiu":
        raise EmbeddingError("an embedding is made of real numbers", got=f"dtype {vector.dtype.name}")
    # How this thread treats overflow and underflow (`numpy.seterr`) is no part of an embedding.
    with np.errstate(all="ignore"):
        vector = vector.astype(np.float64)
        if not np.all(np.isfinite(vector)):
            raise EmbeddingError("the embedding holds values that are not finite")
        largest = np.abs(vector).max()
        if largest == 0:
            raise EmbeddingError("the embedding is zero and has no direction")
        vector = vector / largest  # squares of very large or very small values would leave the range of floats
        return np.asarray(vector / np.linalg.norm(vector), np.float64)
