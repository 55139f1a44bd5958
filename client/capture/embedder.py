"""The embedder: an aligned face becomes a direction; two photos of one person give nearby ones.

SFace (Zhong et al., "SFace: Sigmoid-Constrained Hypersphere Loss for Robust Face Recognition", IEEE
TIP 2021) gives 128 dimensions. Similarity is the inner product of two unit vectors, that is their
cosine.
"""

from __future__ import annotations

from typing import Protocol, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from veilmatch.client.capture.alignment import CROP_SIZE
from veilmatch.client.capture.image import RgbArray
from veilmatch.client.capture.quantiser import unit_vector
from veilmatch.client.capture.runtime import OnnxModel
from veilmatch.crypto.errors import ImageError, ModelError

Embedding: TypeAlias = npt.NDArray[np.float64]
"""float64[dimension] of length 1. Biometric data: never logged, quoted in an error or sent in clear."""


class Embedder(Protocol):
    """Turns an aligned face into an embedding."""

    @property
    def dimension(self) -> int:
        """Number of coordinates of an embedding."""

    @property
    def model_id(self) -> str:
        """Names the model and its exact weights: embeddings with different ids cannot be compared."""

    def embed(self, crop: RgbArray) -> Embedding:
        """Return the embedding of uint8[112, 112, 3], as `alignment.align` gives it."""


class SFaceEmbedder:
    """SFace on onnxruntime.

    model: the repaired ONNX file (`veilmatch.client.models`). model_id: see Embedder; it has to name the
    weights in model. Raises ModelError if the model does not load or does not give 128 coordinates.
    """

    dimension = 128

    def __init__(self, model: bytes, *, model_id: str, threads: int = 1) -> None:
        self.model_id = model_id
        self._model = OnnxModel(model, threads=threads)

    @classmethod
    def installed(cls) -> Self:
        """Return the embedder with the installed model. Raises ModelError if that is missing or altered."""
        from veilmatch.client.models import SFACE, model_bytes, model_id

        return cls(model_bytes(SFACE), model_id=model_id(SFACE))

    def embed(self, crop: RgbArray) -> Embedding:
        """See Embedder.embed. Raises ImageError for another shape or dtype."""
        if crop.shape != (CROP_SIZE, CROP_SIZE, 3) or crop.dtype != np.uint8:
            raise ImageError(
                "the embedder takes an aligned crop",
                got=f"{crop.dtype}{list(crop.shape)}",
                expected=f"uint8[{CROP_SIZE}, {CROP_SIZE}, 3]",
            )
        # SFace takes red first and 0..255: its own first two layers centre and scale.
        outputs = list(self._model.run(crop.transpose(2, 0, 1)[None].astype(np.float32)).values())
        shapes = [output.shape for output in outputs]
        if shapes != [(1, self.dimension)]:
            raise ModelError("not an SFace model", got=shapes, expected=[(1, self.dimension)])
        return unit_vector(outputs[0][0], self.dimension)
