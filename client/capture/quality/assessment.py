"""The quality of a face: every component's score, and reasons in words a person understands.

    quality = assess(photo, faces, face, magnitude, floors)
    if not quality:
        print(*quality.reasons, sep="\\n")      # "the face is blurred: hold the camera still, ..."

Names of components are those of ISO/IEC 29794-5:2025 in lower case. `detector_confidence` and `face_presence` are none
of the standard's; nor is `crop_of_the_face_image`, which stands for four crops of the standard, one for each side of
the photo. Eyes and mouth cannot be told from five landmarks: these components, and `face_presence`, are there
where a mesh is (`mesh.py`). Nothing here says what covers a face; one that is covered has a low unified score, and with
a mesh a low presence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

import numpy as np

from veilmatch.client.capture.alignment import align
from veilmatch.client.capture.detector import Face
from veilmatch.client.capture.image import RgbArray
from veilmatch.client.capture.quality import components as measure
from veilmatch.client.capture.quality.floors import QualityFloors
from veilmatch.client.capture.quality.mesh import FaceMesh, Mesh
from veilmatch.client.capture.quality.pose import head_pose

Component: TypeAlias = Literal[
    "unified_quality_score",
    "detector_confidence",
    "sharpness",
    "illumination_uniformity",
    "luminance_mean",
    "under_exposure_prevention",
    "over_exposure_prevention",
    "dynamic_range",
    "single_face_present",
    "inter_eye_distance",
    "head_pose_yaw",
    "head_pose_pitch",
    "head_pose_roll",
    "crop_of_the_face_image",
    "eyes_open",
    "mouth_closed",
    "face_presence",
]
COMPONENTS: tuple[Component, ...] = get_args(Component)

#: What is wrong with a face, and what to do about it. A text ends without a full stop.
WORDS: Mapping[Component, tuple[str, str]] = {
    "unified_quality_score": (
        "the face shows too little of the person",
        "take off or move away what covers it, and take a sharp photo of it from the front in even light",
    ),
    "detector_confidence": ("it is hardly a face", "show the whole face, uncovered and from the front"),
    "sharpness": ("the face is blurred, or too far away", "hold the camera still, wipe its lens and come closer"),
    "illumination_uniformity": ("one half of the face is in the shade", "turn towards the light, or put it in front"),
    "luminance_mean": ("the face is too dark or too bright", "change the light, or the exposure of the camera"),
    "under_exposure_prevention": ("parts of the face are black", "put a light in front of the face, not behind it"),
    "over_exposure_prevention": ("parts of the face are white", "turn away from the lamp or the sun, or dim it"),
    "dynamic_range": ("the face is almost one shade: too dark or too bright", "change the light, or the exposure"),
    "single_face_present": ("somebody else is in the photo", "let one person alone stand before the camera"),
    "inter_eye_distance": ("the face is small", "come closer, or use a camera with more pixels"),
    "head_pose_yaw": ("the head is turned to a side", "look straight into the camera"),
    "head_pose_pitch": ("the head looks up or down", "look straight into the camera, and hold it level with the eyes"),
    "head_pose_roll": ("the head is tilted", "hold head and camera upright"),
    "crop_of_the_face_image": ("a part of the face is outside the photo", "bring the whole face into the photo"),
    "eyes_open": ("the eyes are closed", "open both eyes, and push hair and glasses out of the way"),
    "mouth_closed": ("the mouth is open", "close the mouth"),
    "face_presence": (
        "too little of a face is to be seen",
        "take off or move away what covers it, and take a sharp photo of it from the front in even light",
    ),
}


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a face is not good enough: the component, its score and its floor (0..100)."""

    component: Component
    score: int
    floor: int

    @property
    def problem(self) -> str:
        """What is wrong, in words."""
        return WORDS[self.component][0]

    @property
    def advice(self) -> str:
        """What the person can do."""
        return WORDS[self.component][1]

    def __str__(self) -> str:
        return f"{self.problem}: {self.advice}"


@dataclass(frozen=True, slots=True)
class Quality:
    """How good the face in a photo is. True in a condition if it is good enough: no reasons.

    scores: 0..100 by component, the higher the better. values: what was measured, in the unit of the component (docs/
    quality.md). faces: how many are in the photo. box: where the face is, in pixels of the photo once it is upright:
    left, top, right, bottom. reasons: the components below their floor, the one that lacks most first.
    """

    scores: Mapping[Component, int]
    values: Mapping[Component, float] = field(repr=False)
    faces: int
    box: tuple[float, float, float, float] = field(repr=False)
    reasons: tuple[Reason, ...]

    def __bool__(self) -> bool:
        return not self.reasons

    @property
    def unified(self) -> int | None:
        """The unified quality score, or None where lengths of the model's outputs have not been measured."""
        return self.scores.get("unified_quality_score")


