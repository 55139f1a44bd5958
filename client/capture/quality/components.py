"""What the pixels of a face say: sharpness, light and its evenness, exposure and dynamic range.

Names and scale are those of ISO/IEC 29794-5:2025, and the mappings to 0..100 those of its reference implementation,
OFIQ (github.com/BSI-OFIQ/OFIQ-Project, MIT), as far as each function says. Two differences hold for all: OFIQ measures
in a crop of 616 pixels within the outline of 98 landmarks, without what covers the face; here it is the crop of 112
that the embedder sees, within an ellipse around the five landmarks. Luminance and exposure are those of skin: of two
people in the same light the one with darker skin has less of it. So they are shown, and refuse nobody by default.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from veilmatch.client.capture.alignment import ARCFACE_POINTS, CROP_SIZE, Points, similarity
from veilmatch.client.capture.image import RgbArray

Grey = npt.NDArray[np.float64]
"""float64[112, 112], 0..255."""
Mask = npt.NDArray[np.bool_]
"""bool[112, 112]."""

_DARK, _LIGHT = 25, 247  # of 255, of linear luminance: OFIQ's ranges, borders included
#: The ellipse of a face in the crop: from above the brows to the chin.
_CENTRE, _HALF_AXES = (56.0, 66.0), (36.0, 44.0)
_BLUR = 9  # pixels, as Crete et al. propose

_ROWS, _COLUMNS = np.mgrid[0:CROP_SIZE, 0:CROP_SIZE]
_ELLIPSE: Mask = ((_COLUMNS - _CENTRE[0]) / _HALF_AXES[0]) ** 2 + ((_ROWS - _CENTRE[1]) / _HALF_AXES[1]) ** 2 <= 1


@dataclass(frozen=True, eq=False, repr=False)
class AlignedFace:
    """A face as the embedder sees it. crop: uint8[112, 112, 3]; inside: what of it the photo shows, bool[112, 112]."""

    crop: RgbArray
    inside: Mask

    @staticmethod
    def of(crop: RgbArray, landmarks: Points, height: int, width: int) -> AlignedFace:
        """Return the crop that `alignment.align` made of landmarks in a photo of this size."""
        back = similarity(ARCFACE_POINTS, landmarks)
        x, y = (row[0] * _COLUMNS + row[1] * _ROWS + row[2] for row in back)
        return AlignedFace(crop, (x > -0.5) & (x < width - 0.5) & (y > -0.5) & (y < height - 0.5))

    @property
    def face(self) -> Mask:
        """The pixels of the face that the photo shows."""
        return self.inside & _ELLIPSE

    @property
    def grey(self) -> Grey:
        """Luma as a viewer shows it (ITU-R BT.601)."""
        return np.asarray(self.crop @ (0.299, 0.587, 0.114), np.float64)

    @property
    def luminance(self) -> Grey:
        """Linear luminance (ISO/IEC 29794-5; IEC 61966-2-1), whole numbers."""
        value = self.crop / 255
        linear = np.where(value > 0.04045, ((value + 0.055) / 1.055) ** 2.4, value / 12.92)
        return np.asarray(np.floor(linear @ (0.2126, 0.7152, 0.0722) * 255 + 0.5), np.float64)


def sigmoid(x: float, x0: float, w: float) -> float:
    """Return 1 / (1 + e^((x0 - x) / w)), as OFIQ maps values to scores."""
    return 1 / (1 + math.exp(min(700.0, (x0 - x) / w)))


def percent(share: float) -> int:
    """Return a share of 0..1 on the scale of the standard: a whole number of 0..100."""
    return round(100 * min(1.0, max(0.0, share)))


def blur(face: AlignedFace) -> float:
    """Return how blurred a face is, 0 (sharp) to 1: how little an additional blur changes.

    Crete, Dolmiere, Ladret, Nicolas, "The blur effect", SPIE 6492, 2007, on a face that a binomial filter of three
    pixels has freed of grain; the larger value of rows and columns. Contrast and light do not count. OFIQ has a forest
    of trees over such filters in its place, which is no part of the standard's text.
    """
    smooth = _binomial(_binomial(face.grey, 0), 1)
    shown = face.face
    return max(_blur_along(smooth, shown, axis) for axis in (0, 1))


def _blur_along(grey: Grey, shown: Mask, axis: int) -> float:
    change = np.abs(np.diff(grey, axis=axis))
    blurred = np.abs(np.diff(_box(grey, axis), axis=axis))
    within = np.minimum(*(np.take(shown, rows, axis) for rows in (range(CROP_SIZE - 1), range(1, CROP_SIZE))))
    total = float(change[within].sum())
    return 1 - float(np.maximum(0, change - blurred)[within].sum()) / total if total else 1.0


def _binomial(grey: Grey, axis: int) -> Grey:
    padded = np.pad(grey, [(1, 1) if a == axis else (0, 0) for a in (0, 1)], mode="edge")
    before, at, after = (np.take(padded, range(k, k + CROP_SIZE), axis) for k in range(3))
    return np.asarray((before + 2 * at + after) / 4)


def _box(grey: Grey, axis: int) -> Grey:
    half = _BLUR // 2
    padded = np.pad(grey, [(half + 1, half) if a == axis else (0, 0) for a in (0, 1)], mode="edge")
    sums = np.cumsum(padded, axis=axis)
    ends, starts = range(_BLUR, _BLUR + CROP_SIZE), range(CROP_SIZE)
    return np.asarray((np.take(sums, ends, axis) - np.take(sums, starts, axis)) / _BLUR)


def dark_share(face: AlignedFace) -> float:
    """Return the share of the face that is nearly black, 0..1 (under-exposure of ISO/IEC 29794-5)."""
    return float(np.mean(face.luminance[face.face] <= _DARK))


def light_share(face: AlignedFace) -> float:
    """Return the share of the face that is nearly white, 0..1 (over-exposure of ISO/IEC 29794-5)."""
    return float(np.mean(face.luminance[face.face] >= _LIGHT))


def mean_luminance(face: AlignedFace) -> float:
    """Return the mean luminance of the face, 0..1 (ISO/IEC 29794-5)."""
    return float(face.luminance[face.face].mean()) / 255


def entropy(face: AlignedFace) -> float:
    """Return the entropy of the face's luminances, 0..8 bits (dynamic range of ISO/IEC 29794-5)."""
    counts = np.bincount(face.luminance[face.face].astype(np.int64), minlength=256)
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares @ np.log2(shares)))


def evenness(face: AlignedFace) -> float:
    """Return how alike the light on both cheeks is, 0..1: what their histograms of luminance share.

    Squares of 0.3 distances between the eyes, half way between eyes and mouth, as in ISO/IEC 29794-5. Those are 10
    pixels wide here and not 70, too few for histograms of 256 steps: there are 32.
    """
    left_eye, right_eye, _, *mouth = ARCFACE_POINTS
    side = int(0.3 * (right_eye[0] - left_eye[0]))
    top = int((left_eye[1] + (mouth[0][1] + mouth[1][1]) / 2) / 2)
    luminance, inside = face.luminance, face.inside
    shares = []
    for start in (int(left_eye[0]) - side, int(right_eye[0])):
        area = np.s_[top : top + side, start : start + side]
        values = luminance[area][inside[area]]
        if not len(values):
            return 0.0
        shares.append(np.bincount(values.astype(np.int64) // 8, minlength=32) / len(values))
    return float(np.minimum(*shares).sum())


def shown_share(face: AlignedFace) -> float:
    """Return the share of the face's ellipse that lies within the photo, 0..1."""
    return float(np.mean(face.inside[_ELLIPSE]))
