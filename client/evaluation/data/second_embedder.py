"""A second embedder, for evaluation only: 512 dimensions, to measure parameter sets of that size with.

It is never used to enrol or verify anybody: where its weights come from is not stated
(`veilmatch.client.models.catalogue`). `veilmatch models install --evaluation` fetches it.
"""

from __future__ import annotations

from typing import Self

import numpy as np

from veilmatch.client.capture.alignment import CROP_SIZE
from veilmatch.client.capture.embedder import Embedding
from veilmatch.client.capture.image import RgbArray
from veilmatch.client.capture.quantiser import unit_vector
from veilmatch.client.capture.runtime import OnnxModel
from veilmatch.client.models import EVALUATION, EVALUATION_MODEL, cache
from veilmatch.crypto.errors import ImageError, ModelError


class SecondEmbedder:
    """The 512-d embedder on onnxruntime; an Embedder.

    model: the ONNX file as published. threads: at least 1. Raises ModelError if the model does not load.
    """

    dimension = 512
    model_id = EVALUATION_MODEL.model_id

    def __init__(self, model: bytes, *, threads: int = 1) -> None:
        self._model = OnnxModel(model, threads=threads)

    @classmethod
    def installed(cls) -> Self:
        """Return the embedder with the installed model. Raises ModelError if that is missing or altered."""
        return cls(cache.read_file(EVALUATION, EVALUATION_MODEL.file_name))

    def embed(self, crop: RgbArray) -> Embedding:
        """See Embedder.embed. Raises ImageError for another shape or dtype."""
        if crop.shape != (CROP_SIZE, CROP_SIZE, 3) or crop.dtype != np.uint8:
            raise ImageError(
                "the embedder takes an aligned crop",
                got=f"{crop.dtype}{list(crop.shape)}",
                expected=f"uint8[{CROP_SIZE}, {CROP_SIZE}, 3]",
            )
        # Blue first, and -1 to 1.
        tensor = (crop[:, :, ::-1].transpose(2, 0, 1)[None].astype(np.float32) - 127.5) / 127.5
        outputs = list(self._model.run(tensor).values())
        shapes = [output.shape for output in outputs]
        if shapes != [(1, self.dimension)]:
            raise ModelError(
                "not the 512-d embedder",
                got=shapes,
                expected=[(1, self.dimension)],
                hint="Install it again: `veilmatch models install --evaluation`.",
            )
        return unit_vector(outputs[0][0], self.dimension)
