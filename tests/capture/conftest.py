"""Models and photos for the tests of the capture pipeline, installed by the product's own functions."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from veilmatch.client.capture.detector import YuNetDetector
from veilmatch.client.capture.embedder import Embedding
from veilmatch.client.capture.pipeline import CapturePipeline
from veilmatch.client.models import fixture_photos, install_models, install_photos, orl_photo


@pytest.fixture(scope="session")
def installed() -> None:
    install_models()
    install_photos()


@pytest.fixture(scope="session")
def pipeline(installed: None) -> CapturePipeline:
    return CapturePipeline.default()


@pytest.fixture(scope="session")
def detector(installed: None) -> YuNetDetector:
    return YuNetDetector.installed()


@pytest.fixture(scope="session")
def portraits(installed: None) -> dict[str, Path]:
    return {photo.path.name: photo.path for photo in fixture_photos()}


@pytest.fixture(scope="session")
def orl_embedding(pipeline: CapturePipeline) -> Callable[[int, int], Embedding]:
    @cache
    def embedding(subject: int, photo: int) -> Embedding:
        return pipeline.embed_photo(orl_photo(subject, photo))

    return embedding


@pytest.fixture(scope="session")
def noise() -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, (240, 320, 3), dtype=np.uint8)
