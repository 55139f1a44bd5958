"""Photos in a report, for whoever asked for them: the worst comparisons, and what each degradation does to a face.

They are faces of people: small, in the page itself and nowhere else, and the page is for its owner alone.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from veilmatch.client.capture.detector import Detector
from veilmatch.client.capture.image import ImageSource, RgbArray, load_image
from veilmatch.client.capture.turn import upright
from veilmatch.client.evaluation.data.degrade import DEGRADATIONS, TURNS, Place
from veilmatch.client.evaluation.data.faces import FaceSet
from veilmatch.client.evaluation.study import Evaluation
from veilmatch.client.evaluation.sweep import SweepPoint
from veilmatch.crypto.packing.fields import Array

#: Of each kind of error, so many comparisons are shown.
WORST = 8
_SIDE = 112
_BORDER = 1.3  # of the face's box


@dataclass(frozen=True)
class Comparison:
    """Two photos that were compared, as data URLs, with who they show and their score as a cosine."""

    pictures: tuple[str, str]
    subjects: tuple[str, str]
    cosine: float


@dataclass(frozen=True)
class Worse:
    """One face made worse by one degradation: a picture and what comes of it, for each strength."""

    degradation: str
    steps: tuple[tuple[str, str, float], ...]
    """(data URL, strength with its unit, FRR in 0..1)"""


@dataclass(frozen=True, eq=False, repr=False)
class Pictures:
    """What a report shows of photos: impostors that match, or come nearest to it; genuine that do not, likewise."""

    false_matches: tuple[Comparison, ...]
    false_non_matches: tuple[Comparison, ...]
    worse: tuple[Worse, ...]


class Photos:
    """The photos of an evaluation, cut to the face."""

    def __init__(self, photos: Sequence[tuple[str, ImageSource]], faces: FaceSet, detector: Detector) -> None:
        self._photos, self._faces, self._detector = photos, faces, detector

    def pictures(self, evaluation: Evaluation, points: Sequence[SweepPoint], seed: int) -> Pictures:
        """Return the worst comparisons, and a face made worse if there are points of a sweep."""
        cosines, genuine = evaluation.cosines["integer"], evaluation.genuine
        order = np.argsort(cosines, kind="stable")
        impostors = self._worst(evaluation, order[::-1][~genuine[order[::-1]]])
        mated = self._worst(evaluation, order[genuine[order]])
        return Pictures(
            tuple(self._comparison(evaluation, pair) for pair in impostors),
            tuple(self._comparison(evaluation, pair) for pair in mated),
            self._worse(points, seed),
        )

    def _worst(self, evaluation: Evaluation, order: Array) -> list[int]:
        """Return the first WORST comparisons, each of other people: one pair of lookalikes is not all that there is."""
        labels, pairs = self._faces.labels, evaluation.pairs
        found: dict[tuple[int, int], int] = {}
        for pair in order:
            of = int(labels[pairs.first[pair]]), int(labels[pairs.second[pair]])
            found.setdefault(of, int(pair))
            if len(found) == WORST:
                break
        return list(found.values())

    def _comparison(self, evaluation: Evaluation, pair: int) -> Comparison:
        rows = int(evaluation.pairs.first[pair]), int(evaluation.pairs.second[pair])
        first, second = (_url(*self._face(row)) for row in rows)
        subjects = self._faces.subjects[rows[0]], self._faces.subjects[rows[1]]
        return Comparison((first, second), subjects, float(evaluation.cosines["integer"][pair]))

    def _face(self, row: int) -> tuple[RgbArray, Place]:
        view, face = upright(load_image(self._photos[self._faces.photos[row]][1]), self._detector)
        return view, Place.of(face)

    def _worse(self, points: Sequence[SweepPoint], seed: int) -> tuple[Worse, ...]:
        if not points:
            return ()
        kinds = {degradation.name: degradation for degradation in DEGRADATIONS + TURNS}
        view, place = self._face(0)
        number = self._faces.photos[0]
        return tuple(
            Worse(
                name,
                tuple(
                    (
                        _url(kinds[name](view, place, point.strength, (seed, number)), place),
                        f"{point.strength:g} {point.unit}",
                        point.frr,
                    )
                    for point in group
                ),
            )
            for name, group in groupby(points, key=lambda point: point.degradation)
        )


def _url(view: RgbArray, place: Place) -> str:
    from PIL import Image

    half = _BORDER * max(place.width, place.height) / 2
    box = (place.x - half, place.y - half, place.x + half, place.y + half)
    cut = (
        Image.fromarray(view)
        .crop((round(box[0]), round(box[1]), round(box[2]), round(box[3])))
        .resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)
    )
    written = io.BytesIO()
    cut.save(written, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(written.getvalue()).decode()
