"""Photos from anywhere: what is read, and that everything else is refused with ImageError."""

from __future__ import annotations

import base64
import io
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from veilmatch.client.capture.formats import format_of
from veilmatch.client.capture.image import MAX_IMAGE_BYTES, load_image, photo_digest
from veilmatch.client.capture.quantiser import quantise
from veilmatch.crypto.errors import ImageError, MissingExtraError
from veilmatch.crypto.parameters import DEFAULT

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
    for source in (None, 7, [1, 2], object()):
        with pytest.raises(ImageError, match="not an image"):
            load_image(source)  # type: ignore[arg-type]


# -- arrays of other classes ---------------------------------------------------------------------------


class _Labelled(np.ndarray):
    """An image of a library that has its own idea of indexing."""

    def __getitem__(self, key: object) -> object:
        raise RuntimeError("0.123 0.456")


def _masked(hidden: bool) -> np.ma.MaskedArray:
    mask = np.zeros(GRADIENT.shape, bool)
    mask[3, 3] = hidden
    return np.ma.MaskedArray(GRADIENT, mask)


@pytest.mark.parametrize(
    "array",
    [
        GRADIENT.view(_Labelled),
        GRADIENT.view(np.recarray),
        np.asfortranarray(GRADIENT),
        np.repeat(GRADIENT, 2, axis=0)[::2],
        np.broadcast_to(GRADIENT, GRADIENT.shape),
        _masked(hidden=False),
    ],
    ids=["subclass", "record array", "column order", "gaps", "read-only", "nothing masked"],
)
def test_an_image_array_of_any_class_and_layout_is_read(array: np.ndarray) -> None:
    pixels = load_image(array)
    assert type(pixels) is np.ndarray and pixels.flags.c_contiguous
    np.testing.assert_array_equal(pixels, GRADIENT)


def test_a_matrix_is_a_grey_image_and_harms_nothing() -> None:
    # In a process of its own: with numpy 2.4 this used to damage the heap, and the process died later.
    program = """
import warnings, numpy as np
warnings.simplefilter("ignore")
from veilmatch.client.capture.image import load_image
grey = (np.arange(640 * 480) % 251).astype(np.uint8).reshape(640, 480)
for _ in range(20):
    pixels = load_image(np.asmatrix(grey))
    assert type(pixels) is np.ndarray and (pixels[:, :, 1] == grey).all()
print("read")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "read\n"), done.stderr


def test_an_image_with_masked_pixels_is_refused() -> None:
    with pytest.raises(ImageError, match="masked"):
        load_image(_masked(hidden=True))


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_bytes_of_any_class_are_a_file(kind: Callable[[bytes], bytes]) -> None:
    data = encoded(Image.fromarray(GRADIENT))
    np.testing.assert_array_equal(load_image(kind(data)), GRADIENT)
    with pytest.raises(ImageError, match="too large"):
        load_image(kind(data), max_bytes=len(data) - 1)


# -- depth and colour ----------------------------------------------------------------------------------


@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_deep_grey_is_scaled_by_the_bits_that_it_uses(bits: int, file_format: str) -> None:
    eight = GRADIENT[:, :, 0].copy()
    eight[0, 0] = 255
    deep = eight.astype(np.uint16) << (bits - 8)
    np.testing.assert_array_equal(load_image(encoded(Image.fromarray(deep), file_format))[:, :, 2], eight)
    np.testing.assert_array_equal(load_image(Image.fromarray(deep.astype(np.int32)))[:, :, 0], eight)
    np.testing.assert_array_equal(load_image(Image.fromarray(deep.astype(">u2")))[:, :, 0], eight)


def png_of_16_bits(values: np.ndarray) -> bytes:
    """A colour PNG of 16 bits, which Pillow does not write. values: uint16[h, w, 3]."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    height, width, bands = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    start = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, {3: 2, 4: 6}[bands], 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + start + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_a_colour_image_of_16_bits_is_read_if_it_uses_them() -> None:
    np.testing.assert_array_equal(load_image(png_of_16_bits(GRADIENT.astype(np.uint16) << 8)), GRADIENT)
    opaque = np.dstack([GRADIENT, np.full((24, 16), 255, np.uint8)]).astype(np.uint16) << 8
    np.testing.assert_array_equal(load_image(png_of_16_bits(opaque)), GRADIENT)
    for bits in (10, 12, 14):
        for values in (GRADIENT, opaque >> 8):
            narrow = values.astype(np.uint16) << (bits - 8)
            if values.shape[2] == 4:
                narrow[:, :, 3] = 0xFFFF
            with pytest.raises(ImageError, match="16 bits that uses fewer"):
                load_image(png_of_16_bits(narrow))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV"])
