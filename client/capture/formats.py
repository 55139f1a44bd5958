"""Which decoder reads an image file: by what the file begins with, never by its name.

Decoders are where hostile files do harm, so only plain raster formats are tried, no format that runs an interpreter
(such as EPS). They are called one by one and not through Pillow's registry, so that neither a plug-in that another
library registered nor a limit that it set for the whole process decides what is read here.

Sources: Pillow's ImageFile.py (what its switch for truncated files does), ISO/IEC 14496-12 (the `ftyp` box).
"""

from __future__ import annotations

import io
from collections.abc import Callable
from importlib import import_module
from types import FunctionType
from typing import TYPE_CHECKING, Any

from veilmatch.crypto.errors import ImageError, MissingExtraError

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

#: What `format_of` needs of a file to know it.
HEAD_BYTES = 64

#: Format to module and class (or function) of Pillow. JPEG includes the multi-picture files of phones; PPM is PGM and
#: PBM too.
_PILLOW = {
    "JPEG": ("JpegImagePlugin", "jpeg_factory"),
    "PNG": ("PngImagePlugin", "PngImageFile"),
    "WEBP": ("WebPImagePlugin", "WebPImageFile"),
    "AVIF": ("AvifImagePlugin", "AvifImageFile"),
    "PPM": ("PpmImagePlugin", "PpmImageFile"),
    "BMP": ("BmpImagePlugin", "BmpImageFile"),
    "TIFF": ("TiffImagePlugin", "TiffImageFile"),
    "GIF": ("GifImagePlugin", "GifImageFile"),
}
FORMATS = (*_PILLOW, "HEIC")

_SIGNATURES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    *((b"P" + digit, "PPM") for digit in (b"1", b"2", b"3", b"4", b"5", b"6")),
)
#: What follows the letters of a PPM and white space: a number or a comment.
_PPM_NEXT = {*(b"%d" % digit for digit in range(10)), b"#"}
_AVIF_BRANDS = {b"avif", b"avis"}
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}


def format_of(head: bytes) -> str | None:
    """Return which of FORMATS a file is that begins with `head`, HEAD_BYTES of it or the whole; None if none."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp":
        end = min(int.from_bytes(head[:4], "big"), len(head))
        brands = {head[8:12], *(head[i : i + 4] for i in range(16, end - 3, 4))}
        return "AVIF" if brands & _AVIF_BRANDS else "HEIC" if brands & _HEIC_BRANDS else None
    found = next((name for signature, name in _SIGNATURES if head.startswith(signature)), None)
    # Two letters are too few to know by: texts begin with them.
    if found == "PPM" and not (head[2:3].isspace() and head[2:].lstrip()[:1] in _PPM_NEXT):
        return None
    return None if found == "BMP" and 0 not in head[2:14] else found


def opened(data: bytes, check_size: Callable[[int, int], None]) -> PillowImage:
    """Return the image in a file's bytes, its header read; `decode` reads its pixels.

    check_size: given width and height before any memory is taken for pixels; may raise. Raises ImageError if the file
    is in none of FORMATS, MissingExtraError for a HEIC photo without the library that reads them; and whatever else the
    decoder raises.
    """
    name = format_of(data[:HEAD_BYTES])
    if name is None:
        raise ImageError("not an image", got=_look_of(data), expected="one of " + ", ".join(FORMATS))
    if name == "HEIC":
        return _heic(data, check_size)
    module, factory = _PILLOW[name]
    try:
        make: Callable[[io.BytesIO], PillowImage] = getattr(import_module(f"PIL.{module}"), factory)
    except ImportError as error:
        raise ImageError("this Pillow cannot read the format", got=name, expected="Pillow 11.3 or newer") from error
    image = make(_File(data))
    check_size(*image.size)
    return image


def decode(image: PillowImage) -> None:
    """Decode the pixels of an image that `opened` returned. Raises what the decoder raises, also if some are missing.

    Pillow has a switch for the whole process that lets half a photo pass (`ImageFile.LOAD_TRUNCATED_IMAGES`), and other
    libraries set it. It is not looked at here: the loader runs with its own, and the file does not end silently.
    """
    file = getattr(image, "fp", None)
    if isinstance(file, _File):
        file.ends_silently = False
        _complete_loader(type(image))(image)
    else:
        image.load()


def takes_half_photos(image: PillowImage) -> bool:
    """Return whether Pillow would decode this image of a caller's with that switch on."""
    from PIL import ImageFile

    return isinstance(image, ImageFile.ImageFile) and bool(image.tile) and ImageFile.LOAD_TRUNCATED_IMAGES


class _File(io.BytesIO):
    """An image file in memory. Once its pixels are asked for, reading behind its end is an error."""

    ends_silently = True

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        if not data and not self.ends_silently and size is not None and size > 0:
            raise ImageError("the image is damaged or truncated", got="the end of the file")
        return data


def _complete_loader(kind: type[Any]) -> Callable[[PillowImage], object]:
    """Return the loader of a class of Pillow's, with that switch off for it alone.

    The loader that most formats share reads the switch as a global of its module. Formats with a loader of their own
    decode the whole file at once, and come to the shared one with pixels.
    """
    from PIL import ImageFile

    shared = ImageFile.ImageFile.load
    if kind.load is not shared:
        return kind.load  # type: ignore[no-any-return]
    its_globals = vars(ImageFile) | {"LOAD_TRUNCATED_IMAGES": False}
    return FunctionType(shared.__code__, its_globals, "load", shared.__defaults__, shared.__closure__)


def _heic(data: bytes, check_size: Callable[[int, int], None]) -> PillowImage:
    try:
        library = import_module("pi_heif")
    except ImportError:
        raise MissingExtraError(
            "reading a HEIC photo needs the `heic` extra", got="HEIC", expected="pip install 'veilmatch[heic]'"
        ) from None
    # Nothing is registered with Pillow. What comes out is upright: the orientation is taken out of the EXIF data.
    file = library.open_heif(data, convert_hdr_to_8bit=True)
    check_size(*file.size)
    return file.to_pillow()  # type: ignore[no-any-return]


def _look_of(data: bytes) -> str:
    """Say what bytes are that are no image, without quoting them."""
    head = data[:HEAD_BYTES].lstrip().lower()
    for start, name in (
        (b"%pdf", "a PDF"),
        (b"<svg", "SVG"),
        (b"<!doctype", "HTML"),
        (b"<html", "HTML"),
        (b"<?xml", "XML"),
    ):
        if head.startswith(start):
            return f"{name}, {len(data)} bytes"
    kind = "text" if head and all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head) else "of no known kind"
    return f"{len(data)} bytes, {kind}"
