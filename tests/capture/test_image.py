"""Photos from anywhere: what is read, and that everything else is refused with ImageError."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from veilmatch.client.capture.image import MAX_IMAGE_BYTES, load_image
from veilmatch.crypto.errors import ImageError

GRADIENT = (np.arange(24 * 16 * 3) % 251).astype(np.uint8).reshape(24, 16, 3)
FORMATS = ["PNG", "JPEG", "PPM", "BMP", "TIFF", "WEBP", "GIF"]


def encoded(image: Image.Image, file_format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    start = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + start + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def test_path_bytes_pillow_and_array_give_the_same_pixels(tmp_path: Path) -> None:
    image = Image.fromarray(GRADIENT)
    file = tmp_path / "photo.png"
    image.save(file)
    for source in (file, str(file), file.read_bytes(), image, GRADIENT):
        pixels = load_image(source)
        assert pixels.dtype == np.uint8
        np.testing.assert_array_equal(pixels, GRADIENT)


@pytest.mark.parametrize("file_format", ["PNG", "PPM", "BMP", "TIFF", "WEBP"])
def test_every_lossless_format_is_read(file_format: str) -> None:
    data = encoded(Image.fromarray(GRADIENT), file_format, **({"lossless": True} if file_format == "WEBP" else {}))
    np.testing.assert_array_equal(load_image(data), GRADIENT)


def test_a_jpeg_of_several_pictures_gives_the_first() -> None:
    first, second = Image.new("RGB", (32, 32), "red"), Image.new("RGB", (32, 32), "blue")
    data = encoded(first, "MPO", save_all=True, append_images=[second])
    assert load_image(data)[16, 16, 0] > 200


def test_a_grey_image_has_three_equal_channels() -> None:
    grey = GRADIENT[:, :, 0]
    for source in (grey, Image.fromarray(grey), encoded(Image.fromarray(grey), "PPM")):
        pixels = load_image(source)
        assert pixels.shape == (24, 16, 3)
        for channel in range(3):
            np.testing.assert_array_equal(pixels[:, :, channel], grey)


@pytest.mark.parametrize("file_format", ["PNG", "PPM", "TIFF"])
def test_16_bit_grey_keeps_its_upper_eight_bits(file_format: str) -> None:
    values = (np.arange(24 * 16, dtype=np.uint16) * 170).reshape(24, 16)
    assert values.max() > 60000
    pixels = load_image(encoded(Image.fromarray(values), file_format))
    np.testing.assert_array_equal(pixels[:, :, 0], values >> 8)


def test_32_bit_and_floating_point_images_are_refused() -> None:
    for values in (
        np.full((8, 8), 70000, np.int32),
        np.full((8, 8), -1, np.int32),
        np.ones((8, 8), np.float32),
    ):
        with pytest.raises(ImageError, match="8 or 16 bits"):
            load_image(encoded(Image.fromarray(values), "TIFF"))


def test_transparent_pixels_become_white() -> None:
    rgba = np.dstack([GRADIENT, np.full((24, 16), 255, np.uint8)])
    rgba[:12, :, 3] = 0
    pixels = load_image(encoded(Image.fromarray(rgba)))
    assert (pixels[:12] == 255).all()
    np.testing.assert_array_equal(pixels[12:], GRADIENT[12:])


def test_a_palette_is_resolved_with_its_transparent_colour() -> None:
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    palette.putpixel((0, 0), 0)
    pixels = load_image(encoded(palette, transparency=0))
    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert pixels[5, 5].tolist() == [10, 20, 30]


@pytest.mark.parametrize(
    ("orientation", "undo"),
    [
        (2, lambda a: a[:, ::-1]),
        (3, lambda a: a[::-1, ::-1]),
        (4, lambda a: a[::-1]),
        (5, lambda a: a.transpose(1, 0, 2)),
        (6, lambda a: np.rot90(a, -1)),
        (7, lambda a: np.rot90(a, 2).transpose(1, 0, 2)),
        (8, lambda a: np.rot90(a, 1)),
    ],
)
def test_exif_orientation_is_undone(orientation: int, undo: object) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(GRADIENT), "PNG", exif=exif)
    np.testing.assert_array_equal(load_image(data), undo(GRADIENT))  # type: ignore[operator]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00",
        b"not an image",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff\xe0",
        b"%!PS-Adobe-3.0 EPSF-3.0\n",
        b"P5\n9 9\n",
    ],
)
def test_what_is_not_an_image_is_refused(data: bytes) -> None:
    with pytest.raises(ImageError):
        load_image(data)


@pytest.mark.parametrize("file_format", ["EPS", "PCX", "TGA", "ICO", "PDF"])
def test_formats_that_no_camera_writes_are_not_even_tried(file_format: str) -> None:
    with pytest.raises(ImageError, match="not an image"):
        load_image(encoded(Image.fromarray(GRADIENT), file_format))


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_truncated_image_is_refused(file_format: str) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(pixels), file_format)
    assert load_image(data).shape == (64, 64, 3)
    for keep in (len(data) // 2, len(data) * 9 // 10):
        with pytest.raises(ImageError):
            load_image(data[:keep])


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@settings(deadline=None)
@given(st.binary(max_size=300), st.integers(0, 200), st.sampled_from(FORMATS))
def test_damaged_bytes_give_an_image_or_image_error(damage: bytes, at: int, file_format: str) -> None:
    data = encoded(Image.fromarray(GRADIENT), file_format)
    try:
        # A damaged header may claim millions of pixels: legal, but slow to fill with nothing.
        pixels = load_image(data[:at] + damage + data[at + len(damage) :], max_pixels=100_000)
    except ImageError:
        return
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3


@pytest.mark.parametrize(("width", "height"), [(8001, 8001), (20000, 20000), (2**31 - 1, 2**31 - 1), (1, 2**31 - 1)])
def test_huge_dimensions_are_refused_before_decoding(width: int, height: int) -> None:
    with pytest.raises(ImageError, match="too many pixels"):
        load_image(png_header(width, height))


def test_the_pixel_limit_is_exact() -> None:
    for source in (GRADIENT, Image.fromarray(GRADIENT), encoded(Image.fromarray(GRADIENT))):
        assert load_image(source, max_pixels=24 * 16).shape == GRADIENT.shape
        with pytest.raises(ImageError, match="too many pixels"):
            load_image(source, max_pixels=24 * 16 - 1)


def test_the_byte_limit_is_exact_for_bytes_and_files(tmp_path: Path) -> None:
    data = encoded(Image.fromarray(GRADIENT))
    file = tmp_path / "photo.png"
    file.write_bytes(data)
    for source in (data, file):
        assert load_image(source, max_bytes=len(data)).shape == GRADIENT.shape
        with pytest.raises(ImageError, match="file is too large"):
            load_image(source, max_bytes=len(data) - 1)


def test_the_default_byte_limit_is_enforced() -> None:
    with pytest.raises(ImageError, match="file is too large"):
        load_image(b"\0" * (MAX_IMAGE_BYTES + 1))


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((8, 8, 3), np.float32),
        np.zeros((8, 8, 3), np.uint16),
        np.zeros((8, 8, 3), bool),
        np.zeros((8, 8, 3), object),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((8, 8, 1), np.uint8),
        np.zeros((1, 8, 8, 3), np.uint8),
        np.zeros(64, np.uint8),
        np.zeros((0, 8, 3), np.uint8),
        np.zeros((), np.uint8),
    ],
    ids=lambda a: f"{a.dtype}{a.shape}",
)
def test_an_array_of_another_dtype_or_shape_is_refused(array: np.ndarray) -> None:
    with pytest.raises(ImageError):
        load_image(array)


def test_a_file_that_is_missing_or_no_file_is_refused(tmp_path: Path) -> None:
    for source in (tmp_path / "absent.jpg", tmp_path, "bad\0name"):
        with pytest.raises(ImageError):
            load_image(source)


def test_other_types_are_refused() -> None:
    for source in (None, 7, [1, 2], io.BytesIO(b"")):
        with pytest.raises(ImageError, match="not an image"):
            load_image(source)  # type: ignore[arg-type]
