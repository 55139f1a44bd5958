"""Several views: how often a subject is not recognised, by number and kind of the templates that were enrolled of it.

Of each subject some photos are there to enrol, the others to probe; every plan of enrolment gets templates from the
former:

- one photo, as it is; with its mirror image; with views made worse (small rotations, blur, few pixels, darkness);
- several photos; photos chosen by where the head looks: the most frontal, and those turned furthest to each side;
- each of these as templates of their own, of which the best counts, or as one, their mean direction (`mean_view`).

More templates match strangers more often as well. So every plan has its own threshold, that of the same FMR of claims
by strangers with good photos, and FNMR at it is compared: of good probes, of turned heads, and of photos made worse.
Photos are drawn several times.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from veilmatch.client.capture.detector import Detector
from veilmatch.client.capture.embedder import Embedder
from veilmatch.client.capture.image import ImageSource, RgbArray, load_image
from veilmatch.client.capture.pipeline import CapturePipeline
from veilmatch.client.capture.quantiser import quantise
from veilmatch.client.capture.settings import CaptureSettings
from veilmatch.client.capture.turn import upright
from veilmatch.client.evaluation.data.degrade import DEGRADATIONS, Place
from veilmatch.client.evaluation.data.faces import FaceSet, Progress, from_photos
from veilmatch.client.evaluation.figures.intervals import interval, resamples
from veilmatch.client.evaluation.figures.rates import Floats
from veilmatch.client.evaluation.local_pair import LocalPair
from veilmatch.client.evaluation.study import Agreement, Rate, Settings
from veilmatch.client.vectors.fusing import mean_view
from veilmatch.crypto.errors import InvalidInputError
from veilmatch.crypto.packing.fields import Array

MIRROR = "mirror"
#: Views that are made of a photo to enrol: the mirror image, and these degradations.
AUGMENTED: dict[str, tuple[str, float]] = {
    "rotated": ("rotation", 10),
    "blurred": ("blur", 2),
    "coarse": ("low resolution", 20),
    "dark": ("darker", -2),
}
#: Probes that are made worse, by name: each kind mild and strong, the second and third strength of degrade.py.
WORSE: dict[str, tuple[str, float]] = {
    "rotation 20": ("rotation", 20),
    "rotation 30": ("rotation", 30),
    "blur 2 %": ("blur", 2),
    "blur 3 %": ("blur", 3),
    "24 pixels": ("low resolution", 24),
    "16 pixels": ("low resolution", 16),
    "2 stops darker": ("darker", -2),
    "3 stops darker": ("darker", -3),
    "10 % covered": ("occlusion", 10),
    "20 % covered": ("occlusion", 20),
}
#: Good probes by where the head looks, by name: from so many degrees of yaw to below so many, to either side.
TURNED: dict[str, tuple[float, float]] = {
    "turned less than 15 degrees": (0, 15),
    "turned 15 to 30 degrees": (15, 30),
    "turned 30 degrees or more": (30, float("inf")),
}
_DRAWS = 5
#: At most so many photos of a subject are enrolled, and half of them at most.
_MOST = 5


@dataclass(frozen=True)
class ViewRow:
    """One plan. templates: of a subject, on average. cosine: the threshold. fnmr: by kind of probe, None without
    any."""

    name: str
    templates: float
    cosine: float
    fmr: float
    fnmr: dict[str, Rate | None]


@dataclass(frozen=True)
class ViewFigures:
    """probes: kinds of probes, in order. draws: of photos to enrol. agreement: by kind of probe, encrypted decisions of
    the first draw against the integers'; None if they were not made. Good probes are those of all turns together."""

    subjects: int
    draws: int
    probes: tuple[str, ...]
    rows: tuple[ViewRow, ...]
    agreement: dict[str, Agreement] | None

    @property
    def exact(self) -> bool:
        """Whether no encrypted decision that was made differs from that of the integers."""
        return not any(one.different for one in (self.agreement or {}).values())


