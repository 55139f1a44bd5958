"""The turn of a photo: which way is up, found by looking at the face from every side.

A photo without an orientation tag may lie on its side or upside down, and a camera may hang askew. A detector finds
such faces too, and puts their landmarks where those of an upright face would be: the embedding then says nothing of
the person, and different people turned alike resemble each other. Neither the score of the detector nor the geometry
of the landmarks gives that away; a comparison does. A glance at the face, small in its surroundings, is surest when
it stands upright, less so from 30 degrees on, and mostly finds nothing in a face on its side.

A photo has one turn, that of its best face, and its faces are counted in it. Tilts that landmarks follow, as every
head has them, are left to the alignment.
"""

from __future__ import annotations

import math

import numpy as np

from veilmatch.client.capture.detector import GLANCE_PIXELS, Detector, Face
from veilmatch.client.capture.image import RgbArray
from veilmatch.crypto.errors import NoFaceError, SeveralFacesError, UnusableFaceError

# Measured on the test photos in 72 turns (docs/evaluation.md): good ones reach 0.85 upright, but not what the detector
# takes for faces in turned ones. Landmarks are those of the face where a glance is ahead by 0.03 of all 45 degrees off.
_CLEAR_SCORE = 0.85
_LEAST_LEAD = 0.03
_SIDES = range(45, 360, 45)
_FINER = (-30, -15, 15, 30)

_SURROUNDINGS = 2.5  # side of what a glance sees, in longer sides of the face's box
_WINDOW = 2 * math.ceil(GLANCE_PIXELS / math.sqrt(2))  # pixels; holds a glance in every turn


def upright(image: RgbArray, detector: Detector) -> tuple[RgbArray, Face]:
    """Return the photo turned upright, and the one face in it.

    image: uint8[h, w, 3]; if it is upright, the same array comes back. Quarter turns are undone exactly, others by
    resampling, with black corners. Raises NoFaceError; SeveralFacesError; UnusableFaceError if a face is there, but no
    turn shows it clearly upright.
    """
    view, faces = image, detector.detect(image)
    if not _stands(view, faces, detector, _CLEAR_SCORE):
        degrees = _best_turn(image, faces, detector)
        for turn in (90 * round(degrees / 90), degrees):  # a quarter turn loses nothing
            view = turned(image, turn)
            faces = detector.detect(view)
            if _stands(view, faces, detector):
                break
        else:
            raise UnusableFaceError(
                "it is not clear which way up the face is", got="no turn that is better than all others", expected="one"
            )
    if len(faces) > 1:
        raise SeveralFacesError(
            "there is more than one face in the photo; crop it to one", got=len(faces), expected="one face"
        )
    return view, faces[0]


def turned(image: RgbArray, degrees: int) -> RgbArray:
    """Return the photo turned counter-clockwise, large enough for all of it; the same array where nothing is to do."""
    from PIL import Image

    if degrees % 360 == 0:
        return image
    if degrees % 90 == 0:
        return np.ascontiguousarray(np.rot90(image, degrees // 90))
    return np.asarray(Image.fromarray(image).rotate(degrees, Image.Resampling.BICUBIC, expand=True))


def _stands(view: RgbArray, faces: list[Face], detector: Detector, least_score: float = 0.0) -> bool:
    """Whether the best of the faces seen in the photo stands upright in it, with at least this score of a glance."""
    return bool(faces) and _Surroundings(view, faces[0], detector).upright(least_score)


def _best_turn(image: RgbArray, faces: list[Face], detector: Detector) -> int:
    """Return by how many degrees to turn the photo so that a glance is sure, or surest. faces: seen in it as it is.

    Raises NoFaceError if no quarter turn shows a face.
    """
    found = []
    for quarter in range(0, 360, 90):
        view = turned(image, quarter)
        if seen := detector.detect(view) if quarter else faces:
            score, degrees = _Surroundings(view, seen[0], detector).best()
            found.append((score, quarter + degrees))
            if score >= _CLEAR_SCORE:
                break
    if not found:
        raise NoFaceError("there is no face in the photo", got=0, expected="one face")
    return max(found)[1]


class _Surroundings:
    """A face in its surroundings, glanced at in every turn; degrees: counter-clockwise."""

    def __init__(self, photo: RgbArray, face: Face, detector: Detector) -> None:
        from PIL import Image

        left, top, right, bottom = face.box
        x, y = round((left + right) / 2), round((top + bottom) / 2)
        half = max(1, round(max(right - left, bottom - top) * _SURROUNDINGS / math.sqrt(2)))
        square = Image.fromarray(photo).crop((x - half, y - half, x + half, y + half))
        self._window = square.resize((_WINDOW, _WINDOW), Image.Resampling.BILINEAR, reducing_gap=2.0)
        self._detector = detector
        self._scores: dict[int, float] = {}

    def upright(self, least_score: float) -> bool:
        """Whether the face stands upright, so that its landmarks can be believed."""
        if self._score(0) < least_score:
            return False
        return all(self._score(side) <= self._score(0) - _LEAST_LEAD for side in _SIDES)

    def best(self) -> tuple[float, int]:
        """Return the best score, and by how many degrees the photo is turned for it."""
        side = max((0, *_SIDES), key=self._score)
        degrees = max((side, *(side + more for more in _FINER)), key=self._score)
        return self._score(degrees), degrees

    def _score(self, degrees: int) -> float:
        if degrees not in self._scores:
            from PIL import Image

            edge = (_WINDOW - GLANCE_PIXELS) // 2
            view = self._window.rotate(degrees, Image.Resampling.BILINEAR)
            view = view.crop((edge, edge, edge + GLANCE_PIXELS, edge + GLANCE_PIXELS))
            self._scores[degrees] = self._detector.glance(np.asarray(view))
        return self._scores[degrees]
