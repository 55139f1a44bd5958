"""Degradations of photos, seeded: what happens to a face between a good photo and a bad one.

Strengths are in units of the face (its width as the detector gives it), so that they mean the same in a portrait and in
a photo of a room. Every strength of a degradation makes the same random choices for the same photo: where it is worse,
it is only stronger. `hard` is one fixed mixture, for photos that a face fills.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from veilmatch.client.capture.detector import Face
from veilmatch.client.capture.image import RgbArray
from veilmatch.client.evaluation.libraries import require


@dataclass(frozen=True)
class Place:
    """Where the face is, in pixels: centre and size of its box."""

    x: float
    y: float
    width: float
    height: float

    @staticmethod
    def of(face: Face) -> Place:
        """Return the place of a detected face."""
        left, top, right, bottom = face.box
        return Place((left + right) / 2, (top + bottom) / 2, max(1.0, right - left), max(1.0, bottom - top))


Apply = Callable[[RgbArray, Place, float, np.random.Generator], RgbArray]


@dataclass(frozen=True)
class Degradation:
    """One way in which a photo gets worse. unit: of the strengths; strengths: from mild to strong."""

    name: str
    unit: str
    strengths: tuple[float, ...]
    apply: Apply

    def __call__(self, photo: RgbArray, place: Place, strength: float, seed: tuple[int, int]) -> RgbArray:
        """Return the degraded photo, uint8[h, w, 3]. seed: of the sweep, and number of the photo."""
        return self.apply(photo, place, strength, np.random.default_rng((zlib.crc32(self.name.encode()), *seed)))


def _rotate(photo: RgbArray, place: Place, degrees: float, rng: np.random.Generator) -> RgbArray:
    """Turn about the face, to a random side; black comes in from outside."""
    from PIL import Image

    angle = degrees * rng.choice((-1, 1))
    turned = Image.fromarray(photo).rotate(angle, Image.Resampling.BICUBIC, center=(place.x, place.y))
    return np.asarray(turned)


def _turn(photo: RgbArray, place: Place, degrees: float, rng: np.random.Generator) -> RgbArray:
    """Quarter turns counter-clockwise, as of a camera on its side or upside down: nothing but the turn is lost."""
    return np.ascontiguousarray(np.rot90(photo, round(degrees / 90)))


def _then_turned(apply: Apply, strength: float) -> Apply:
    """Return the quarter turns of a photo that is bad already."""

    def turned(photo: RgbArray, place: Place, degrees: float, rng: np.random.Generator) -> RgbArray:
        return _turn(apply(photo, place, strength, rng), place, degrees, rng)

    return turned


def _blur(photo: RgbArray, place: Place, percent: float, rng: np.random.Generator) -> RgbArray:
    """Gaussian, its standard deviation in percent of the face's width."""
    from PIL import Image, ImageFilter

    return np.asarray(Image.fromarray(photo).filter(ImageFilter.GaussianBlur(percent / 100 * place.width)))


def _shrink(photo: RgbArray, place: Place, pixels: float, rng: np.random.Generator) -> RgbArray:
    """Leave a face so many pixels wide, then enlarge to the size before."""
    scale = min(1.0, pixels / place.width)
    return _through(photo, scale)


def _deform(photo: RgbArray, place: Place, percent: float, rng: np.random.Generator) -> RgbArray:
    """Elastic: every point moves by a smooth random field (Simard, Steinkraus, Platt, ICDAR 2003).

    Its root mean square is in percent of the face's width, its correlation length 12 % of that width.
    """
    ndimage = require("scipy.ndimage")
    height, width = photo.shape[:2]
    field = ndimage.gaussian_filter(rng.standard_normal((2, height, width)), (0, *[0.12 * place.width] * 2))
    field *= percent / 100 * place.width / np.sqrt(np.mean(np.sum(field**2, axis=0)))
    grid = np.indices((height, width)) + field
    channels = [
        ndimage.map_coordinates(photo[..., c].astype(np.float64), grid, order=1, mode="nearest") for c in range(3)
    ]
    return _bytes(np.stack(channels, axis=-1))


