"""The detector: where the faces of a photo are, and where each has its eyes, nose and mouth.

YuNet (Wu, Peng, Yu, "YuNet: A Tiny Millisecond-level Face Detector", Machine Intelligence Research
20, 2023) predicts, for every cell of three grids, two confidences, a box and five landmarks.
Decoding and non-maximum suppression follow OpenCV's FaceDetectorYN.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt

from veilmatch.client.capture.alignment import Points
from veilmatch.client.capture.image import RgbArray
from veilmatch.client.capture.runtime import FloatTensor, OnnxModel
from veilmatch.client.capture.settings import DetectorSettings

_STRIDES = (8, 16, 32)  # pixels a cell
_GLANCE_SCORE = 0.3  # a glance at a face that was found tells more the less it leaves out
_Rows = npt.NDArray[np.float64]  # float64[n, 15]: x1, y1, x2, y2, score, five landmarks


@dataclass(frozen=True, eq=False)
class Face:
    """One face, in pixels of the photo (centre of the top left pixel: 0, 0).

    box: (left, top, right, bottom), may reach beyond the photo. score: confidence in 0..1.
    landmarks: float64[5, 2], in the order of alignment.ARCFACE_POINTS.
    """

    box: tuple[float, float, float, float]
    score: float
    landmarks: Points


class Detector(Protocol):
    """Finds the faces in a photo."""

    def detect(self, image: RgbArray) -> list[Face]:
        """Return every face in uint8[h, w, 3], best score first; an empty list if there is none."""

    def glance(self, view: RgbArray) -> float:
        """Return how sure it is of an upright face in the middle of uint8[n, n, 3], 0..1; 0 where nothing is found.

        The view is taken as it is, not enlarged; n is 128 or 256, and a face in it is about 0.4 n large, in any turn.
        What counts is that no turn scores as high as upright (`turn.py`).
        """


class YuNetDetector:
    """YuNet on onnxruntime.

    model: the repaired ONNX file (`veilmatch.client.models`). min_score: 0..1. max_overlap: of two
    boxes with a larger intersection over union only the better stays. Raises ModelError if the model
    does not load.

    A photo is looked at with its longer side between 320 and 640 pixels, so that both thumbnails
    and large photos show faces of a size the network knows. If that finds nothing, it is looked at once more
    with a wide border: a face that fills the whole photo is only found with something around it.
    """

    def __init__(self, model: bytes, *, min_score: float = 0.6, max_overlap: float = 0.3, threads: int = 1) -> None:
        self._model = OnnxModel(model, threads=threads)
        self._min_score = min_score
        self._max_overlap = max_overlap

    @classmethod
    def installed(cls, settings: DetectorSettings | None = None) -> Self:
        """Return the detector with the installed model. Raises ModelError if that is missing or altered."""
        from veilmatch.client.models import YUNET, model_bytes

        model = model_bytes(YUNET)
        if settings is None:
            return cls(model)
        return cls(model, min_score=settings.min_score, max_overlap=settings.max_overlap)

    def detect(self, image: RgbArray) -> list[Face]:
        """See Detector.detect."""
        whole = self._detect_in(_View(image, border=0.0), self._min_score)
        return whole or self._detect_in(_View(image, border=0.5), self._min_score)

    def glance(self, view: RgbArray) -> float:
        """See Detector.glance."""
        middle, near = (len(view) - 1) / 2, len(view) / 4
        for face in self._detect_in(_View(view, border=0.0, smallest=0), _GLANCE_SCORE):
            left, top, right, bottom = face.box
            if max(abs((left + right) / 2 - middle), abs((top + bottom) / 2 - middle)) <= near:
                return face.score
        return 0.0

    def _detect_in(self, view: _View, min_score: float) -> list[Face]:
        rows = _decode(self._model.run(view.tensor()), view.grid_size(), min_score)
        return [view.face(row) for row in _suppress_overlaps(rows, self._max_overlap)]


class _View:
    """A photo as the network sees it: scaled, with a black border, and the way back to the photo's pixels.

    border: its width on each side, as a fraction of the photo's longer side.
    """

    SMALLEST = 320
    LARGEST = 640

    def __init__(self, photo: RgbArray, *, border: float, smallest: int = SMALLEST) -> None:
        from PIL import Image

        height, width = photo.shape[:2]
        longer = max(height, width) * (1 + 2 * border)
        scale = min(max(1.0, smallest / longer), self.LARGEST / longer)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        self._border = int(border * max(size))
        self._scale = np.array([size[0] / width, size[1] / height])
        self._content = np.asarray(Image.fromarray(photo).resize(size, Image.Resampling.BILINEAR, reducing_gap=3.0))

    def grid_size(self) -> tuple[int, int]:
        """Height and width in pixels, padded to what the coarsest grid divides."""
        step = _STRIDES[-1]
        height, width = (-(-(side + 2 * self._border) // step) * step for side in self._content.shape[:2])
        return height, width

    def tensor(self) -> FloatTensor:
        """float32[1, 3, height, width] of 0..255, blue first, as YuNet was trained."""
        tensor = np.zeros((1, 3, *self.grid_size()), np.float32)
        height, width = self._content.shape[:2]
        b = self._border
        tensor[0, :, b : b + height, b : b + width] = self._content[:, :, ::-1].transpose(2, 0, 1)
        return tensor

    def face(self, row: npt.NDArray[np.float64]) -> Face:
        """Return one decoded row as a face of the photo."""
        left, top, right, bottom = self._to_photo(row[:4].reshape(2, 2)).ravel()
        return Face(
            (float(left), float(top), float(right), float(bottom)),
            float(row[4]),
            self._to_photo(row[5:].reshape(5, 2)),
        )

    def _to_photo(self, points: Points) -> Points:
        return np.asarray((points - self._border + 0.5) / self._scale - 0.5, np.float64)


def _decode(outputs: Mapping[str, FloatTensor], size: tuple[int, int], min_score: float) -> _Rows:
    """Return the candidates above min_score in pixels of the view. size: height and width of the tensor."""
    found = []
    for stride in _STRIDES:
        cls, obj, bbox, kps = (
            outputs[f"{name}_{stride}"][0].astype(np.float64) for name in ("cls", "obj", "bbox", "kps")
        )
        score = np.sqrt(np.clip(cls[:, 0], 0, 1) * np.clip(obj[:, 0], 0, 1))
        sure = score >= min_score
        rows, columns = np.indices((size[0] // stride, size[1] // stride))
        cell = np.column_stack([columns.ravel(), rows.ravel()])[sure]
        centre = (bbox[sure, :2] + cell) * stride
        half = np.exp(bbox[sure, 2:]) * stride / 2
        landmarks = (kps[sure].reshape(-1, 5, 2) + cell[:, None]) * stride
        found.append(np.column_stack([centre - half, centre + half, score[sure], landmarks.reshape(-1, 10)]))
    return np.concatenate(found)


def _suppress_overlaps(rows: _Rows, max_overlap: float) -> _Rows:
    """Keep, best score first, every box that overlaps no better one by more than max_overlap."""
    rows = rows[np.argsort(-rows[:, 4], kind="stable")]
    kept: list[npt.NDArray[np.float64]] = []
    while len(rows):
        best, rows = rows[0], rows[1:]
        kept.append(best)
        rows = rows[_overlap(best, rows) <= max_overlap]
    return np.array(kept).reshape(-1, 15)


def _overlap(box: npt.NDArray[np.float64], others: _Rows) -> npt.NDArray[np.float64]:
    """Return the intersection of box with each of others, over their union."""
    top_left = np.maximum(box[:2], others[:, :2])
    bottom_right = np.minimum(box[2:4], others[:, 2:4])
    common = np.prod(np.clip(bottom_right - top_left, 0, None), axis=1)
    area = np.prod(box[2:4] - box[:2])
    areas = np.prod(others[:, 2:4] - others[:, :2], axis=1)
    return np.asarray(common / (area + areas - common), np.float64)
