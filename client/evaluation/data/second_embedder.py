"""A second embedder, for evaluation only: 512 dimensions, to measure parameter sets of that size with.

It is never used to enrol or verify anybody: where its weights come from is not stated
(`veilmatch.client.models.catalogue`). `veilmatch models install --evaluation` fetches it.
"""

from __future__ import annotations

from typing import Self

from veilmatch.client.capture.embedder import OnnxEmbedder, Preprocessing
from veilmatch.client.models import EVALUATION, EVALUATION_MODEL, cache

#: Blue first, and -1 to 1.
SECOND_INPUT = Preprocessing(channels="bgr", mean=(127.5, 127.5, 127.5), scale=(127.5, 127.5, 127.5))


class SecondEmbedder(OnnxEmbedder):
    """The 512-d embedder on onnxruntime. model: the ONNX file as published. The rest: see OnnxEmbedder."""

    dimension = 512

    def __init__(self, model: bytes, *, threads: int = 1) -> None:
        super().__init__(
            model,
            model_id=EVALUATION_MODEL.model_id,
            dimension=512,
            preprocessing=SECOND_INPUT,
            name="512-d embedder",
            threads=threads,
        )

    @classmethod
    def installed(cls) -> Self:
        """Return the embedder with the installed model. Raises ModelError if that is missing or altered."""
        return cls(cache.read_file(EVALUATION, EVALUATION_MODEL.file_name))
