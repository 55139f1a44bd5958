"""Embeddings of people who do not exist, for tests that are not about photos."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

#: How far two photos of a person are apart: their cosine is about 1 / (1 + 0.25).
_NOISE = 0.5


def made_up_embedding(person: str, photo: int = 1, dimension: int = 128) -> NDArray[np.float64]:
    """Return the embedding of a photo of a person who does not exist, float64[dimension] of length 1.

    The same for the same arguments, everywhere. Two photos of one person have a cosine of about 0.8, those of two
    people one of about 0, seldom above 0.3: no real face model tells people apart so well.
    """
    vector = _direction(f"person {person}", dimension) + _NOISE * _direction(f"photo {photo} {person}", dimension)
    return vector / np.linalg.norm(vector)


def _direction(name: str, dimension: int) -> NDArray[np.float64]:
    seed = hashlib.sha256(name.encode()).digest()
    drawn: NDArray[np.float64] = np.random.Generator(np.random.PCG64(int.from_bytes(seed))).standard_normal(dimension)
    return drawn / np.linalg.norm(drawn)
