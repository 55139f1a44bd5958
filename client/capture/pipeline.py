"""The pipeline: one photo in, one embedding out; a photo without exactly one face that can be relied on is refused.

    pipeline = CapturePipeline.default()
    embedding = pipeline.embed_photo("me.jpg")
    quality = pipeline.quality("me.jpg")        # how good the face in it is, and what to do about it

The default parts are YuNet and SFace, installed once with `veilmatch models install`. A pipeline keeps
no state between photos and may be used from several threads.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from veilmatch.client.capture.alignment import align
from veilmatch.client.capture.detector import Detector, Face, YuNetDetector
from veilmatch.client.capture.embedder import Embedder, Embedding, OutputEmbedder, SFaceEmbedder
from veilmatch.client.capture.image import ImageSource, RgbArray, load_image
from veilmatch.client.capture.own_embedder import own_embedder
from veilmatch.client.capture.quality.assessment import Quality, assess
from veilmatch.client.capture.quality.mesh import FaceMesh
from veilmatch.client.capture.quantiser import unit_vector
from veilmatch.client.capture.settings import CaptureSettings
from veilmatch.client.capture.turn import upright, upright_faces
from veilmatch.crypto.errors import UnusableFaceError

#: Width of a face's box, in pixels of the photo. Below it errors of both kinds rise steeply (docs/evaluation.md).
MIN_FACE_PIXELS = 24


@dataclass(frozen=True, eq=False, slots=True, repr=False)
class CapturedFace:
    """The embedding of the face in a photo, and how good that face is."""

    embedding: Embedding
    quality: Quality


class CapturePipeline:
    """Detector, alignment and embedder in one call. settings: default those of [capture] in an empty device.toml.

    Where they ask for a mesh, the installed one is used. Raises ModelError, saying what to run, if there is none.
    """

    def __init__(self, detector: Detector, embedder: Embedder, settings: CaptureSettings | None = None) -> None:
        self._detector = detector
        self._embedder = embedder
        self._settings = settings or CaptureSettings()
        self._mesh = FaceMesh.installed() if self._settings.mesh else None

    @classmethod
    def default(cls, settings: CaptureSettings | None = None) -> CapturePipeline:
        """Return the pipeline with the installed models, or the embedder of the settings (about 0.2 s, 40 MB).

        Raises ModelError, saying what to run, if the models or the `device` extra are not installed, or
        if a model file is not the pinned one; the same for the mesh where the settings ask for it.
        """
        settings = settings or CaptureSettings()
        embedder = SFaceEmbedder.installed() if settings.embedder is None else own_embedder(settings.embedder)
        return cls(YuNetDetector.installed(settings.detector), embedder, settings)

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
        is never guessed, unless the settings say that it is the largest. Crop the photo to one of them instead.
        """
        image, faces = self._faces(source)
        _require_size(faces[0])
        return self._embedded(image, faces[0])[0]

    @np.errstate(all="ignore")
    def capture(self, source: ImageSource) -> CapturedFace:
        """Return the embedding of the one face in the photo with its quality. Errors: `embed_photo`."""
        image, faces = self._faces(source)
        _require_size(faces[0])
        embedding, unified = self._embedded(image, faces[0])
        return CapturedFace(embedding, assess(image, faces, self._settings.floors, unified, self._mesh))

    @np.errstate(all="ignore")
    def quality(self, source: ImageSource) -> Quality:
        """Return how good the face in the photo is; of several faces that of the largest, and a score for the others.

        Raises ImageError, NoFaceError, and UnusableFaceError if it is not clear which way up the photo is.
        """
        image, faces = upright_faces(load_image(source), self._detector, _width)
        return assess(image, faces, self._settings.floors, self._embedded(image, faces[0])[1], self._mesh)

    def _faces(self, source: ImageSource) -> tuple[RgbArray, list[Face]]:
        """Return the upright photo and its faces, the one that is meant first."""
        image = load_image(source)
        if self._settings.face == "largest":
            return upright_faces(image, self._detector, _width)
        view, face = upright(image, self._detector)
        return view, [face]

    def _embedded(self, image: RgbArray, face: Face) -> tuple[Embedding, tuple[float, int] | None]:
        """Return the embedding, and the length of the model's output with its score where lengths are known."""
        if not isinstance(self._embedder, OutputEmbedder):
            return self._embedder.embed(align(image, face.landmarks)), None
        wanted = self._embedder.preprocessing
        output = self._embedder.output(align(image, face.landmarks, wanted.points, wanted.size))
        embedding = unit_vector(output, self._embedder.dimension)
        if wanted.magnitudes is None:
            return embedding, None
        length = float(np.linalg.norm(output))
        return embedding, (length, wanted.magnitudes.score(length))


@functools.cache
def _default() -> CapturePipeline:
    return CapturePipeline.default()


def face_quality(photo: ImageSource) -> Quality:
    """Return how good the face in a photo is, by the default floors: needs the installed models and nothing else.

    Of several faces it is about the largest. Errors: `CapturePipeline.default`, `CapturePipeline.quality`.
    """
    return _default().quality(photo)


def _width(face: Face) -> float:
    return face.box[2] - face.box[0]


def _require_size(face: Face) -> None:
    if _width(face) < MIN_FACE_PIXELS:
        raise UnusableFaceError(
            "the face in the photo is too small",
            got=f"{_width(face):.0f} pixels wide",
            expected=f"at least {MIN_FACE_PIXELS} pixels",
        )
