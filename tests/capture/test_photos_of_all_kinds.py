"""One face through the whole pipeline, its photo kept in every way that is read: the embedding hardly moves."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from veilmatch.client.capture.image import ImageSource, load_image
from veilmatch.client.capture.pipeline import CapturePipeline


def encoded(image: Image.Image, file_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def colour(portraits: dict[str, Path]) -> Image.Image:
    return Image.fromarray(load_image(portraits["person_a_1.jpg"]))


@pytest.mark.filterwarnings("ignore:the matrix subclass")
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_deep_grey_embeds_as_its_eight_bits_do(pipeline: CapturePipeline, colour: Image.Image, bits: int) -> None:
    grey = np.asarray(colour.convert("L"))
    expected = pipeline.embed_photo(grey)
    deep = (grey.astype(np.uint16) << (bits - 8)) | (grey.astype(np.uint16) >> (16 - bits))
    for source in (encoded(Image.fromarray(deep), "PNG"), encoded(Image.fromarray(deep), "TIFF"), np.asmatrix(grey)):
        assert pipeline.embed_photo(source) @ expected > 0.999


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF", "PPM", "BMP", "MPO"])
def test_every_format_embeds_alike_as_bytes_and_as_data_url(
    pipeline: CapturePipeline, colour: Image.Image, file_format: str
) -> None:
    expected = pipeline.embed_photo(colour)
    data = encoded(colour, file_format, **({"quality": 92} if file_format in {"JPEG", "WEBP", "AVIF"} else {}))
    sources: tuple[ImageSource, ...] = (data, "data:image/x;base64," + base64.b64encode(data).decode())
    for source in sources:
        assert pipeline.embed_photo(source) @ expected > 0.98


def test_colours_kept_otherwise_embed_alike(pipeline: CapturePipeline, colour: Image.Image) -> None:
    expected = pipeline.embed_photo(colour)
    kept = [colour.convert(mode) for mode in ("CMYK", "YCbCr", "RGBA")]
    for image in (*kept, colour.quantize(256)):
        assert pipeline.embed_photo(image) @ expected > 0.95


def test_numpy_that_raises_changes_no_embedding(pipeline: CapturePipeline, colour: Image.Image) -> None:
    expected = pipeline.embed_photo(colour)
    with np.errstate(all="raise"):
        np.testing.assert_array_equal(pipeline.embed_photo(colour), expected)
