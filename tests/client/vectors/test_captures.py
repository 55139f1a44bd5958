"""Captures that make another vector of an embedding: what comes out is what `fuse` and `ClassMap` make, with the
quality."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from veilmatch import ClassCapture, FusedCapture, fuse
from veilmatch.client.capture.pipeline import CapturePipeline
from veilmatch.client.vectors.classes import ClassMap
from veilmatch.crypto.errors import InvalidInputError
from veilmatch.crypto.parameters import DEFAULT


class Mirrored(CapturePipeline):
    """A second face model, to whom the first one's coordinates come backwards."""

    @property
    def model_id(self) -> str:
        return "mirrored"

    def capture(self, source):  # type: ignore[no-untyped-def]
        face = super().capture(source)
        return type(face)(face.embedding[::-1], face.quality)


@pytest.fixture(scope="module")
def models() -> tuple[CapturePipeline, CapturePipeline]:
    return CapturePipeline.default(), Mirrored.default()


def test_two_models_are_fused(models: tuple[CapturePipeline, CapturePipeline], orl: Callable[[int, int], Path]) -> None:
    capture = FusedCapture(models, weights=[0.7, 0.3], dimension=200)
    embedding = models[0].embed_photo(orl(1, 1))
    expected = fuse([embedding, embedding[::-1]], weights=[0.7, 0.3], dimension=200)
    assert np.allclose(capture.embed_photo(orl(1, 1)), expected)
    once = io.BytesIO(orl(1, 1).read_bytes())  # what can be read once is read once, for both models
    face = capture.capture(once)
    assert np.allclose(face.embedding, expected)
    assert face.quality.scores == models[0].capture(orl(1, 1)).quality.scores == capture.quality(orl(1, 1)).scores


def test_another_fusion_has_another_name(models: tuple[CapturePipeline, CapturePipeline]) -> None:
    one, two = models
    made = [
        FusedCapture([one, two], weights=[0.7, 0.3], dimension=256),
        FusedCapture([two, one], weights=[0.7, 0.3], dimension=256),
        FusedCapture([one, two], weights=[0.6, 0.4], dimension=256),
        FusedCapture([one, two], weights=[0.7, 0.3], dimension=128),
    ]
    assert len({capture.model_id for capture in made}) == 4
    assert made[0].model_id == FusedCapture([one, two], weights=[0.7, 0.3], dimension=256).model_id
    for pipelines, weights in (([one], [1.0]), ([one, two], [1.0])):
        with pytest.raises(InvalidInputError, match="two face models"):
            FusedCapture(pipelines, weights=weights, dimension=128)


def test_probes_of_a_head(models: tuple[CapturePipeline, CapturePipeline], orl: Callable[[int, int], Path]) -> None:
    capture = ClassCapture(models[0], "mask", DEFAULT, 0.4)
    expected = ClassMap(DEFAULT, 0.4).probe(models[0].embed_photo(orl(1, 1)))
    assert np.allclose(capture.embed_photo(orl(1, 1)), expected)
    assert np.allclose(capture.capture(orl(1, 1)).embedding, expected)
    assert capture.quality(orl(1, 1)).faces == 1
    assert capture.model_id == f"{models[0].model_id}+mask@0.4" and capture.dimension == 128
