"""[liveness] of device.toml: which detector of presentation attacks decides, over which images, and before what."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from veilmatch.client.capture.settings import Sha256
from veilmatch.crypto.liveness import function_id

Kind = Literal["colour", "infrared", "depth"]
LiveOperation = Literal["verify", "candidates", "identify", "known", "enrol"]
Function = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]


class LivenessModelSettings(BaseModel):
    """An ONNX detector of presentation attacks.

    file: without it the one that `veilmatch models install --file` has put into the cache. size: of the square that it
    takes, in pixels; around: its side, in longer sides of the face's box. channels, layout: of the tensor; infrared and
    depth follow the colours, a channel each. A pixel becomes (pixel - mean) / scale. live: which of the outputs is that
    of a live face, from 0. activation: what makes a probability of the outputs.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    sha256: Sha256
    file: Path | None = None
    size: int = Field(ge=16, le=1024)
    around: float = Field(default=2.7, ge=1, le=8)
    channels: Literal["rgb", "bgr"] = "rgb"
    layout: Literal["nchw", "nhwc"] = "nchw"
    mean: float = 0.0
    scale: float = 255.0
    live: int = Field(default=1, ge=0)
    activation: Literal["softmax", "sigmoid", "none"] = "softmax"

    @field_validator("scale")
    @classmethod
    def _not_zero(cls, value: float) -> float:
        if value == 0:
            raise ValueError("must not be 0: pixels are divided by it")
        return value


class LivenessSettings(BaseModel):
    """threshold: the least score of a live face, in (0, 1]. images: what is needed of one moment, colour first.

    model, or function as "package.module:name": one of them. operations: before which a check is made.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    threshold: float = Field(gt=0, le=1)
    images: tuple[Kind, ...] = ("colour",)
    model: LivenessModelSettings | None = None
    function: Function | None = None
    operations: tuple[LiveOperation, ...] = Field(default=("verify", "candidates", "identify", "known"), min_length=1)

    @property
    def detector_id(self) -> bytes:
        """32 bytes that name the detector in requests and certificates: see crypto/liveness.py."""
        return bytes.fromhex(self.model.sha256) if self.model is not None else function_id(self.function or "")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.model is None) == (self.function is None):
            raise ValueError("must have either model or function")
        if self.images[:1] != ("colour",) or len(set(self.images)) != len(self.images):
            raise ValueError("images must be colour, and then infrared or depth or both")
        return self
