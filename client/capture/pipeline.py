"""The pipeline: one photo in, one embedding out; a photo without exactly one face is refused.

    pipeline = CapturePipeline.default()
    embedding = pipeline.embed_photo("me.jpg")

The default parts are YuNet and SFace, installed once with `veilmatch models install`. A pipeline keeps
no state between photos and may be used from several threads.
"""

from __future__ import annotations

import numpy as np

from veilmatch.client.capture.alignment import align
from veilmatch.client.capture.detector import Detector, Face, YuNetDetector
from veilmatch.client.capture.embedder import Embedder, Embedding, SFaceEmbedder
from veilmatch.client.capture.image import ImageSource, RgbArray, load_image
from veilmatch.crypto.errors import NoFaceError, SeveralFacesError


class CapturePipeline:
    """Detector, alignment and embedder in one call."""

    def __init__(self, detector: Detector, embedder: Embedder) -> None:
        self._detector = detector
        self._embedder = embedder

    @classmethod
    def default(cls) -> CapturePipeline:
        """Return the pipeline with the installed models (about 0.2 s, 40 MB).

        Raises ModelError, saying what to run, if the models or the `device` extra are not installed, or
        if a model file is not the pinned one.
        """
        return cls(YuNetDetector.installed(), SFaceEmbedder.installed())

    @property
    def dimension(self) -> int:
        """Number of coordinates of an embedding; has to equal that of the parameter set."""
        return self._embedder.dimension

    @property
    def model_id(self) -> str:
        """Names the embedding model; only embeddings with equal ids can be compared."""
        return self._embedder.model_id

    @np.errstate(all="ignore")  # what `numpy.seterr` was told elsewhere is no part of an embedding
    def embed_photo(self, source: ImageSource) -> Embedding:
        """Return the embedding of the one face in the photo, float64[dimension] of length 1.

        Raises ImageError (not an image, damaged, too large), NoFaceError, SeveralFacesError: which of
        several people is meant is never guessed. Crop the photo to one of them instead.
        """
        image = load_image(source)
        return self._embedder.embed(align(image, self._only_face(image).landmarks))

    def _only_face(self, image: RgbArray) -> Face:
        faces = self._detector.detect(image)
        if not faces:
            raise NoFaceError("there is no face in the photo", got=0, expected="one face")
        if len(faces) > 1:
            raise SeveralFacesError(
                "there is more than one face in the photo; crop it to one",
                got=len(faces),
                expected="one face",
            )
        return faces[0]
