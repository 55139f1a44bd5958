"""An embedder of one's own, as [capture.embedder] describes it: any ONNX model that takes an aligned face."""

from __future__ import annotations

import numpy as np

from veilmatch.client.capture.alignment import ARCFACE_POINTS, CROP_SIZE, Points
from veilmatch.client.capture.embedder import Magnitudes, OnnxEmbedder, Preprocessing
from veilmatch.client.capture.settings import EmbedderSettings
from veilmatch.client.models.own import own_model


def own_embedder(settings: EmbedderSettings) -> OnnxEmbedder:
    """Return the embedder of these settings. Raises ModelError if the file is missing or not that model."""
    data = own_model(settings.file, settings.sha256)
    return OnnxEmbedder(
        data,
        model_id=settings.model_id,
        dimension=settings.dimension,
        preprocessing=preprocessing_of(settings),
        name=f"model {settings.name}",
    )


def preprocessing_of(settings: EmbedderSettings) -> Preprocessing:
    """Return what a model with these settings takes."""
    return Preprocessing(
        size=settings.size,
        points=_points(settings),
        channels=settings.channels,
        layout=settings.layout,
        mean=settings.mean,
        scale=settings.scale,
        magnitudes=None if settings.magnitude is None else Magnitudes(*settings.magnitude),
    )


def _points(settings: EmbedderSettings) -> Points:
    if settings.template == "arcface" and settings.size == CROP_SIZE:
        return ARCFACE_POINTS
    if settings.template == "arcface":
        # About corners and not centres of pixels: a crop of twice the size has its points at 2p + 0.5.
        return (ARCFACE_POINTS + 0.5) * (settings.size / CROP_SIZE) - 0.5
    return np.array(settings.template, np.float64)