@dataclass(frozen=True, eq=False, repr=False)
class ViewSet:
    """Every photo as it is and in every view. Biometric data.

    views: by name, float64[n, D], rows of NaN where no face was found. labels: int64[n]. yaw: float64[n], degrees.
    """

    views: dict[str, npt.NDArray[np.float64]]
    labels: Array
    yaw: Floats


def capture_views(
    photos: Sequence[tuple[str, ImageSource]],
    faces: FaceSet,
    detector: Detector,
    embedder: Embedder,
    settings: Settings,
    own: CaptureSettings,
    progress: Progress,
) -> ViewSet:
    """Return the views of every photo that was acquired. photos: all (subject, photo) that faces was made of.

    Raises InvalidInputError if the quality of the faces, and with it where they look, was not measured.
    """
    if not faces.qualities:
        raise InvalidInputError("views take photos: embeddings do not say where a head looks")
    pipeline, used = CapturePipeline(detector, embedder, own), [photos[number] for number in faces.photos]
    kinds = {degradation.name: degradation for degradation in DEGRADATIONS}
    made: dict[str, Callable[[RgbArray, Place, tuple[int, int]], RgbArray]] = {
        MIRROR: lambda view, place, seed: np.ascontiguousarray(view[:, ::-1])
    }
    for name, (kind, strength) in (AUGMENTED | WORSE).items():
        made[name] = lambda view, place, seed, d=kinds[kind], s=strength: d(view, place, s, seed)  # type: ignore[misc]
    views = {"as it is": faces.embeddings}
    for done, (name, make) in enumerate(made.items()):
        progress("views", done, len(made))

        def embed(number: int, photo: ImageSource, make: Callable[..., RgbArray] = make) -> tuple[Floats, None]:
            view, face = upright(load_image(photo), detector)
            return pipeline.embed_photo(make(view, Place.of(face), (settings.seed, number))), None

        rows = np.full_like(faces.embeddings, np.nan)
        try:
            worse = from_photos(used, embed, faces.model, settings.parameters)
            rows[list(worse.photos)] = worse.embeddings
        except InvalidInputError:
            pass
        views[name] = rows
    progress("views", len(made), len(made))
    yaw = np.array([quality.values["head_pose_yaw"] for quality in faces.qualities])
    return ViewSet(views, faces.labels, yaw)


# -- plans of enrolment ---------------------------------------------------------------------------------------

_Plan = Callable[[ViewSet, Array], list[Floats]]
"""Gives the templates of one subject from the rows of its photos to enrol, in a random order."""


def _photos(count: int) -> _Plan:
    return lambda faces, rows: [faces.views["as it is"][row] for row in rows[:count]]


def _with(*names: str) -> _Plan:
    def plan(faces: ViewSet, rows: Array) -> list[Floats]:
        views = [faces.views[name][rows[0]] for name in ("as it is", *names)]
        return [view for view in views if np.isfinite(view).all()]

    return plan


def _mirrored(count: int) -> _Plan:
    def plan(faces: ViewSet, rows: Array) -> list[Floats]:
        return [faces.views[name][row] for row in rows[:count] for name in ("as it is", MIRROR)]

    return lambda faces, rows: [view for view in plan(faces, rows) if np.isfinite(view).all()]


def _by_pose(faces: ViewSet, rows: Array) -> list[Floats]:
    yaw = faces.yaw[rows]
    chosen = dict.fromkeys((int(np.argmin(np.abs(yaw))), int(np.argmin(yaw)), int(np.argmax(yaw))))
    return [faces.views["as it is"][rows[place]] for place in chosen]


def _mean(plan: _Plan) -> _Plan:
    return lambda faces, rows: [mean_view(plan(faces, rows))]


_ALL = tuple(AUGMENTED)
PLANS: dict[str, _Plan] = {
    "1 photo": _photos(1),
    "1 photo and its mirror image": _with(MIRROR),
    "1 photo and its mirror image, their mean": _mean(_with(MIRROR)),
    "1 photo and 4 views made worse": _with(*_ALL),
    "1 photo and 4 views made worse, their mean": _mean(_with(*_ALL)),
    "2 photos": _photos(2),
    "2 photos, their mean": _mean(_photos(2)),
    "3 photos": _photos(3),
    "3 photos, their mean": _mean(_photos(3)),
    "3 photos by pose: frontal, left, right": _by_pose,
    "3 photos by pose, their mean": _mean(_by_pose),
    "5 photos": _photos(5),
    "5 photos, their mean": _mean(_photos(5)),
    "5 photos and mirror images, their mean": _mean(_mirrored(5)),
}