def assess(
    image: RgbArray,
    faces: Sequence[Face],
    floors: QualityFloors,
    unified: tuple[float, int] | None = None,
    mesh: FaceMesh | None = None,
) -> Quality:
    """Return the quality of the first of these faces in an upright photo, uint8[h, w, 3].

    unified: length of the embedder's output and the score for it, if there is one. mesh: for eyes, mouth and presence.
    Costs about as much as an alignment; a mesh some 10 ms more.
    """
    face = faces[0]
    aligned = measure.AlignedFace.of(align(image, face.landmarks), face.landmarks, *image.shape[:2])
    found: dict[Component, tuple[float, int]] = {} if unified is None else {"unified_quality_score": unified}
    found |= _of_the_photo(face, faces) | _of_the_pixels(aligned)
    if mesh is not None:
        found |= _of_the_mesh(mesh.of(image, face.landmarks))
    lacking = [
        (component, score, floor)
        for component, (_, score) in found.items()
        if score < (floor := getattr(floors, component))
    ]
    return Quality(
        scores={component: score for component, (_, score) in found.items()},
        values={component: value for component, (value, _) in found.items()},
        faces=len(faces),
        box=face.box,
        reasons=tuple(Reason(*reason) for reason in sorted(lacking, key=lambda r: r[1] - r[2])),
    )


def _of_the_photo(face: Face, faces: Sequence[Face]) -> dict[Component, tuple[float, int]]:
    """What the detector says: values and scores, by the formulas of OFIQ but for detector_confidence."""
    pose = head_pose(face.landmarks)
    # Of a face from the side the eyes seem closer: what is meant is how far apart they are in the face.
    between = float(np.hypot(*(face.landmarks[1] - face.landmarks[0]))) / max(0.1, math.cos(math.radians(pose.yaw)))
    others = max((_area(other) for other in faces[1:]), default=0.0) / max(1.0, _area(face))
    return {
        "detector_confidence": (face.score, measure.percent(face.score)),
        "single_face_present": (min(1.0, others), measure.percent(1 - others)),
        "inter_eye_distance": (between, measure.percent(measure.sigmoid(between, 70, 20))),
        "head_pose_yaw": (pose.yaw, _of_angle(pose.yaw)),
        "head_pose_pitch": (pose.pitch, _of_angle(pose.pitch)),
        "head_pose_roll": (pose.roll, _of_angle(pose.roll)),
    }


def _of_the_pixels(face: measure.AlignedFace) -> dict[Component, tuple[float, int]]:
    """What the aligned face says: values and scores, by the formulas of OFIQ but for sharpness and the crop."""
    shown = measure.shown_share(face)
    if not face.face.any():
        return {"crop_of_the_face_image": (0.0, 0)}
    blur, evenness, mean = measure.blur(face), measure.evenness(face), measure.mean_luminance(face)
    dark, light, entropy = measure.dark_share(face), measure.light_share(face), measure.entropy(face)
    lit = measure.sigmoid(mean, 0.2, 0.05) * (1 - measure.sigmoid(mean, 0.8, 0.05))
    return {
        "sharpness": (blur, measure.percent(measure.sigmoid(-blur, -0.75, 0.07))),
        "illumination_uniformity": (evenness, measure.percent(evenness**0.3)),
        "luminance_mean": (mean, measure.percent(lit)),
        "under_exposure_prevention": (dark, measure.percent(1.2 * (0.832 - measure.sigmoid(dark, 0.92, 0.05)))),
        "over_exposure_prevention": (light, measure.percent(0.01 / (light + 0.01))),
        "dynamic_range": (entropy, measure.percent(0.125 * entropy)),
        "crop_of_the_face_image": (shown, measure.percent(shown)),
    }


def _of_the_mesh(mesh: Mesh) -> dict[Component, tuple[float, int]]:
    """What the mesh says: values and scores, by the formulas of OFIQ but for face_presence.

    Lids of this mesh that are closed lie apart by 0.035 to 0.043, and by 0.05 and more where an eye is open; OFIQ's 98
    points have 0.02 for the middle.
    """
    return {
        "eyes_open": (mesh.eyes_open, measure.percent(measure.sigmoid(mesh.eyes_open, 0.046, 0.004))),
        "mouth_closed": (mesh.mouth_open, measure.percent(1 - measure.sigmoid(mesh.mouth_open, 0.2, 0.06))),
        "face_presence": (mesh.presence, measure.percent(measure.sigmoid(mesh.presence, 12, 3))),
    }


def _of_angle(degrees: float) -> int:
    return measure.percent(max(0.0, math.cos(math.radians(degrees))) ** 2)


def _area(face: Face) -> float:
    left, top, right, bottom = face.box
    return max(0.0, right - left) * max(0.0, bottom - top)
