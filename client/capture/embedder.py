"""The embedder: an aligned face becomes a direction; two photos of one person give nearby ones.

SFace (Zhong et al., "SFace: Sigmoid-Constrained Hypersphere Loss for Robust Face Recognition", IEEE
TIP 2021) gives 128 dimensions and is the default; OnnxEmbedder runs any other model that takes an aligned
face. Similarity is the inner product of two unit vectors, that is their cosine.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, Protocol, Self, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from veilmatch.client.capture.alignment import ARCFACE_POINTS, CROP_SIZE, Points
from veilmatch.client.capture.image import RgbArray
from veilmatch.client.capture.quantiser import unit_vector
from veilmatch.client.capture.runtime import FloatTensor, OnnxModel
from veilmatch.crypto.errors import ImageError, ModelError

Embedding: TypeAlias = npt.NDArray[np.float64]
"""float64[dimension] of length 1. Biometric data: never logged, quoted in an error or sent in clear."""


class Embedder(Protocol):
    """Turns an aligned face into an embedding."""

    @property
    def dimension(self) -> int:
        """Number of coordinates of an embedding."""

    @property
    def model_id(self) -> str:
        """Names the model and its exact weights: embeddings with different ids cannot be compared."""

    def embed(self, crop: RgbArray) -> Embedding:
        """Return the embedding of uint8[112, 112, 3], as `alignment.align` gives it."""


@runtime_checkable
class OutputEmbedder(Embedder, Protocol):
    """An embedder that says how it wants the face, and gives its output as it is."""

    @property
    def preprocessing(self) -> Preprocessing:
        """What it takes."""

    def output(self, crop: RgbArray) -> Embedding:
        """Return float64[dimension] of any length but zero, whose direction is the embedding of the crop."""


@dataclass(frozen=True)
class Magnitudes:
    """What the length of a model's output says of a face: `middle` is a score of 50, `width` how fast it changes.

    A face that shows little gives a short one. MagFace (Meng et al., CVPR 2021) is trained for that, and ISO/IEC
    29794-5 takes its length for the unified quality score; models that are not show it as well (Kim, Jain, Liu,
    "AdaFace", CVPR 2022, section 3). Which lengths are good has to be measured for each model (docs/quality.md).
    """

    middle: float
    width: float

    def score(self, length: float) -> int:
        """Return the unified quality score of an output of this length, 0..100."""
        return round(100 / (1 + math.exp(min(700.0, (self.middle - length) / self.width))))


@dataclass(frozen=True, eq=False)
class Preprocessing:
    """What a model takes. size: side of the crop in pixels; points: where the five landmarks lie in it, float64[5, 2].

    channels: their order. layout: of the tensor. A pixel of 0..255 becomes (pixel - mean) / scale, by channel, in the
    order of `channels`. magnitudes: None where nobody has measured them.
    """

    size: int = CROP_SIZE
    points: Points = field(default_factory=ARCFACE_POINTS.copy)
    channels: Literal["rgb", "bgr"] = "rgb"
    layout: Literal["nchw", "nhwc"] = "nchw"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    scale: tuple[float, float, float] = (1.0, 1.0, 1.0)
    magnitudes: Magnitudes | None = None


#: What SFace takes: its own first two layers centre and scale. Lengths were measured on the test photos.
SFACE_INPUT = Preprocessing(magnitudes=Magnitudes(middle=10.0, width=1.0))


class OnnxEmbedder:
    """An embedding model on onnxruntime; an OutputEmbedder.

    model: the ONNX file. model_id: see Embedder; it has to name the weights in model. name: how errors call it. Raises
    ModelError if the model does not load. It has one output, float32[1, dimension], or several of which one is so.
    """

    def __init__(
        self,
        model: bytes,
        *,
        model_id: str,
        dimension: int,
        preprocessing: Preprocessing,
        name: str = "face model",
        threads: int = 1,
    ) -> None:
        self.model_id = model_id
        self.dimension = dimension
        self.preprocessing = preprocessing
        self._name = name
        self._model = OnnxModel(model, threads=threads)

    def embed(self, crop: RgbArray) -> Embedding:
        """See Embedder.embed. Raises ImageError for another shape or dtype, ModelError for a model of another kind."""
        return unit_vector(self.output(crop), self.dimension)

    def output(self, crop: RgbArray, way: Preprocessing | None = None) -> Embedding:
        """See OutputEmbedder.output. way: to give it the crop in, in place of its own. Errors: `embed`."""
        way = way or self.preprocessing
        size = way.size
        if crop.shape != (size, size, 3) or crop.dtype != np.uint8:
            raise ImageError(
                "the embedder takes an aligned crop",
                got=f"{crop.dtype}{list(crop.shape)}",
                expected=f"uint8[{size}, {size}, 3]",
            )
        outputs = list(self._model.run(tensor_of(crop, way)).values())
        shapes = [output.shape for output in outputs]
        fitting = [output for output in outputs if output.shape == (1, self.dimension)]
        if len(fitting) != 1:
            raise ModelError(
                f"not the {self._name}: it gives something else", got=shapes, expected=[(1, self.dimension)]
            )
        return np.asarray(fitting[0][0], np.float64)


def tensor_of(crop: RgbArray, preprocessing: Preprocessing) -> FloatTensor:
    """Return the tensor that a model takes for a crop: float32[1, 3, size, size], or [1, size, size, 3]."""
    ordered = crop if preprocessing.channels == "rgb" else crop[:, :, ::-1]
    mean, scale = (np.array(values, np.float32) for values in (preprocessing.mean, preprocessing.scale))
    values = (ordered.astype(np.float32) - mean) / scale
    return values[None] if preprocessing.layout == "nhwc" else values.transpose(2, 0, 1)[None]


class SFaceEmbedder(OnnxEmbedder):
    """SFace. model: the repaired ONNX file (`veilmatch.client.models`). The rest: see OnnxEmbedder."""

    dimension = 128

    def __init__(self, model: bytes, *, model_id: str, threads: int = 1) -> None:
        super().__init__(
            model,
            model_id=model_id,
            dimension=128,
            preprocessing=SFACE_INPUT,
            name="model SFace",
            threads=threads,
        )

    @classmethod
    def installed(cls) -> Self:
        """Return the embedder with the installed model. Raises ModelError if that is missing or altered."""
        from veilmatch.client.models import SFACE, model_bytes, model_id

        return cls(model_bytes(SFACE), model_id=model_id(SFACE))