def test_every_usual_mode_gives_the_colours_of_its_picture(mode: str) -> None:
    red = Image.new("RGB", (8, 8), "white" if mode in {"1", "L", "LA"} else "red")
    steps = {"RGBa": "RGBA", "PA": "P"}
    image = (red.convert(steps[mode]) if mode in steps else red).convert(mode)
    np.testing.assert_allclose(load_image(image), np.asarray(red), atol=2)


@pytest.mark.parametrize("mode", ["F", "LAB", "La"])
def test_modes_without_a_defined_white_are_refused_by_name(mode: str) -> None:
    with pytest.raises(ImageError, match=f"mode {mode}"):
        load_image(Image.new(mode, (8, 8)))


# -- what other libraries set --------------------------------------------------------------------------

VARIANTS: list[tuple[str, dict[str, object]]] = [
    *((file_format, {}) for file_format in (*FORMATS, "AVIF")),
    ("JPEG", {"progressive": True}),
    ("TIFF", {"compression": "tiff_lzw"}),
    ("TIFF", {"compression": "tiff_deflate"}),
]


@pytest.mark.parametrize(("file_format", "options"), VARIANTS)
def test_half_a_photo_is_refused_whatever_pillow_was_told(
    file_format: str, options: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    pixels = np.random.default_rng(3).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(pixels), file_format, **options)
    assert load_image(data).shape == (64, 64, 3)
    for keep in (len(data) // 3, len(data) // 2, len(data) * 9 // 10):
        with pytest.raises(ImageError):
            load_image(data[:keep])
    assert ImageFile.LOAD_TRUNCATED_IMAGES


def test_damaged_pixels_are_refused_whatever_pillow_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    data = bytearray(encoded(Image.fromarray(GRADIENT), "PNG"))
    start = data.index(b"IDAT") + 4
    size = struct.unpack(">I", data[start - 8 : start - 4])[0]
    data[start + 10 : start + 40] = bytes(30)
    data[start + size : start + size + 4] = struct.pack(">I", zlib.crc32(data[start - 4 : start + size]))
    with pytest.raises(ImageError):
        load_image(bytes(data))


def test_a_pillow_image_that_may_be_half_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(Image.fromarray(GRADIENT))
    loaded, waiting = Image.open(io.BytesIO(data)), Image.open(io.BytesIO(data))
    loaded.load()
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    np.testing.assert_array_equal(load_image(loaded), GRADIENT)
    with pytest.raises(ImageError, match="LOAD_TRUNCATED_IMAGES"):
        load_image(waiting)


@pytest.mark.parametrize("limit", [10, None])
def test_the_pixel_limit_of_other_libraries_is_not_ours(limit: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    for file_format in ("JPEG", "PNG", "PPM", "BMP"):
        assert load_image(encoded(Image.fromarray(GRADIENT), file_format)).shape == GRADIENT.shape
    with pytest.raises(ImageError, match="too many pixels"):
        load_image(png_header(8001, 8001))


def test_formats_that_other_libraries_register_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("asked")

    Image.init()
    for name in list(Image.OPEN):
        monkeypatch.setitem(Image.OPEN, name, (refuse, None))
    data = encoded(Image.fromarray(GRADIENT))
    np.testing.assert_array_equal(load_image(data), GRADIENT)


def test_photos_are_the_same_in_a_process_where_everything_is_set_otherwise(tmp_path: Path) -> None:
    """Warnings are errors, numpy raises, decimals have two digits, floats print short: the pixels stay."""
    program = """
import sys, decimal, locale
import numpy as np
np.seterr(all="raise"); np.set_printoptions(precision=1, legacy="1.13")
decimal.getcontext().prec = 2
from PIL import Image, ImageFile
before = ImageFile.LOAD_TRUNCATED_IMAGES = True
from veilmatch.client.capture.image import load_image
from veilmatch.client.capture.quantiser import quantise
from veilmatch.crypto.parameters import DEFAULT
for path in sys.argv[1:]:
    print(load_image(path).astype(int).sum())
tiny = np.random.default_rng(4).standard_normal(128)
tiny[0] = 1e-320
print(quantise(tiny, DEFAULT).tolist())
assert ImageFile.LOAD_TRUNCATED_IMAGES is before and np.geterr()["under"] == "raise"
"""
    expected, paths = [], []
    for file_format, options in VARIANTS:
        paths.append(tmp_path / f"{len(paths)}.{file_format.lower()}")
        paths[-1].write_bytes(encoded(Image.fromarray(GRADIENT), file_format, **options))
        expected.append(str(load_image(paths[-1]).astype(int).sum()))
    tiny = np.random.default_rng(4).standard_normal(128)
    tiny[0] = 1e-320
    expected.append(str(quantise(tiny, DEFAULT).tolist()))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, *map(str, paths)], capture_output=True, text=True, check=False
    )
    assert (done.stdout.splitlines(), done.returncode) == (expected, 0), done.stderr


