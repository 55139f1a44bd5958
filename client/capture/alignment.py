"""Alignment: a face is turned, scaled and moved until its landmarks lie where the embedder learnt them.

The five target points are those of ArcFace (Deng et al., CVPR 2019) for a 112x112 crop. Pixel (x, y)
means the centre of a pixel, the top left one being (0, 0): the convention of OpenCV, under which the
embedding models were trained. Outside the photo the crop is black, as there.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from veilmatch.client.capture.image import RgbArray
from veilmatch.crypto.errors import InvalidInputError

Points: TypeAlias = npt.NDArray[np.float64]
"""float64[n, 2]: x to the right, y downwards, in pixels."""

CROP_SIZE = 112

ARCFACE_POINTS: Points = np.array(
    [
        [38.2946, 51.6963],  # the eye on the left of the photo
        [73.5318, 51.5014],  # the eye on the right
        [56.0252, 71.7366],  # nose
        [41.5493, 92.3655],  # the corner of the mouth on the left
        [70.7299, 92.2041],  # the corner on the right
    ]
)


def similarity(source: Points, target: Points) -> npt.NDArray[np.float64]:
    """Return the similarity nearest to source -> target as 2x3 matrix: target ~ M[:, :2] @ source + M[:, 2].

    source, target: float64[n, 2], n >= 2. The least-squares rotation, scale and shift without
    reflection (Umeyama, IEEE PAMI 13(4), 1991); in the plane it is one complex division.
    Raises InvalidInputError if the shapes differ, a value is not finite, or all points of either set
    coincide (or are each other's mirror image, so that no direction is better than another).
    """
    if source.shape != target.shape or source.ndim != 2 or source.shape[1:] != (2,) or len(source) < 2:
        raise InvalidInputError(
            "landmarks are pairs of coordinates",
            got=f"{source.shape} and {target.shape}",
            expected="(n, 2) twice",
        )
    if not (np.isfinite(source).all() and np.isfinite(target).all()):
        raise InvalidInputError("landmarks are finite numbers")
    s, t = source @ (1, 1j), target @ (1, 1j)
    s_centre, t_centre = s.mean(), t.mean()
    spread = np.vdot(s - s_centre, s - s_centre).real
    turn = np.vdot(s - s_centre, t - t_centre) / spread if spread > 0 else 0.0
    if abs(turn) < 1e-9:
        raise InvalidInputError("the landmarks fix no rotation and scale")
    shift = t_centre - turn * s_centre
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])


def align(image: RgbArray, landmarks: Points, target: Points = ARCFACE_POINTS, size: int = CROP_SIZE) -> RgbArray:
    """Return the face as uint8[size, size, 3], its landmarks as near to target as possible.

    image: uint8[h, w, 3]; landmarks: float64[5, 2] in the pixels of image, in the order of
    ARCFACE_POINTS; they may lie outside it. target: float64[5, 2], in the pixels of the crop.
    Bilinear. Raises InvalidInputError as `similarity` does.
    """
    from PIL import Image

    photo = Image.fromarray(image)
    matrix = similarity(landmarks, target)
    # Bilinear sampling looks at four pixels: a face much larger than the crop is first averaged down.
    shrink = int(1 / np.hypot(*matrix[:, 0]) + 1e-9)
    if shrink >= 2:
        photo = photo.reduce(shrink)
        matrix = similarity((landmarks + 0.5) / shrink - 0.5, target)
    crop = photo.transform(
        (size, size),
        Image.Transform.AFFINE,
        _pillow_coefficients(matrix),
        resample=Image.Resampling.BILINEAR,
    )
    return np.asarray(crop)


def _pillow_coefficients(matrix: npt.NDArray[np.float64]) -> tuple[float, ...]:
    # Pillow maps crop to photo, and counts from the corner of a pixel instead of its centre.
    inverse = np.linalg.inv(matrix[:, :2])
    shift = -inverse @ matrix[:, 2] + 0.5 - inverse @ (0.5, 0.5)
    return tuple(float(v) for v in np.column_stack([inverse, shift]).ravel())
