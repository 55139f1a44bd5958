"""Where a face looks: yaw, pitch and roll from the detector's five landmarks.

The landmarks are the scaled orthographic projection of five points in space. The nearest such projection (DeMenthon,
Davis, "Model-based object pose in 25 lines of code", IJCV 15, 1995, its first step) is a linear least-squares problem,
whose two rows are then made orthonormal (Schoenemann's orthogonal Procrustes problem). The points are those of
alignment.ARCFACE_POINTS, a mean frontal face, with the tip of the nose in front of the plane of eyes and mouth by 0.41
distances between the eyes, as in the generic model of 3D faces that examples of pose estimation use, and 3 pixels
lower: YuNet puts it there in faces that look straight ahead, so that of the ORL photos half look up and half down.

OFIQ takes these angles from a network that fits a whole face (3DDFA V2). Five points tell less: the shape of a nose
counts as a turn, and on faces that look into the camera yaw scatters by a few degrees and pitch by more
(docs/quality.md).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from veilmatch.client.capture.alignment import ARCFACE_POINTS, Points

_NOSE = 2
_EYES = 35.2  # between the eyes of ARCFACE_POINTS
_DEPTH = 0.41 * _EYES

_MODEL = np.column_stack([ARCFACE_POINTS, np.zeros(len(ARCFACE_POINTS))])
_MODEL[_NOSE, 1] += 3.0
_MODEL[_NOSE, 2] = -_DEPTH  # towards the camera: z points away from it, as x and y to the right and downwards
_MODEL -= _MODEL.mean(axis=0)
_INVERSE = np.linalg.pinv(_MODEL)


class HeadPose(NamedTuple):
    """Degrees, each 0 for a face that looks straight into an upright camera.

    yaw: above 0 towards the right of the photo. pitch: above 0 upwards. roll: above 0 clockwise, as the photo shows it.
    """

    yaw: float
    pitch: float
    roll: float


def head_pose(landmarks: Points) -> HeadPose:
    """Return the pose of a face with these landmarks, float64[5, 2] in the order of ARCFACE_POINTS.

    Any scale; landmarks that all coincide have no pose, and it is 0 in every angle.
    """
    projection = (_INVERSE @ (landmarks - landmarks.mean(axis=0))).T
    left, sizes, right = np.linalg.svd(projection, full_matrices=False)
    if sizes[0] < 1e-9:
        return HeadPose(0.0, 0.0, 0.0)
    across, down = left @ right
    # Rows of the rotation from the face to the camera; the third is where the face's depth goes.
    forwards = np.cross(across, down)
    roll = math.atan2(down[0], across[0])
    # Where the nose points, once the roll is undone.
    right_of = -(math.cos(roll) * across[2] + math.sin(roll) * down[2])
    below = math.sin(roll) * across[2] - math.cos(roll) * down[2]
    yaw, pitch = math.atan2(right_of, forwards[2]), math.asin(min(1.0, max(-1.0, -below)))
    return HeadPose(math.degrees(yaw), math.degrees(pitch), math.degrees(roll))