# -- formats -------------------------------------------------------------------------------------------

#: 96x64: red rises to the right, green downwards, blue is 90. Made with pillow-heif 1.8 at quality 40.
HEIC = base64.b64decode(
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAVZtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAAACJpbG9jAA"
    "AAAERAAAEAAQAAAAABegABAAAAAAAAAF4AAAAjaWluZgAAAAAAAQAAABVpbmZlAgAAAAABAABodmMxAAAAAA5waXRtAAAAAAABAAAA1mlwcnAA"
    "AAC3aXBjbwAAAHhodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH//wNwAAADAJAAAAMAAAMAHroCQGEAAQArQgEBA3AAAAMAkA"
    "AAAwAAAwAeoDCBBZbqSSmubgIaDAgAAAMAyAAAAwAIQGIAAQAHRAHBcrAiQAAAABNjb2xybmNseAABAA0ABoAAAAAUaXNwZQAAAAAAAABgAAAA"
    "QAAAABBwaXhpAAAAAAMICAgAAAAXaXBtYQAAAAAAAAABAAEEgQIDBAAAAGZtZGF0AAAAWigBr1j5MlVoSnA7mezk3rO4LUxfXNI0vfN8e6HY7k"
    "uLnWY3u+2BaYlSDbKUjHy/yXm5ljIVbkpsw2j194IgXUKypYLv7pYzcd5thVoDXQFvjOkcsT4affI2zA=="
)


def test_a_heic_photo_is_read() -> None:
    y, x = np.mgrid[0:64, 0:96]
    expected = np.dstack([x * 2, y * 3, np.full_like(x, 90)])
    assert np.abs(load_image(HEIC).astype(int) - expected).mean() < 3
    with pytest.raises(ImageError, match="too many pixels"):
        load_image(HEIC, max_pixels=96 * 64 - 1)
    for keep in (50, len(HEIC) // 2, len(HEIC) * 9 // 10):
        with pytest.raises(ImageError):
            load_image(HEIC[:keep])


def test_a_heic_photo_without_its_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    with pytest.raises(MissingExtraError) as caught:
        load_image(HEIC)
    assert caught.value.expected == "pip install 'veilmatch[heic]'"


def test_a_format_is_known_by_content() -> None:
    assert format_of(HEIC[:64]) == "HEIC"
    for file_format in (*FORMATS, "AVIF"):
        data = encoded(Image.fromarray(GRADIENT), file_format)
        assert format_of(data[:64]) == file_format
    for other in (b"", b"BMW is a car, and no picture", b"P6 is a rod", b"%PDF-1.7", b"subject,photo\n", b"\0" * 64):
        assert format_of(other) is None


# -- digests -------------------------------------------------------------------------------------------


def test_the_digest_of_a_photo_is_that_of_its_file_or_else_of_its_pixels(tmp_path: Path) -> None:
    data = encoded(Image.fromarray(GRADIENT))
    (tmp_path / "1.png").write_bytes(data)
    (tmp_path / "2.png").write_bytes(data)
    of_file = {photo_digest(source) for source in (tmp_path / "1.png", str(tmp_path / "2.png"), data, bytearray(data))}
    of_pixels = {photo_digest(source) for source in (GRADIENT, Image.fromarray(GRADIENT))}
    others = {photo_digest(source) for source in (GRADIENT[::-1], GRADIENT.reshape(16, 24, 3), data + b"\0")}
    assert (len(of_file), len(of_pixels), len(of_file | of_pixels | others)) == (1, 1, 5)


@pytest.mark.parametrize("several", [["1.jpg", "2.jpg"], (b"1", b"2")])
def test_a_list_of_photos_is_told_to_be_passed_one_by_one(several: object) -> None:
    with pytest.raises(ImageError, match="not an image") as caught:
        load_image(several)  # type: ignore[arg-type]
    assert "of 2" in str(caught.value.got) and "data URL" in str(caught.value.expected)
    assert "one by one: enrol(subject, *photos)" in str(caught.value.hint)


@pytest.mark.parametrize(("data", "found"), [(b"<html>hush", "HTML, 10 bytes"), (bytes([0, 255]), "2 bytes, of no")])
def test_bytes_that_are_no_image_are_described_and_not_quoted(data: bytes, found: str) -> None:
    with pytest.raises(ImageError) as caught:
        load_image(data)
    assert found in str(caught.value) and "hush" not in str(caught.value)
