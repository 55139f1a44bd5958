"""Fusion: several vectors of one person become one, so that servers compare them all at once.

    fuse([face, voice], weights=[0.7, 0.3], dimension=128)     # different models: weighted concatenation
    mean_view([photo_1, photo_2, photo_3])                     # one model: the mean direction

The inner product of two fused vectors is the weighted sum of the cosines of their parts: fusion of scores (ISO/IEC TR
24722) without a score existing anywhere. That of two means is the mean of all cosines between them, over the lengths of
both.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from veilmatch.client.capture.quantiser import unit_vector
from veilmatch.client.given.arrays import plain_array
from veilmatch.client.vectors.spreading import MAX_DIMENSION, Vector, spread
from veilmatch.crypto.errors import EmbeddingError

_MAX_PARTS = 64


def fuse(
    parts: Sequence[npt.ArrayLike], *, weights: Sequence[float] | None = None, dimension: int | None = None
) -> Vector:
    """Return one embedding of several of different models, float64[dimension] of length 1, for `*_embedding` methods.

    parts: real numbers of any sizes, the same models in the same order every time; only directions count. weights: how
    much each cosine counts, 0 or more and not all 0, as `veilmatch eval --fuse` learns them; default: all the same.
    dimension: that of the parameter set; default: that of all parts together. If it is smaller, the parts are
    projected, which costs accuracy (docs/fusion.md). Templates and probes have to be fused with equal weights: put them
    into the name of the model. Raises EmbeddingError if something is none of this.
    """
    vectors = _directions(parts)
    shares = _shares(weights, len(vectors))
    whole = np.concatenate([np.sqrt(share) * vector for share, vector in zip(shares, vectors, strict=True)])
    if len(whole) > MAX_DIMENSION:
        raise EmbeddingError("parts of too many coordinates", got=len(whole), expected=f"at most {MAX_DIMENSION}")
    fused = spread(whole, len(whole) if dimension is None else dimension, f"fusion {[len(v) for v in vectors]}")
    return unit_vector(fused, len(fused))


def mean_view(views: Sequence[npt.ArrayLike], *, weights: Sequence[float] | None = None) -> Vector:
    """Return the mean direction of several embeddings of one model and one person, float64[D] of length 1.

    weights: how much each view counts; default: all the same. Raises EmbeddingError if there is none, they have
    different dimensions, or they cancel out.
    """
    vectors = _directions(views)
    if len({len(vector) for vector in vectors}) != 1:
        raise EmbeddingError(
            "views of one model have one dimension", got=[len(vector) for vector in vectors], expected="the same of all"
        )
    mean = np.asarray(_shares(weights, len(vectors)) @ np.array(vectors))
    if np.linalg.norm(mean) < 1e-6:
        raise EmbeddingError("the views cancel out: they are not of one face")
    return unit_vector(mean, len(mean))


def _directions(parts: Sequence[npt.ArrayLike]) -> list[Vector]:
    if isinstance(parts, np.ndarray) and parts.ndim != 2:
        raise EmbeddingError("not a list of embeddings", got=f"shape {parts.shape}", expected="[[...], [...]]")
    if isinstance(parts, str | bytes) or not hasattr(parts, "__len__"):
        raise EmbeddingError("not a list of embeddings", got=type(parts).__name__, expected="[[...], [...]]")
    if not 1 <= len(parts) <= _MAX_PARTS:
        raise EmbeddingError("a number of embeddings out of range", got=len(parts), expected=f"1..{_MAX_PARTS}")
    made = []
    for part in parts:
        vector = plain_array(part, "an embedding", EmbeddingError)
        if vector.ndim != 1 or not len(vector):
            raise EmbeddingError("an embedding of another shape", got=f"{vector.shape}", expected="(D,)")
        made.append(unit_vector(vector, len(vector)))
    return made


def _shares(weights: Sequence[float] | None, parts: int) -> Vector:
    """Return weights with the sum 1. The error quotes none: they may be learnt from people's scores."""
    if weights is None:
        return np.full(parts, 1 / parts)
    given = plain_array(weights, "weights", EmbeddingError)
    if given.shape != (parts,) or given.dtype.kind not in "fiu":
        raise EmbeddingError(
            "weights that do not fit", got=f"{given.dtype.name}{list(given.shape)}", expected=f"{parts} numbers"
        )
    numbers = given.astype(np.float64)
    if not np.isfinite(numbers).all() or (numbers < 0).any() or not (numbers > 0).any():
        raise EmbeddingError("weights are 0 or more, finite, and not all 0")
    numbers = numbers / numbers.max()  # before the sum: it could leave the range of floats
    return np.asarray(numbers / numbers.sum())