@dataclass(frozen=True, eq=False)
class _Draw:
    """Which photos are enrolled and which probe: rows, by subject."""

    enrolled: tuple[Array, ...]
    probes: Array


def view_study(faces: ViewSet, settings: Settings, progress: Progress = lambda stage, done, total: None) -> ViewFigures:
    """Return the figures of all plans. Raises InvalidInputError without subjects that have 4 photos or more."""
    rng = np.random.default_rng(settings.seed)
    draws = [_draw(faces.labels, rng) for _ in range(_DRAWS)]
    kinds = _kinds(faces)
    rows, agreed = [], []
    for done, (name, plan) in enumerate(PLANS.items()):
        progress("plans", done, len(PLANS))
        made = [_templates(plan, faces, draw, settings) for draw in draws]
        row, t = _row(name, faces, draws, made, kinds, settings)
        rows.append(row)
        agreed.append((made[0], t))
    progress("plans", len(PLANS), len(PLANS))
    agreement = _agreement(faces, draws[0], kinds, agreed, settings, progress) if settings.encrypted else None
    return ViewFigures(len(draws[0].enrolled), len(draws), tuple(kinds), tuple(rows), agreement)


def _draw(labels: Array, rng: np.random.Generator) -> _Draw:
    enrolled, probes = [], []
    for subject in range(int(labels.max()) + 1):
        rows = rng.permutation(np.flatnonzero(labels == subject))
        if len(rows) < 4:
            continue
        count = min(_MOST, len(rows) // 2)
        enrolled.append(rows[:count])
        probes.append(rows[count:])
    if len(enrolled) < 2:
        raise InvalidInputError(
            "too few photos of each subject to compare ways to enrol",
            got=len(enrolled),
            expected="2 subjects with 4 photos",
        )
    return _Draw(tuple(enrolled), np.concatenate(probes))


_Kind = tuple[str, npt.NDArray[np.bool_]]
"""A kind of probe: the view it is, and which photos may be one, bool[n]."""


def _kinds(faces: ViewSet) -> dict[str, _Kind]:
    yaw, everything = np.abs(faces.yaw), np.ones(len(faces.labels), bool)
    turned = {name: ("as it is", (yaw >= low) & (yaw < high)) for name, (low, high) in TURNED.items()}
    return {"good probes": ("as it is", everything)} | turned | {name: (name, everything) for name in WORSE}


def _probes(faces: ViewSet, draw: _Draw, kind: _Kind) -> Array:
    """Return the rows of a draw that are a probe of this kind: those in which there is a face."""
    view, allowed = kind
    return draw.probes[allowed[draw.probes] & np.isfinite(faces.views[view][draw.probes]).all(axis=1)]


@dataclass(frozen=True, eq=False)
class _Enrolled:
    """Templates of all subjects: int64[m, D], and the label of each."""

    integers: Array
    labels: Array


def _templates(plan: _Plan, faces: ViewSet, draw: _Draw, settings: Settings) -> _Enrolled:
    vectors, labels = [], []
    for rows in draw.enrolled:
        made = plan(faces, rows)
        vectors += [quantise(vector, settings.parameters) for vector in made]
        labels += [int(faces.labels[rows[0]])] * len(made)
    return _Enrolled(np.array(vectors), np.array(labels))


def _row(
    name: str,
    faces: ViewSet,
    draws: Sequence[_Draw],
    made: Sequence[_Enrolled],
    kinds: dict[str, _Kind],
    settings: Settings,
) -> tuple[ViewRow, int]:
    """Return the figures of a plan, and its integer threshold."""
    found: dict[str, list[tuple[Array, Array]]] = {kind: [] for kind in kinds}
    strangers = []
    for draw, enrolled in zip(draws, made, strict=True):
        subjects = np.unique(enrolled.labels)
        for name_of_kind, kind in kinds.items():
            rows = _probes(faces, draw, kind)
            best = _best(faces.views[kind[0]][rows], enrolled, subjects, settings)
            own = faces.labels[rows][:, None] == subjects[None, :]
            found[name_of_kind].append((best[own], faces.labels[rows]))
            if name_of_kind == "good probes":
                strangers.append(best[~own])
    others = np.sort(np.concatenate(strangers))[::-1]
    allowed_matches = int(settings.fmr * len(others))
    t = max(1, int(others[min(allowed_matches, len(others) - 1)]) + 1)
    fnmr = {kind: _rate(scores, t, int(faces.labels.max()) + 1, settings) for kind, scores in found.items()}
    templates = float(np.mean([len(enrolled.labels) / len(np.unique(enrolled.labels)) for enrolled in made]))
    fmr = float(np.mean(others >= t))
    return ViewRow(name, templates, t / settings.parameters.scale**2, fmr, fnmr), t


def _best(vectors: npt.NDArray[np.float64], enrolled: _Enrolled, subjects: Array, settings: Settings) -> Array:
    """Return the best score of each probe with each subject, int64[probes, subjects]."""
    if not len(vectors):
        return np.zeros((0, len(subjects)), np.int64)
    probes = np.array([quantise(vector, settings.parameters) for vector in vectors])
    scores = probes @ enrolled.integers.T
    return np.stack([scores[:, enrolled.labels == subject].max(axis=1) for subject in subjects], axis=1)


def _rate(found: Sequence[tuple[Array, Array]], t: int, subjects: int, settings: Settings) -> Rate | None:
    scores, labels = (np.concatenate([part[i] for part in found]) for i in (0, 1))
    if not len(scores):
        return None
    wrong = np.bincount(labels, weights=scores < t, minlength=subjects)
    total = np.bincount(labels, minlength=subjects)

    def statistic(counts: Array) -> list[float]:
        trials = float(counts @ total)
        return [float(counts @ wrong) / trials if trials else float("nan")]

    drawn = resamples(statistic, subjects, settings.replicates, settings.seed)[:, 0]
    errors = int(wrong.sum())
    return Rate(errors / len(scores), errors, len(scores), interval(errors / len(scores), drawn, len(scores)))


def _agreement(
    faces: ViewSet,
    draw: _Draw,
    kinds: dict[str, _Kind],
    plans: Sequence[tuple[_Enrolled, int]],
    settings: Settings,
    progress: Progress,
) -> dict[str, Agreement]:
    """Compare every probe of a draw with the templates of all plans, at the threshold of each, encrypted.

    A probe that is of several kinds is decided about once, and counts in each.
    """
    templates = np.concatenate([enrolled.integers for enrolled, _ in plans])
    plan_of = np.repeat(np.arange(len(plans)), [len(enrolled.labels) for enrolled, _ in plans])
    thresholds = sorted({t for _, t in plans})
    row_of = np.searchsorted(thresholds, [t for _, t in plans])[plan_of]
    pair = LocalPair(settings.parameters)
    gallery, everything = pair.gallery(templates), np.arange(len(templates))
    rows_of = {name: _probes(faces, draw, kind) for name, kind in kinds.items()}
    asked = {(kind[0], int(row)) for name, kind in kinds.items() for row in rows_of[name]}
    different: dict[tuple[str, int], int] = {}
    for view, row in sorted(asked):
        probe = quantise(faces.views[view][row], settings.parameters)
        bits = pair.decide(probe, gallery, everything, thresholds)[row_of, everything]
        expected = templates @ probe >= np.array(thresholds)[row_of]
        different[view, row] = int(np.count_nonzero(bits.astype(bool) != expected))
        progress("encrypted plans", len(different), len(asked))
    return {
        name: Agreement(len(rows) * len(templates), sum(different[kinds[name][0], int(row)] for row in rows))
        for name, rows in rows_of.items()
    }
