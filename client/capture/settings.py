"""[capture] of device.toml: how photos become faces and embeddings, and which of them are good enough."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from veilmatch.client.capture.quality.floors import QualityFloors
from veilmatch.common.settings import Name

Sha256 = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
Point = tuple[float, float]
Triple = tuple[float, float, float]


class DetectorSettings(BaseModel):
    """min_score: the least confidence of a face, 0..1. max_overlap: of two boxes that share more only one is a face."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_score: float = Field(default=0.6, gt=0, lt=1)
    max_overlap: float = Field(default=0.3, gt=0, lt=1)


class EmbedderSettings(BaseModel):
    """A face model of one's own, in place of SFace; docs/models.md has the fields of well-known ones.

    name: with the first digits of sha256 the name of the model in galleries. file: the ONNX file; without it the one
    that `veilmatch models install --file` has put into the cache. dimension: of its output. size: side of the square
    crop that it takes, in pixels. channels, layout, mean, scale: see `embedder.Preprocessing`; one number holds for all
    three channels. template: where eyes, nose and corners of the mouth lie in the crop, "arcface" (scaled to `size`) or
    five points [x, y]. magnitude: [middle, width] of lengths, for a unified quality score (docs/quality.md).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[Name, StringConstraints(max_length=48)]
    sha256: Sha256
    file: Path | None = None
    dimension: int = Field(ge=2, le=4096)
    size: int = Field(default=112, ge=16, le=1024)
    channels: Literal["rgb", "bgr"] = "rgb"
    layout: Literal["nchw", "nhwc"] = "nchw"
    mean: Triple = (0.0, 0.0, 0.0)
    scale: Triple = (1.0, 1.0, 1.0)
    template: Literal["arcface"] | tuple[Point, Point, Point, Point, Point] = "arcface"
    magnitude: tuple[float, float] | None = None

    @field_validator("mean", "scale", mode="before")
    @classmethod
    def _for_all_channels(cls, value: object) -> object:
        return (value, value, value) if isinstance(value, int | float) else value

    @field_validator("scale")
    @classmethod
    def _not_zero(cls, value: Triple) -> Triple:
        if 0 in value:
            raise ValueError("must not be 0: pixels are divided by it")
        return value

    @field_validator("magnitude")
    @classmethod
    def _has_width(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and value[1] <= 0:
            raise ValueError("must have a width above 0")
        return value

    @property
    def model_id(self) -> str:
        """The name of the model and its exact weights, as galleries record it."""
        return f"{self.name}-{self.sha256[:8]}"


class CaptureSettings(BaseModel):
    """face: "only" refuses a photo with several faces, "largest" takes the largest. floors: see QualityFloors.

    mesh: look at eyes and mouth as well, and at how much of a face is to be seen (docs/quality.md); takes the extra of
    that name and `veilmatch models install --mesh`. detector: of YuNet. embedder: a model of one's own; without it
    SFace, as `veilmatch models install` has it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    face: Literal["only", "largest"] = "only"
    floors: QualityFloors = QualityFloors()
    mesh: bool = False
    detector: DetectorSettings = DetectorSettings()
    embedder: EmbedderSettings | None = None
