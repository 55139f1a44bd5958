"""From photos to the faces of an evaluation, through the product's own pipeline."""

from __future__ import annotations

from collections.abc import Sequence

from veilmatch.client.capture.detector import Detector
from veilmatch.client.capture.embedder import Embedder, Embedding, SFaceEmbedder
from veilmatch.client.capture.image import ImageSource, load_image
from veilmatch.client.capture.own_embedder import own_embedder
from veilmatch.client.capture.pipeline import CapturePipeline
from veilmatch.client.capture.quality.assessment import Quality
from veilmatch.client.capture.settings import CaptureSettings
from veilmatch.client.evaluation.data.degrade import hard
from veilmatch.client.evaluation.data.faces import FaceSet, Progress, from_photos
from veilmatch.client.evaluation.data.second_embedder import SecondEmbedder
from veilmatch.client.models import ORL_PHOTOS, ORL_SUBJECTS, orl_photo
from veilmatch.crypto.errors import ParameterError
from veilmatch.crypto.parameters import ParameterSet


def installed_embedder(parameters: ParameterSet, settings: CaptureSettings | None = None) -> Embedder:
    """Return the embedder of these settings, or else the installed one of the dimension that the parameter set has.

    Raises ParameterError if there is none of it, ModelError if it is not installed.
    """
    own = settings.embedder if settings is not None else None
    if own is not None:
        if own.dimension != parameters.dimension:
            raise ParameterError(
                "the model of [capture.embedder] has another dimension than the parameter set",
                got=own.dimension,
                expected=f"{parameters.dimension} ({parameters.name})",
            )
        return own_embedder(own)
    for kind in (SFaceEmbedder, SecondEmbedder):
        if kind.dimension == parameters.dimension:
            return kind.installed()
    raise ParameterError(
        "no face model has the dimension of the parameter set", got=parameters.dimension, expected="128 or 512"
    )


def orl_photos() -> list[tuple[str, ImageSource]]:
    """Return (subject, photo) of the 400 AT&T/ORL photos. Raises ModelError if they are not installed."""
    return [(f"s{s}", orl_photo(s, k)) for s in range(1, ORL_SUBJECTS + 1) for k in range(1, ORL_PHOTOS + 1)]


def capture(
    photos: Sequence[tuple[str, ImageSource]],
    detector: Detector,
    embedder: Embedder,
    parameters: ParameterSet,
    progress: Progress = lambda stage, done, total: None,
    hard_seed: int | None = None,
    settings: CaptureSettings | None = None,
) -> FaceSet:
    """Return the faces of photos; with hard_seed of what `degrade.hard` makes of them. settings: of [capture]."""
    pipeline = CapturePipeline(detector, embedder, settings)

    def embed(number: int, photo: ImageSource) -> tuple[Embedding, Quality]:
        face = pipeline.capture(photo if hard_seed is None else hard(load_image(photo), (hard_seed, number)))
        return face.embedding, face.quality

    return from_photos(photos, embed, embedder.model_id, parameters, progress)
