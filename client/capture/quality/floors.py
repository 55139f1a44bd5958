"""Which scores are good enough: floors by component, in [capture.floors] of device.toml.

Enrolment refuses a face below one of them, because a bad template fails its subject every day. Floors that are not 0
have been measured (docs/quality.md): there more comparisons fail. The others are measured and shown, and refuse nobody
unless a floor is set.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Floor = Annotated[int, Field(ge=0, le=100)]


class QualityFloors(BaseModel):
    """The least score of each component, 0..100; 0 asks for nothing. Names: see `assessment.Component`.

    A component that is not measured, for want of a mesh or of known lengths of outputs, refuses nobody.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    unified_quality_score: Floor = 40
    detector_confidence: Floor = 85
    sharpness: Floor = 20
    illumination_uniformity: Floor = 0
    luminance_mean: Floor = 0
    under_exposure_prevention: Floor = 0
    over_exposure_prevention: Floor = 0
    dynamic_range: Floor = 0
    single_face_present: Floor = 0
    inter_eye_distance: Floor = 0
    head_pose_yaw: Floor = 0
    head_pose_pitch: Floor = 0
    head_pose_roll: Floor = 0
    crop_of_the_face_image: Floor = 80
    eyes_open: Floor = 0
    mouth_closed: Floor = 0
    face_presence: Floor = 40
