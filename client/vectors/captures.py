"""Captures whose embeddings become another vector before they are encrypted: classes of a head, fused models, views.

    settings = DeviceSettings.load("device.toml")
    with Client(settings, capture=ClassCapture.of_device(settings, "condition")) as client:
        client.identify("door.jpg").subject          # the class

The client does the rest as ever: liveness, quality, encryption, the name of the model.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from veilmatch.client.capture.image import ImageSource, fetched
from veilmatch.client.capture.pipeline import CapturedFace, CapturePipeline
from veilmatch.client.capture.quality.assessment import Quality
from veilmatch.client.config import DeviceSettings
from veilmatch.client.given.quoting import about, quoted_photo
from veilmatch.client.vectors.classes import ClassMap
from veilmatch.client.vectors.fusing import fuse, mean_view
from veilmatch.client.vectors.head import HEAD_THRESHOLD, head_model
from veilmatch.common.public_file import read_public_file
from veilmatch.crypto.errors import InvalidInputError
from veilmatch.crypto.parameters import ParameterSet

Vector = npt.NDArray[np.float64]


class MappedCapture:
    """A pipeline, and what is made of its embeddings. dimension, model_id: of what is made."""

    def __init__(
        self, pipeline: CapturePipeline, made: Callable[[Vector], Vector], dimension: int, model_id: str
    ) -> None:
        self.dimension, self.model_id = dimension, model_id
        self._pipeline, self._made = pipeline, made

    def embed_photo(self, source: ImageSource) -> Vector:
        """Return what is made of the one face in the photo, float64[dimension]. Errors: CapturePipeline."""
        return self._made(self._pipeline.embed_photo(source))

    def embed_photos(self, sources: Sequence[ImageSource]) -> Vector:
        """Return what is made of the mean direction of several photos of one person, float64[dimension].

        Errors: CapturePipeline, saying which photo it is about; EmbeddingError for none, or more than 64.
        """
        found = []
        for number, source in enumerate(sources, start=1):
            try:
                found.append(self._pipeline.embed_photo(source))
            except InvalidInputError as error:
                raise about(quoted_photo(source, number, len(sources)), error) from None
        return self._made(mean_view(found))

    def capture(self, source: ImageSource) -> CapturedFace:
        """Return the same with the quality of the face. Errors: CapturePipeline."""
        face = self._pipeline.capture(source)
        return CapturedFace(self._made(face.embedding), face.quality)

    def quality(self, source: ImageSource) -> Quality:
        """Return how good the face in the photo is. Errors: CapturePipeline."""
        return self._pipeline.quality(source)


class ClassCapture(MappedCapture):
    """Probes for a gallery of classes (docs/heads.md). name, threshold: as the head was trained with."""

    def __init__(
        self, pipeline: CapturePipeline, name: str, parameters: ParameterSet, threshold: float = HEAD_THRESHOLD
    ) -> None:
        model = head_model(pipeline.model_id, name, threshold)
        super().__init__(pipeline, ClassMap(parameters, threshold).probe, parameters.dimension, model)

    @classmethod
    def of_device(cls, settings: DeviceSettings, name: str, threshold: float = HEAD_THRESHOLD) -> ClassCapture:
        """Return the capture of a device: its face model and its parameter set. Raises ModelError, KeyFileError."""
        parameters = read_public_file(settings.public_key).public_key.parameters
        return cls(CapturePipeline.default(settings.capture), name, parameters, threshold)


class FusedCapture:
    """Two or more face models on each photo, fused into one vector (docs/fusion.md).

    weights: of `veilmatch eval --fuse`. dimension: of the parameter set. The quality is that of the first pipeline.
    Another order, model, weight or dimension has another model_id. Raises InvalidInputError for fewer than two
    pipelines.
    """

    def __init__(self, pipelines: Sequence[CapturePipeline], *, weights: Sequence[float], dimension: int) -> None:
        if len(pipelines) < 2 or len(pipelines) != len(weights):
            raise InvalidInputError(
                "fusion takes two face models or more, and a weight of each",
                got=f"{len(pipelines)} and {len(weights)}",
            )
        self._pipelines, self._weights = list(pipelines), [float(weight) for weight in weights]
        self.dimension = dimension
        described = json.dumps([[p.model_id for p in pipelines], self._weights, dimension])
        self.model_id = f"fused-{hashlib.sha256(described.encode()).hexdigest()[:16]}"

    def embed_photo(self, source: ImageSource) -> Vector:
        """Return the fused vector of the one face in the photo, float64[dimension]. Errors: CapturePipeline."""
        return self.capture(source).embedding

    def capture(self, source: ImageSource) -> CapturedFace:
        """Return the same with the quality of the face. Errors: CapturePipeline."""
        photo = fetched(source)  # read once: a pipe has its photo once
        faces = [pipeline.capture(photo) for pipeline in self._pipelines]
        fused = fuse([face.embedding for face in faces], weights=self._weights, dimension=self.dimension)
        return CapturedFace(fused, faces[0].quality)

    def quality(self, source: ImageSource) -> Quality:
        """Return how good the face in the photo is. Errors: CapturePipeline."""
        return self._pipelines[0].quality(source)
