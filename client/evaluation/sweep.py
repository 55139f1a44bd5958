"""The sweep: every photo made worse, step by step, and compared with the good photos of the set.

A degraded photo is the probe, the others as they are the templates: all ordered comparisons of different photos. The
threshold is the operating one and stays. FNMR and FMR are of the degraded photos that were still acquired, FTA counts
the others. Only photos that were acquired as they are take part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from veilmatch.client.capture.detector import Detector
from veilmatch.client.capture.embedder import Embedder, Embedding
from veilmatch.client.capture.image import ImageSource, load_image
from veilmatch.client.capture.pipeline import CapturePipeline
from veilmatch.client.capture.quality.assessment import Quality
from veilmatch.client.capture.settings import CaptureSettings
from veilmatch.client.capture.turn import upright
from veilmatch.client.evaluation.data.degrade import DEGRADATIONS, TURNS, Degradation, Place
from veilmatch.client.evaluation.data.faces import FaceSet, Progress, from_photos
from veilmatch.client.evaluation.data.pairs import Flags
from veilmatch.client.evaluation.figures.discard import Discard, Genuine, error_versus_discard
from veilmatch.client.evaluation.figures.intervals import interval, resamples
from veilmatch.client.evaluation.study import Rate
from veilmatch.crypto.errors import InvalidInputError
from veilmatch.crypto.packing.fields import Array
from veilmatch.crypto.parameters import ParameterSet


@dataclass(frozen=True)
class SweepPoint:
    """One degradation at one strength. loss: its FNMR above that of the same comparisons without degradation.

    fnmr and loss are None if no photo was acquired. frr: failures to acquire and false non-matches together, FTA +
    FNMR * (1 - FTA): what a user meets with (ISO/IEC 19795-1: false reject rate, one attempt). refused: photos
    below the floors of [capture.floors], of those that were acquired; None where quality was not measured.
    """

    degradation: str
    unit: str
    strength: float
    fta: float
    fnmr: Rate | None
    fmr: float | None
    loss: float | None
    frr: float
    refused: float | None = None


@dataclass(frozen=True)
class Sweep:
    """points: of every degradation and strength. discard: the EDC of all of them together."""

    points: tuple[SweepPoint, ...] = ()
    discard: Discard | None = None


@dataclass(frozen=True)
class SweepSettings:
    """t: the operating threshold; seed, replicates: of the degradations and of the bootstrap; capture: [capture]."""

    parameters: ParameterSet
    t: int
    seed: int = 1
    replicates: int = 1000
    capture: CaptureSettings = field(default_factory=CaptureSettings)


def sweep(
    photos: Sequence[tuple[str, ImageSource]],
    faces: FaceSet,
    detector: Detector,
    embedder: Embedder,
    settings: SweepSettings,
    progress: Progress = lambda stage, done, total: None,
) -> Sweep:
    """Return what every degradation does, at every strength.

    photos: all (subject, photo) pairs that faces was made of.
    """
    pipeline = CapturePipeline(detector, embedder, settings.capture)
    used = [photos[number] for number in faces.photos]
    steps = [(degradation, strength) for degradation in DEGRADATIONS + TURNS for strength in degradation.strengths]
    points, parts = [], []
    for done, (degradation, strength) in enumerate(steps):
        progress("degradations", done, len(steps))

        def embed(
            number: int, photo: ImageSource, d: Degradation = degradation, by: float = strength
        ) -> tuple[Embedding, Quality]:
            view, face = upright(load_image(photo), detector)
            seen = pipeline.capture(d(view, Place.of(face), by, (settings.seed, number)))
            return seen.embedding, seen.quality

        try:
            worse: FaceSet | None = from_photos(used, embed, faces.model, settings.parameters)
        except InvalidInputError:
            worse = None
        points.append(_point(degradation, strength, faces, worse, settings))
        # Turned photos are those before once more.
        if worse is not None and worse.qualities and faces.qualities and degradation in DEGRADATIONS:
            parts.append(_genuine(faces, worse, settings.t))
    progress("degradations", len(steps), len(steps))
    return Sweep(tuple(points), error_versus_discard(parts))


def _point(
    degradation: Degradation, strength: float, faces: FaceSet, worse: FaceSet | None, settings: SweepSettings
) -> SweepPoint:
    name, unit = degradation.name, degradation.unit
    if worse is None:
        return SweepPoint(name, unit, strength, 1.0, None, None, None, 1.0)
    rows = np.array(worse.photos)
    labels = faces.labels
    same = labels[rows][:, None] == labels[None, :]
    others = rows[:, None] != np.arange(len(labels))
    matches = worse.integers @ faces.integers.T >= settings.t
    before = faces.integers[rows] @ faces.integers.T >= settings.t
    genuine, impostor = same & others, ~same
    fta = worse.fta
    if not genuine.any():
        return SweepPoint(name, unit, strength, fta, None, None, None, 1.0)
    fnmr = _fnmr(~matches, genuine, labels[rows], settings)
    return SweepPoint(
        degradation=name,
        unit=unit,
        strength=strength,
        fta=fta,
        fnmr=fnmr,
        fmr=float(np.mean(matches[impostor])),
        loss=fnmr.rate - float(np.mean(~before[genuine])),
        frr=fta + fnmr.rate * (1 - fta),
        refused=float(np.mean([not quality for quality in worse.qualities])) if worse.qualities else None,
    )


def _genuine(faces: FaceSet, worse: FaceSet, t: int) -> Genuine:
    """Return the genuine comparisons of degraded photos with the good ones."""
    rows, labels = np.array(worse.photos), faces.labels
    probe, template = np.nonzero((labels[rows][:, None] == labels[None, :]) & (rows[:, None] != np.arange(len(labels))))
    scores = np.einsum("nd,nd->n", worse.integers[probe], faces.integers[template])
    return Genuine(probe, template, scores < t, worse.qualities, faces.qualities)


def _fnmr(errors: Flags, genuine: Flags, labels: Array, settings: SweepSettings) -> Rate:
    """Return the FNMR with its interval, from subjects drawn again. labels: int64[probes]."""
    subjects = int(labels.max()) + 1
    wrong, total = (
        np.bincount(labels, weights=np.count_nonzero(table, axis=1), minlength=subjects)
        for table in (errors & genuine, genuine)
    )

    def statistic(counts: Array) -> list[float]:
        trials = float(counts @ total)
        return [float(counts @ wrong) / trials if trials else float("nan")]

    replicates = resamples(statistic, subjects, settings.replicates, settings.seed)[:, 0]
    found, trials = int(wrong.sum()), int(total.sum())
    return Rate(found / trials, found, trials, interval(found / trials, replicates, trials))
