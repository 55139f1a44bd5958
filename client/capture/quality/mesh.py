"""The mesh: 468 points of a face, and how sure its network is that it sees one. An option, off by default.

What five landmarks cannot tell, eyes and mouth, these can, with the formulas of ISO/IEC 29794-5 (OFIQ takes 98 points).
The network is MediaPipe's face mesh (Kartynnik, Ablavatski, Grishchenko, Grundmann, "Real-time facial surface geometry
from monocular video on mobile GPUs", arXiv:1907.06724), which its authors publish under Apache-2.0. Its second output
was trained to tell crops with a face from others. It sinks far if a face is blurred, and less if it is covered: of the
worst photos it finds more than any other component does (docs/quality.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from veilmatch.client.capture.alignment import ARCFACE_POINTS, CROP_SIZE, Points, align
from veilmatch.client.capture.image import RgbArray
from veilmatch.client.capture.runtime import LiteRtModel

_SIZE = 192  # pixels, of its input
_POINTS = 468
#: The face fills two thirds of the crop, as the network's own detector has it. In the crop of the embedder the middle
#: of what lies between brows and chin is here.
_MIDDLE, _ENLARGED = (CROP_SIZE / 2, 64.0), 1.4
_TEMPLATE: Points = (ARCFACE_POINTS - np.array(_MIDDLE)) * _ENLARGED + _SIZE / 2

#: Points of MediaPipe's mesh. Left and right are those of the photo. Each pair lies across a lid or a lip.
_EYE_CORNERS = ((33, 133), (362, 263))
_LIDS = (((160, 144), (159, 145), (158, 153)), ((385, 380), (386, 374), (387, 373)))
_LIPS = ((82, 87), (13, 14), (312, 317))
_CHIN = 152


@dataclass(frozen=True, eq=False, repr=False)
class Mesh:
    """points: float64[468, 2], in pixels of a crop of 192. presence: a logit, 17 to 38 for the faces of ORL."""

    points: npt.NDArray[np.float64]
    presence: float

    @property
    def eyes_open(self) -> float:
        """The opening of the eye that is less open, by `_length`: 0.05 to 0.12, and about 0.04 if closed."""
        return min(self._opening(lids) for lids in _LIDS) / self._length

    @property
    def mouth_open(self) -> float:
        """The opening between the lips, by `_length`: about 0.01 if closed, 0.2 in a laugh."""
        return self._opening(_LIPS) / self._length

    @property
    def _length(self) -> float:
        """From half way between the eyes to the chin: the unit of the standard, T."""
        eyes = np.mean([self.points[list(corners)].mean(axis=0) for corners in _EYE_CORNERS], axis=0)
        return max(1e-6, float(np.hypot(*(self.points[_CHIN] - eyes))))

    def _opening(self, pairs: tuple[tuple[int, int], ...]) -> float:
        return max(float(np.hypot(*(self.points[a] - self.points[b]))) for a, b in pairs)


class FaceMesh:
    """The network on LiteRT; about 10 ms of one core a face. model: the file as published.

    Raises MissingExtraError without the `mesh` extra, ModelError if LiteRT refuses the model.
    """

    def __init__(self, model: bytes) -> None:
        self._model = LiteRtModel(model)

    @classmethod
    def installed(cls) -> Self:
        """Return it with the installed model. Raises ModelError, saying what to run, if that is missing or altered."""
        from veilmatch.client.models import MESH, MESH_FILE, cache

        return cls(cache.read_file(MESH, MESH_FILE))

    def of(self, image: RgbArray, landmarks: Points) -> Mesh:
        """Return the mesh of a face with these five landmarks, float64[5, 2], in an upright photo, uint8[h, w, 3]."""
        crop = align(image, landmarks, _TEMPLATE, _SIZE)
        outputs = self._model.run((crop[None] / 255).astype(np.float32))
        coordinates, presence = sorted((output.ravel().astype(np.float64) for output in outputs), key=len, reverse=True)
        return Mesh(coordinates.reshape(_POINTS, 3)[:, :2], float(presence[0]))
