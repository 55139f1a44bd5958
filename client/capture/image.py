"""A photo from anywhere becomes one thing: an upright RGB array of bytes.

Photos come from outside and decoders are where hostile ones do harm, so the size is checked before
anything is decoded, only plain raster formats are tried (no format that runs an interpreter, such as
EPS), and every failure of a decoder leaves as ImageError.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, Union

import numpy as np
import numpy.typing as npt

from veilmatch.client.capture.runtime import require_pillow
from veilmatch.crypto.errors import ImageError

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

RgbArray: TypeAlias = npt.NDArray[np.uint8]
"""uint8[height, width, 3], 0..255, red first, row 0 at the top."""

ImageSource: TypeAlias = Union[str, "os.PathLike[str]", bytes, "PillowImage", npt.NDArray[np.uint8]]
"""A file path, the bytes of an image file, a Pillow image, or uint8[h, w, 3] (RGB) or uint8[h, w] (grey)."""

MAX_IMAGE_BYTES = 32 * 2**20
MAX_IMAGE_PIXELS = 64_000_000

# JPEG includes the multi-picture files of phones; PPM is PGM and PBM too.
_FORMATS = ("JPEG", "PNG", "WEBP", "PPM", "BMP", "TIFF", "GIF")


def load_image(
    source: ImageSource, *, max_bytes: int = MAX_IMAGE_BYTES, max_pixels: int = MAX_IMAGE_PIXELS
) -> RgbArray:
    """Return the photo as uint8[height, width, 3], turned upright by its EXIF orientation.

    Transparency is laid over white (what a viewer shows), 16-bit grey keeps its upper eight bits, and
    of several frames the first is taken. An array is taken as it is and may be returned uncopied.

    Raises ImageError if the source is not an image, damaged, truncated, above max_bytes (files) or
    max_pixels, an array of another dtype or shape, or of a type not listed in ImageSource.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source, max_pixels)
    if isinstance(source, bytes):
        return _decode(source, max_bytes, max_pixels)
    if isinstance(source, str | os.PathLike):
        return _decode(_read_file(Path(source), max_bytes), max_bytes, max_pixels)
    return _from_pillow(source, max_pixels)


def _from_array(array: npt.NDArray[np.uint8], max_pixels: int) -> RgbArray:
    expected = "uint8[height, width, 3] or uint8[height, width]"
    if array.dtype != np.uint8:
        raise ImageError("the array is not an 8-bit image", got=f"dtype {array.dtype}", expected=expected)
    grey = array.ndim == 2
    if array.size == 0 or not (grey or (array.ndim == 3 and array.shape[2] == 3)):
        raise ImageError("the array does not have the shape of an image", got=array.shape, expected=expected)
    _check_pixels(array.shape[1], array.shape[0], max_pixels)
    return np.ascontiguousarray(np.repeat(array[:, :, None], 3, axis=2) if grey else array)


def _read_file(path: Path, max_bytes: int) -> bytes:
    try:
        if not path.is_file():
            raise ImageError("there is no such image file", got=path)
        with path.open("rb") as file:
            return file.read(max_bytes + 1)
    except (OSError, ValueError) as error:
        raise ImageError("the image file cannot be read", got=f"{path}: {type(error).__name__}") from error


def _decode(data: bytes, max_bytes: int, max_pixels: int) -> RgbArray:
    if not data:
        raise ImageError("the image is empty", got="0 bytes")
    if len(data) > max_bytes:
        raise ImageError("the image file is too large", expected=f"at most {max_bytes} bytes")
    require_pillow()
    from PIL import Image, UnidentifiedImageError

    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
    except UnidentifiedImageError as error:
        raise ImageError("not an image", expected="one of " + ", ".join(_FORMATS)) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError("the image has too many pixels", expected=f"at most {max_pixels}") from error
    except Exception as error:
        raise _damaged(error) from error
    with image:
        return _from_pillow(image, max_pixels)


def _from_pillow(image: PillowImage, max_pixels: int) -> RgbArray:
    require_pillow()
    from PIL import Image, ImageOps

    if not isinstance(image, Image.Image):
        raise ImageError("not an image", got=type(image).__name__, expected="path, bytes, Pillow image or array")
    _check_pixels(image.width, image.height, max_pixels)
    try:
        image.load()
        rgb = np.asarray(_to_rgb(ImageOps.exif_transpose(image)))
    except ImageError:
        raise
    except Exception as error:
        raise _damaged(error) from error
    return np.ascontiguousarray(rgb)


def _to_rgb(image: PillowImage) -> PillowImage:
    from PIL import Image

    if image.mode.startswith("I"):
        return _from_16_bit(image)
    if image.mode == "F":
        raise ImageError("a floating-point image has no defined white", got="mode F", expected="8 or 16 bits")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def _from_16_bit(image: PillowImage) -> PillowImage:
    # Pillow's own conversion clips 16-bit grey at 255, which turns a photo white.
    from PIL import Image

    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 0xFFFF:
        raise ImageError("grey values out of range", got="32-bit grey", expected="8 or 16 bits")
    return Image.fromarray((values >> 8).astype(np.uint8)).convert("RGB")


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
