"""The turn of a photo: which way is up, found by looking at the face from every side.

A photo without an orientation tag may lie on its side or upside down, and a camera may hang askew. A detector finds
such faces too, and puts their landmarks where those of an upright face would be: the embedding then says nothing of
the person, and different people turned alike resemble each other. Neither the score of the detector nor the geometry
of the landmarks gives that away; a comparison does.

Two looks compare. A glance sees the face small in its surroundings: it is surest when the face stands upright, less so
from 30 degrees on, and mostly finds nothing in a face on its side. Where a glance is sure, nothing more is asked. In a
bad or covered face it often finds nothing at all. A close look finds that as well: upright best, but in other turns
too. So where no glance is sure close looks decide, at whatever was found in any quarter turn: the best turn is taken if
no other competes, and one that is no quarter turn only where a glance at the result agrees.

A photo has one turn, that of its best face or of its largest, and its faces are counted in it. Tilts that landmarks
follow, as every head has them, are left to the alignment.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from veilmatch.client.capture.detector import Detector, Face
from veilmatch.client.capture.image import RgbArray
from veilmatch.crypto.errors import NoFaceError, SeveralFacesError, UnusableFaceError


class _Scale(NamedTuple):
    """How large a face is looked at, and what its turn needs then: measured on the test photos (docs/evaluation.md).

    pixels: side of what is seen. least_score: glances at good photos reach 0.85 upright, but not at what the detector
    takes for faces in turned ones. lead: of a quarter turn over those by 45 degrees more or less; close looks differ
    little between these, so they only have to be no better.
    """

    pixels: int
    least_score: float
    lead: float


_GLANCE = _Scale(128, 0.85, 0.03)
_CLOSE = _Scale(256, 0.0, 0.0)
_LEAST_LEAD = 0.03  # over turns further off
_SIDES = range(0, 360, 45)
_FINER = (-30, -15, 15, 30)

_SURROUNDINGS = 2.5  # side of what is seen, in longer sides of the face's box


def upright(image: RgbArray, detector: Detector) -> tuple[RgbArray, Face]:
    """Return the photo turned upright, and the one face in it.

    image: uint8[h, w, 3]; if it is upright, the same array comes back. Quarter turns are undone exactly, others by
    resampling, with black corners. Raises NoFaceError; SeveralFacesError; UnusableFaceError if a face is there, but no
    turn shows it better than all others.
    """
    view, faces = upright_faces(image, detector, lambda face: face.score)
    if len(faces) > 1:
        raise SeveralFacesError(
            "there is more than one face in the photo; crop it to one", got=len(faces), expected="one face"
        )
    return view, faces[0]


def upright_faces(image: RgbArray, detector: Detector, rank: Callable[[Face], float]) -> tuple[RgbArray, list[Face]]:
    """Return the photo turned so that the first of its faces is upright, and all faces in it: at least one.

    rank: the highest comes first. Errors: see `upright`, but for several faces.
    """

    def detected(view: RgbArray) -> list[Face]:
        return sorted(detector.detect(view), key=rank, reverse=True)

    quarters = {}
    for degrees in range(0, 360, 90):
        view = turned(image, degrees)
        if faces := detected(view):
            if _Looks(view, faces[0], detector, _GLANCE).stands(_GLANCE.least_score):
                break
            quarters[degrees] = view, faces
    else:
        view, faces = _compared(image, quarters, detector, detected)
    return view, faces


def turned(image: RgbArray, degrees: int) -> RgbArray:
    """Return the photo turned counter-clockwise, large enough for all of it; the same array where nothing is to do."""
    from PIL import Image

    if degrees % 360 == 0:
        return image
    if degrees % 90 == 0:
        return np.ascontiguousarray(np.rot90(image, degrees // 90))
    return np.asarray(Image.fromarray(image).rotate(degrees, Image.Resampling.BICUBIC, expand=True))


def _compared(
    image: RgbArray,
    quarters: Mapping[int, tuple[RgbArray, list[Face]]],
    detector: Detector,
    detected: Callable[[RgbArray], list[Face]],
) -> tuple[RgbArray, list[Face]]:
    """Return the photo in the turn that looks at the faces in all quarter turns show best, and the faces in it.

    quarters: by degrees, the quarter turns in which faces were found, and those. Raises NoFaceError if there are none,
    UnusableFaceError if turns compete.
    """
    if not quarters:
        raise NoFaceError("there is no face in the photo", got=0, expected="one face")
    for scale in (_GLANCE, _CLOSE):
        looks = {degrees: _Looks(view, faces[0], detector, scale) for degrees, (view, faces) in quarters.items()}
        best = _best_turn(looks, scale)
        if best is None:
            continue
        if best in quarters:
            return quarters[best]
        view = turned(image, best)
        faces = detected(view)
        if faces and _Looks(view, faces[0], detector, _GLANCE).stands():
            return view, faces
    raise UnusableFaceError(
        "it is not clear which way up the face is", got="no turn that is better than all others", expected="one"
    )


def _best_turn(looks: Mapping[int, _Looks], scale: _Scale) -> int | None:
    """Return by how many degrees, 0..359, to turn the photo; None if turns compete, or none has the least score.

    looks: at the faces found in quarter turns, by the degrees of these.
    """

    def score(degrees: int) -> float:
        return max(look.score(degrees - quarter) for quarter, look in looks.items())

    best = max(_SIDES, key=score)
    if score(best) < max(scale.least_score, _LEAST_LEAD + max(score(best + off) for off in range(90, 271, 45))):
        return None
    if best % 90 == 0 and score(best) >= scale.lead + max(score(best - 45), score(best + 45)):
        return best
    return max((best, *(best + more for more in _FINER)), key=score) % 360


class _Looks:
    """A face in its surroundings, looked at in every turn, counter-clockwise."""

    def __init__(self, photo: RgbArray, face: Face, detector: Detector, scale: _Scale) -> None:
        from PIL import Image

        left, top, right, bottom = face.box
        x, y = round((left + right) / 2), round((top + bottom) / 2)
        half = max(1, round(max(right - left, bottom - top) * _SURROUNDINGS / math.sqrt(2)))
        square = Image.fromarray(photo).crop((x - half, y - half, x + half, y + half))
        side = 2 * math.ceil(scale.pixels / math.sqrt(2))  # holds what is seen in every turn
        self._window = square.resize((side, side), Image.Resampling.BILINEAR, reducing_gap=2.0)
        self._edge = (side - scale.pixels) // 2
        self._detector = detector
        self._scores: dict[int, float] = {}

    def stands(self, least_score: float = 0.0) -> bool:
        """Whether the face stands upright, with at least this score."""
        rivals = [self.score(side) for side in _SIDES if side]
        return self.score(0) >= max(least_score, max(rivals) + _LEAST_LEAD)

    def score(self, degrees: int) -> float:
        """Return how sure the detector is of the face when it is turned by so much, 0..1."""
        degrees %= 360
        if degrees not in self._scores:
            from PIL import Image

            view = self._window.rotate(degrees, Image.Resampling.BILINEAR)
            low, high = self._edge, view.width - self._edge
            self._scores[degrees] = self._detector.glance(np.asarray(view.crop((low, low, high, high))))
        return self._scores[degrees]
