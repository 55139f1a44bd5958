"""The pipeline: one photo in, one embedding out; a photo without exactly one face that can be relied on is refused.

    pipeline = CapturePipeline.default()
    embedding = pipeline.embed_photo("me.jpg")

The default parts are YuNet and SFace, installed once with `veilmatch models install`. A pipeline keeps
no state between photos and may be used from several threads.
"""

from __future__ import annotations

import numpy as np

from veilmatch.client.capture.alignment import align
from veilmatch.client.capture.detector import Detector, YuNetDetector
from veilmatch.client.capture.embedder import Embedder, Embedding, SFaceEmbedder
from veilmatch.client.capture.image import ImageSource, load_image
from veilmatch.client.capture.turn import upright
from veilmatch.crypto.errors import UnusableFaceError

#: Width of a face's box, in pixels of the photo. Below it errors of both kinds rise steeply (docs/evaluation.md).
MIN_FACE_PIXELS = 24


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

        The photo may be turned any way up. Raises ImageError (not an image, damaged, too large), NoFaceError,
        UnusableFaceError (too small, or not clear which way up), SeveralFacesError: which of several people is meant
        is never guessed. Crop the photo to one of them instead.
        """
        image, face = upright(load_image(source), self._detector)
        width = face.box[2] - face.box[0]
        if width < MIN_FACE_PIXELS:
            raise UnusableFaceError(
                "the face in the photo is too small",
                got=f"{width:.0f} pixels wide",
                expected=f"at least {MIN_FACE_PIXELS} pixels",
            )
        return self._embedder.embed(align(image, face.landmarks))
