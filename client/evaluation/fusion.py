"""Fusion of vectors: weights from scores, and what the fused vector gains over each part alone.

Half of the subjects teach the weights: logistic regression on the cosines of the parts, of all their comparisons, each
kind counting half. The other half is compared: each part alone, all parts with equal weights, and fused as learnt.
Weights below 0 are 0: a part that would help by being unlike is left out. What is reported of the fused vector in
detail is of that half too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from veilmatch.client.capture.quantiser import quantise, unit_vector
from veilmatch.client.evaluation.data.faces import FaceSet, Failure, read_vectors
from veilmatch.client.evaluation.data.pairs import Pairs, all_pairs
from veilmatch.client.evaluation.figures.intervals import Interval, interval, resamples
from veilmatch.client.evaluation.figures.rates import Floats, curve
from veilmatch.client.evaluation.libraries import require
from veilmatch.client.evaluation.study import Settings
from veilmatch.client.vectors.fusing import fuse
from veilmatch.crypto.errors import InvalidInputError
from veilmatch.crypto.packing.fields import Array

#: Logistic regression without a penalty that would matter: there are as many unknowns as parts.
_FREE = 1e4


@dataclass(frozen=True, eq=False, repr=False)
class Part:
    """One kind of vector of every photo. embeddings: float64[n, d] of length 1. model: its name."""

    model: str
    embeddings: npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class Parts:
    """What is fused. subjects: of each row, the same in every part; failures: photos that lack one of them."""

    parts: tuple[Part, ...]
    subjects: tuple[str, ...]
    failures: tuple[Failure, ...] = ()


@dataclass(frozen=True)
class Alone:
    """One part alone, or a fusion. fnmr: at each target FMR, the threshold chosen for it; so are the intervals."""

    name: str
    eer: float
    eer_interval: Interval
    fnmr: dict[str, float]
    fnmr_intervals: dict[str, Interval]


@dataclass(frozen=True)
class FusionFigures:
    """weights: learnt, of each part, with the sum 1. taught, compared: subjects. rows: see the module.

    gain: FNMR of the best part less that of the fused integers at the FMR asked for, with the interval of that
    difference, the same subjects drawn for both.
    """

    models: tuple[str, ...]
    dimensions: tuple[int, ...]
    weights: tuple[float, ...]
    taught: int
    compared: int
    rows: tuple[Alone, ...]
    best: str
    gain: float
    gain_interval: tuple[float, float]


def parts_of_files(paths: Sequence[Path]) -> Parts:
    """Return the parts of .npz files with `embeddings` and `subjects`, row by row of the same photos.

    Raises InvalidInputError if one is of another kind, or their subjects differ.
    """
    found, subjects = [], None
    for path in paths:
        vectors, names, model = read_vectors(path)
        if subjects is not None and names != subjects:
            raise InvalidInputError(
                "files that are fused have the same subjects in the same rows", got=str(path), expected=str(paths[0])
            )
        subjects = names
        rows = [unit_vector(vector, vectors.shape[1]) for vector in vectors]
        found.append(Part(f"{model} ({path.name})", np.array(rows)))
    return Parts(tuple(found), tuple(subjects or ()))


def parts_of_faces(sets: Sequence[FaceSet]) -> Parts:
    """Return the parts of several face models on the same photos. Photos that one of them could not use are
    failures."""
    common = sorted(set.intersection(*(set(faces.photos) for faces in sets)))
    if not common:
        raise InvalidInputError("no photo could be used by every face model", got=0, expected="faces")
    found = []
    for faces in sets:
        row_of = {photo: row for row, photo in enumerate(faces.photos)}
        found.append(Part(faces.model, faces.embeddings[[row_of[photo] for photo in common]]))
    name_of = dict(zip(sets[0].photos, sets[0].subjects, strict=True))
    failures = {(f.subject, f.photo): f for faces in sets for f in faces.failures}
    return Parts(tuple(found), tuple(name_of[photo] for photo in common), tuple(failures.values()))


def fusion(parts: Parts, settings: Settings) -> tuple[FaceSet, FusionFigures]:
    """Return the fused faces of the half that is compared, and the figures. Raises InvalidInputError if there are too
    few.

    settings.parameters: what the fused vectors are made for.
    """
    if len(parts.parts) < 2:
        raise InvalidInputError("fusion takes two kinds of vectors or more", got=len(parts.parts))
    names = np.array(parts.subjects)
    people = np.unique(names)
    if len(people) < 8:
        raise InvalidInputError(
            "too few subjects to learn weights from some and compare others", got=len(people), expected="8 or more"
        )
    taught = np.isin(names, np.random.default_rng(settings.seed).permutation(people)[: len(people) // 2])
    weights = learnt([part.embeddings[taught] for part in parts.parts], names[taught])
    subjects = tuple(names[~taught])
    compared = [part.embeddings[~taught] for part in parts.parts]
    faces = _fused(compared, weights, subjects, parts, settings)
    pairs = all_pairs(faces.labels)
    cosines = [_scores(embeddings, pairs) for embeddings in compared]
    scores = {part.model: of for part, of in zip(parts.parts, cosines, strict=True)}
    scores["equal weights, float"] = np.mean(cosines, axis=0)
    scores["fused, float"] = np.asarray(weights @ np.array(cosines))
    scores["fused, integers"] = _scores(faces.integers.astype(np.float64), pairs)
    drawn = {name: _drawn(of, pairs, settings) for name, of in scores.items()}
    rows = tuple(_alone(name, of, drawn[name], pairs, settings) for name, of in scores.items())
    asked = settings.targets.index(settings.fmr)
    alone = {row.name: row.fnmr[f"{settings.fmr:g}"] for row in rows}
    best = min((part.model for part in parts.parts), key=lambda name: alone[name])
    differences = drawn[best][:, 1 + asked] - drawn["fused, integers"][:, 1 + asked]
    low, high = np.percentile(differences[np.isfinite(differences)], [2.5, 97.5])
    return faces, FusionFigures(
        models=tuple(part.model for part in parts.parts),
        dimensions=tuple(part.embeddings.shape[1] for part in parts.parts),
        weights=tuple(float(weight) for weight in weights),
        taught=len(people) // 2,
        compared=len(people) - len(people) // 2,
        rows=rows,
        best=best,
        gain=alone[best] - alone["fused, integers"],
        gain_interval=(float(low), float(high)),
    )


def learnt(parts: Sequence[npt.NDArray[np.float64]], subjects: npt.NDArray[np.str_]) -> Floats:
    """Return the weight of each part's cosine, float64[parts], 0 or more with the sum 1.

    Raises InvalidInputError without genuine and impostor comparisons, or if no part tells people apart.
    """
    labels = np.unique(subjects, return_inverse=True)[1].astype(np.int64)
    pairs = all_pairs(labels)
    cosines = np.array([_scores(embeddings, pairs) for embeddings in parts]).T
    model = require("sklearn.linear_model").LogisticRegression(C=_FREE, class_weight="balanced", max_iter=1000)
    model.fit(cosines, pairs.genuine)
    weights = np.maximum(np.asarray(model.coef_[0], np.float64), 0)
    if not weights.any():
        raise InvalidInputError("none of the vectors tells people apart", got="weights of 0", expected="face models")
    return np.asarray(weights / weights.sum())


def _fused(
    compared: Sequence[npt.NDArray[np.float64]],
    weights: Floats,
    subjects: tuple[str, ...],
    parts: Parts,
    settings: Settings,
) -> FaceSet:
    dimension = settings.parameters.dimension
    vectors = np.array([fuse(row, weights=list(weights), dimension=dimension) for row in zip(*compared, strict=True)])
    integers = np.array([quantise(vector, settings.parameters) for vector in vectors])
    model = "fused: " + ", ".join(f"{w:.3f} {p.model}" for w, p in zip(weights, parts.parts, strict=True))
    failures = tuple(failure for failure in parts.failures if failure.subject in set(subjects))
    return FaceSet(vectors, integers, subjects, tuple(range(len(subjects))), failures, model)


def _scores(embeddings: npt.NDArray[np.float64], pairs: Pairs) -> Floats:
    return np.asarray((embeddings @ embeddings.T)[pairs.first, pairs.second])


def _drawn(scores: Floats, pairs: Pairs, settings: Settings) -> Floats:
    """Return (EER, FNMR at each target) of resampled subjects, float64[replicates, 1 + targets]."""
    order = np.argsort(scores)
    ordered, genuine = scores[order], pairs.genuine[order]

    def statistic(counts: Array) -> list[float]:
        weights = pairs.weights(counts)[order]
        if not weights[genuine].any() or not weights[~genuine].any():
            return [float("nan")] * (1 + len(settings.targets))
        drawn = curve(ordered, genuine, weights)
        return [drawn.eer, *(drawn.fnmr_at(target) for target in settings.targets)]

    return resamples(statistic, pairs.subjects, settings.replicates, settings.seed)


def _alone(name: str, scores: Floats, drawn: Floats, pairs: Pairs, settings: Settings) -> Alone:
    whole, trials = curve(scores, pairs.genuine), int(np.count_nonzero(pairs.genuine))
    fnmr = {f"{target:g}": whole.fnmr_at(target) for target in settings.targets}
    return Alone(
        name,
        whole.eer,
        interval(whole.eer, drawn[:, 0], trials),
        fnmr,
        {key: interval(rate, drawn[:, 1 + i], trials) for i, (key, rate) in enumerate(fnmr.items())},
    )