def _expose(photo: RgbArray, place: Place, stops: float, rng: np.random.Generator) -> RgbArray:
    """Brightness: multiply by 2^stops and clip."""
    return _bytes(photo * 2.0**stops)


def _cover(photo: RgbArray, place: Place, percent: float, rng: np.random.Generator) -> RgbArray:
    """Occlusion: a grey box of the face's proportions over so much of its area, at a random place within it."""
    side = np.sqrt(percent / 100)
    shift = (rng.random(2) - 0.5) * (1 - side)
    x, y = place.x + shift[0] * place.width, place.y + shift[1] * place.height
    half = side * place.width / 2, side * place.height / 2
    covered = photo.copy()
    rows = slice(max(0, round(y - half[1])), max(0, round(y + half[1])))
    columns = slice(max(0, round(x - half[0])), max(0, round(x + half[0])))
    covered[rows, columns] = 128
    return covered


def _compress(photo: RgbArray, place: Place, quality: float, rng: np.random.Generator) -> RgbArray:
    """JPEG of this quality, 1..95."""
    return _jpeg(photo, round(quality))


DEGRADATIONS = (
    Degradation("rotation", "degrees", (10, 20, 30, 45), _rotate),
    Degradation("blur", "% of face width", (1, 2, 3, 5), _blur),
    Degradation("low resolution", "pixels across the face", (32, 24, 16, 12), _shrink),
    Degradation("elastic deformation", "% of face width", (1, 2, 4, 6), _deform),
    Degradation("darker", "stops", (-1, -2, -3, -4), _expose),
    Degradation("brighter", "stops", (0.5, 1, 1.5, 2), _expose),
    Degradation("occlusion", "% of face area", (5, 10, 20, 30), _cover),
    Degradation("JPEG", "quality", (40, 20, 10, 5), _compress),
)

_QUARTERS = (90, 180, 270)

#: Turns have no order of strength.
TURNS = (
    Degradation("turn", "degrees", _QUARTERS, _turn),
    Degradation("blur of 3 %, turn", "degrees", _QUARTERS, _then_turned(_blur, 3)),
    Degradation("24 pixels, turn", "degrees", _QUARTERS, _then_turned(_shrink, 24)),
    Degradation("darker by 3 stops, turn", "degrees", _QUARTERS, _then_turned(_expose, -3)),
)

HARD_WIDTH, HARD_GRAIN, HARD_QUALITY = 24, 10.0, 15


def hard(photo: RgbArray, seed: tuple[int, int]) -> RgbArray:
    """Return a bad photo of the same size, for faces that fill the photo. seed: of the set, and number of the photo.

    The photo has the detail of 24 pixels across, grain of standard deviation 10 (of 255) and is a JPEG of quality 15.
    """
    rng = np.random.default_rng((zlib.crc32(b"hard"), *seed))
    coarse = _through(photo, HARD_WIDTH / photo.shape[1])
    grain = rng.normal(0, HARD_GRAIN, (*photo.shape[:2], 1))
    return _jpeg(_bytes(coarse + grain), HARD_QUALITY)


def _through(photo: RgbArray, scale: float) -> RgbArray:
    """Shrink by averaging, and enlarge again smoothly."""
    from PIL import Image

    height, width = photo.shape[:2]
    small = max(1, round(width * scale)), max(1, round(height * scale))
    shrunk = Image.fromarray(photo).resize(small, Image.Resampling.BOX)
    return np.asarray(shrunk.resize((width, height), Image.Resampling.BICUBIC))


def _jpeg(photo: RgbArray, quality: int) -> RgbArray:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(photo).save(buffer, "JPEG", quality=quality)
    with Image.open(buffer) as image:
        return np.asarray(image.convert("RGB"))


def _bytes(values: npt.NDArray[np.float64]) -> RgbArray:
    return np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)
