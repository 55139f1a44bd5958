"""Detectors of presentation attacks: an ONNX model as settings describe it, or a function of the user's."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np
import numpy.typing as npt

from veilmatch.client.capture.image import RgbArray
from veilmatch.client.capture.runtime import FloatTensor, OnnxModel
from veilmatch.client.liveness.settings import Kind, LivenessModelSettings, LivenessSettings
from veilmatch.client.models.own import own_model
from veilmatch.crypto.errors import LivenessError, ModelError

Box = tuple[float, float, float, float]


class Scorer(Protocol):
    """Says how sure it is of a live face."""

    def __call__(self, images: Mapping[Kind, RgbArray], box: Box) -> float:
        """Return 0 (an attack) to 1 (live). images: uint8[h, w, 3], upright, all of one size; box: of the face."""


def scorer_of(settings: LivenessSettings) -> Scorer:
    """Return the detector of these settings. Raises LivenessError if it is not there or cannot be loaded."""
    if settings.model is not None:
        try:
            return ModelScorer(own_model(settings.model.file, settings.model.sha256), settings.model)
        except ModelError as error:
            raise LivenessError(
                f"the model of [liveness] cannot be used: {error.message}",
                got=error.got,
                expected=error.expected,
            ) from error
    return _function(settings.function or "")


def _function(name: str) -> Scorer:
    module, _, attribute = name.partition(":")
    try:
        found: Callable[..., float] = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # a module of the user's raises what it likes
        raise LivenessError(
            "the function of [liveness] cannot be imported", got=f"{name}: {type(error).__name__}"
        ) from error
    if not callable(found):
        raise LivenessError("the function of [liveness] is none", got=f"{name}: {type(found).__name__}")
    return found


class ModelScorer:
    """An ONNX model over the surroundings of a face. Raises ModelError if it does not load."""

    def __init__(self, model: bytes, settings: LivenessModelSettings, *, threads: int = 1) -> None:
        self._model = OnnxModel(model, threads=threads)
        self._settings = settings

    def __call__(self, images: Mapping[Kind, RgbArray], box: Box) -> float:
        """See Scorer. Raises ModelError if the model takes or gives something else."""
        outputs = list(self._model.run(self._tensor(images, box)).values())
        values = np.asarray(outputs[0], np.float64)
        if values.ndim != 2 or len(values) != 1 or self._settings.live >= values.shape[1]:
            raise ModelError(
                "not such a model of liveness", got=values.shape, expected=f"[1, more than {self._settings.live}]"
            )
        return float(_activated(values[0], self._settings.activation)[self._settings.live])

    def _tensor(self, images: Mapping[Kind, RgbArray], box: Box) -> FloatTensor:
        s = self._settings
        planes = []
        for kind, image in images.items():
            square = _surroundings(image, box, s.around, s.size)
            if kind != "colour":
                planes.append(square[:, :, :1])
            else:
                planes.append(square if s.channels == "rgb" else square[:, :, ::-1])
        values = (np.concatenate(planes, axis=2).astype(np.float32) - np.float32(s.mean)) / np.float32(s.scale)
        return values[None] if s.layout == "nhwc" else values.transpose(2, 0, 1)[None]


def _surroundings(image: RgbArray, box: Box, around: float, size: int) -> RgbArray:
    """Return a square about the face, uint8[size, size, 3]; what lies outside the image is black."""
    from PIL import Image

    left, top, right, bottom = box
    x, y, half = (left + right) / 2, (top + bottom) / 2, max(right - left, bottom - top) * around / 2
    corners = round(x - half), round(y - half), round(x + half), round(y + half)
    return np.asarray(Image.fromarray(image).crop(corners).resize((size, size), Image.Resampling.BILINEAR))


def _activated(values: npt.NDArray[np.float64], activation: str) -> npt.NDArray[np.float64]:
    if activation == "softmax":
        raised = np.exp(values - values.max())
        return np.asarray(raised / raised.sum())
    return 1 / (1 + np.exp(-values)) if activation == "sigmoid" else values
