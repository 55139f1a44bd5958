"""A photo from anywhere becomes one thing: an upright RGB array of bytes.

Photos come from outside and decoders are where hostile ones do harm, so the size is checked before anything is
decoded, only plain raster formats are tried (`formats.py`), and every failure of a decoder leaves as ImageError. What
other libraries set for the whole process decides nothing here, and nothing of the kind is set here. Two things remain:
where the program turns warnings into errors, a photo whose metadata are damaged is refused; and where it lowers
`PIL.Image.MAX_IMAGE_PIXELS`, larger photos in WebP, TIFF and GIF are refused as well.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeAlias, Union

import numpy as np
import numpy.typing as npt

from veilmatch.client.capture import formats
from veilmatch.client.capture.runtime import require_pillow
from veilmatch.client.capture.source import PhotoFile, file_bytes, is_file, photo_bytes, require_size
from veilmatch.client.given.arrays import plain_array
from veilmatch.crypto.digests import digest
from veilmatch.crypto.errors import ImageError, VeilmatchError

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

RgbArray: TypeAlias = npt.NDArray[np.uint8]
"""uint8[height, width, 3], 0..255, red first, row 0 at the top."""

ImageSource: TypeAlias = Union[str, "os.PathLike[str]", bytes, PhotoFile, "PillowImage", npt.NDArray[np.uint8]]
"""A file path or data URL, the bytes of an image file or a file object that is open for reading them, a Pillow image,
uint8[h, w, 3] (RGB) or uint8[h, w] (grey)."""

MAX_IMAGE_BYTES = 32 * 2**20
MAX_IMAGE_PIXELS = 64_000_000

#: What Pillow converts to RGB as a viewer does; with transparency, over white.
_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV"}
#: Bits that sensors use of 16; what needs no more is scaled by these.
_DEPTHS = (8, 10, 12, 14, 16)
#: A colour image of 16 bits keeps its upper eight. If all of them are below this, it has used 14 bits or fewer.
_NARROW = 1 << 6


def load_image(
    source: ImageSource, *, max_bytes: int = MAX_IMAGE_BYTES, max_pixels: int = MAX_IMAGE_PIXELS
) -> RgbArray:
    """Return the photo as uint8[height, width, 3], turned upright by its EXIF orientation.

    source: see ImageSource, `photo_bytes` and `file_bytes`; bytearray and memoryview count as bytes. Transparency is
    laid over white (what a viewer shows); palettes, CMYK, YCbCr and black-and-white are converted without colour
    profiles; of several frames the first is taken. Grey of more than eight bits is scaled by the bits that it uses (8,
    10, 12, 14 or 16, as sensors do), whatever the container has. An array is taken as it is, whatever its subclass and
    layout, and may be returned uncopied; a Pillow image as Pillow decodes it.
    Raises ImageError if the source is not an image, damaged, truncated, above max_bytes (files) or max_pixels, an array
    of another dtype or shape or with masked values, floating-point (nothing says what its white is), in a colour space
    that is not listed, a colour image of 16 bits that uses at most 14 of them, a Pillow image that is not loaded yet
    while Pillow is told to let damaged ones pass, or of a type not listed in ImageSource. MissingExtraError: a HEIC
    photo without the `heic` extra.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source, max_pixels)
    if isinstance(source, bytes | bytearray | memoryview):
        require_size(memoryview(source).nbytes, max_bytes)
        return _decode(bytes(source), max_pixels)
    if isinstance(source, str | os.PathLike):
        return _decode(photo_bytes(source, max_bytes), max_pixels)
    if is_file(source):
        return _decode(file_bytes(source, max_bytes), max_pixels)
    return _from_pillow(source, max_pixels)


def fetched(source: ImageSource) -> ImageSource:
    """Return the photo with its file, if it is one, read into memory: what was read once is what is used twice.

    Raises ImageError as `photo_bytes` and `file_bytes`.
    """
    if isinstance(source, str | os.PathLike):
        return photo_bytes(source, MAX_IMAGE_BYTES)
    return file_bytes(source, MAX_IMAGE_BYTES) if is_file(source) else source


def photo_digest(source: ImageSource) -> bytes:
    """Return 32 bytes that are the same for the same photo: the same bytes of a file, or else the same pixels.

    It tells whoever has the photo that this is it: for use under a key only. Raises ImageError as `load_image`.
    """
    source = fetched(source)
    if isinstance(source, bytes | bytearray | memoryview):
        return digest("photo file", bytes(source))
    pixels = load_image(source)
    return digest("photo pixels", pixels.shape[0], pixels.shape[1], pixels.tobytes())


def _from_array(given: npt.NDArray[np.uint8], max_pixels: int) -> RgbArray:
    array = plain_array(given, "an image", ImageError)
    expected = "uint8[height, width, 3] or uint8[height, width]"
    if array.dtype != np.uint8:
        raise ImageError("the array is not an 8-bit image", got=f"dtype {array.dtype.name}", expected=expected)
    grey = array.ndim == 2
    if array.size == 0 or not (grey or (array.ndim == 3 and array.shape[2] == 3)):
        raise ImageError("the array does not have the shape of an image", got=array.shape, expected=expected)
    _check_pixels(array.shape[1], array.shape[0], max_pixels)
    return np.ascontiguousarray(np.repeat(array[:, :, None], 3, axis=2) if grey else array)


def _decode(data: bytes, max_pixels: int) -> RgbArray:
    require_pillow()
    from PIL import Image

    try:
        image = formats.opened(data, lambda width, height: _check_pixels(width, height, max_pixels))
        with image:
            sixteen = any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))
            formats.decode(image)
            return _converted(image, narrow=sixteen)
    except VeilmatchError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError("the image has more pixels than Pillow is told to read", got=type(error).__name__) from error
    except Exception as error:
        raise _damaged(error) from error


def _from_pillow(image: object, max_pixels: int) -> RgbArray:
    require_pillow()
    from PIL import Image

    if not isinstance(image, Image.Image):
        got, hint = type(image).__name__, "Pass one of what is expected."
        if isinstance(image, list | tuple):
            got, hint = f"a {got} of {len(image)}", "Pass the photos one by one: enrol(subject, *photos)."
        expected = "a path, a data URL, the bytes of a file or a file object, a Pillow image or an array"
        raise ImageError("not an image", got=got, expected=expected, hint=hint)
    _check_pixels(image.width, image.height, max_pixels)
    if formats.takes_half_photos(image):
        raise ImageError(
            "Pillow is told to let damaged files pass, so nobody would know if this one is",
            got="ImageFile.LOAD_TRUNCATED_IMAGES",
            expected="the path or the bytes of the file",
        )
    try:
        image.load()
        return _converted(image, narrow=False)
    except VeilmatchError:
        raise
    except Exception as error:
        raise _damaged(error) from error


def _converted(image: PillowImage, *, narrow: bool) -> RgbArray:
    """Return the pixels of a loaded image. narrow: refuse a colour image that does not use its upper two bits."""
    from PIL import Image, ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _from_deep_grey(np.asarray(image))
    if image.mode not in _MODES:
        meaning = (
            "a floating-point image has no defined white" if image.mode == "F" else "a colour space that is not read"
        )
        raise ImageError(meaning, got=f"mode {image.mode}", expected="8 or 16 bits, grey or RGB")
    if narrow and max(high for _, high in _extrema(image)) < _NARROW:
        raise ImageError("a colour image of 16 bits that uses fewer", expected="all 16 bits, or 8 bits a colour")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return np.ascontiguousarray(np.asarray(image.convert("RGB")))


def _from_deep_grey(values: npt.NDArray[np.int_]) -> RgbArray:
    # Pillow's own conversion clips grey at 255, which turns a photo white.
    lowest, highest = int(values.min()), int(values.max())
    if lowest < 0 or highest > 0xFFFF:
        raise ImageError("grey values out of range", got="32-bit grey", expected="8 or 16 bits")
    depth = next(depth for depth in _DEPTHS if highest < 1 << depth)
    grey = (values >> (depth - 8)).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)


def _extrema(image: PillowImage) -> list[tuple[int, int]]:
    """Return (lowest, highest) of every band but that of transparency."""
    bands = image.split()
    named = zip(image.getbands(), bands, strict=True)
    return [band.getextrema() for name, band in named if name not in "Aa"]  # type: ignore[misc]


def _check_pixels(width: int, height: int, max_pixels: int) -> None:
    if width < 1 or height < 1:
        raise ImageError("the image has no pixels", got=f"{width}x{height}")
    if width * height > max_pixels:
        raise ImageError(
            "the image has too many pixels", got=f"{width}x{height}", expected=f"at most {max_pixels} pixels"
        )


def _damaged(error: Exception) -> ImageError:
    # Decoders fed with hostile bytes raise almost anything (OSError, SyntaxError, struct.error, ...).
    return ImageError("the image is damaged or truncated", got=type(error).__name__)
