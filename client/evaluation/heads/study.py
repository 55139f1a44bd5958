"""How often a head errs: cross-validated by people, in floats, in integers and encrypted.

Every photo is classified once, by a head that was trained on other people's photos. Four deciders:

- **all coordinates**: the classifier in floats, on whole embeddings: what there would be without encryption;
- **features**: the same on the D - 2 coordinates that a template has room for;
- **integers**: the largest integer score of quantised vectors, if it reaches the threshold;
- **encrypted**: the real cryptography in this process (local_pair.py), tournament and all.

Encrypted decisions have to equal those of the integers; rounding is the only step that may change one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from veilmatch.client.capture.quantiser import quantise
from veilmatch.client.evaluation.data.faces import Progress
from veilmatch.client.evaluation.figures.intervals import interval, resamples
from veilmatch.client.evaluation.heads.sets import Labelled
from veilmatch.client.evaluation.heads.training import REGULARISATION, features_of, fit
from veilmatch.client.evaluation.local_pair import LocalPair
from veilmatch.client.evaluation.study import Rate
from veilmatch.client.vectors.classes import ClassMap
from veilmatch.client.vectors.head import Head
from veilmatch.crypto.errors import InvalidInputError
from veilmatch.crypto.packing.fields import Array
from veilmatch.crypto.parameters import ParameterSet

_NONE = -1


@dataclass(frozen=True)
class HeadSettings:
    """folds: of the cross-validation, by people; replicates, seed: of the bootstrap, over people, and of the folds."""

    parameters: ParameterSet
    threshold: float
    regularisation: float = REGULARISATION
    folds: int = 5
    replicates: int = 1000
    seed: int = 1
    encrypted: bool = True


@dataclass(frozen=True)
class HeadFigures:
    """What was measured; made of JSON types and dataclasses of them.

    errors: of each decider, misclassified photos of all, with an interval from people drawn again. baseline: errors of
    whoever always says the largest class. none: photos for which no class reached the threshold. rounded: decisions
    that integers take otherwise than floats. different: encrypted ones otherwise than integers; None if they were not
    made. confusion: integer decisions, by class and decision, in the order of classes. lowest: the lowest score of a
    best class, as a cosine; lowest_floor: what it would be without rounding.
    """

    model: str
    parameter_set: str
    threshold: float
    classes: tuple[str, ...]
    photos: int
    people: int
    failures: int
    folds: int
    errors: dict[str, Rate]
    baseline: float
    none: int
    rounded: int
    different: int | None
    confusion: tuple[tuple[int, ...], ...]
    lowest: float
    lowest_floor: float


def measure_head(
    data: Labelled, settings: HeadSettings, progress: Progress = lambda stage, done, total: None
) -> HeadFigures:
    """Cross-validate. Raises InvalidInputError if a class lacks people, as all others do."""
    truth = np.array([data.names.index(name) for name in data.classes])
    people, persons = np.unique(np.array(data.people), return_inverse=True)
    folds = min(settings.folds, len(people))
    if folds < 2:
        raise InvalidInputError("photos of one person tell nothing of others", got=len(people), expected="two or more")
    fold_of = np.random.default_rng(settings.seed).permutation(len(people))[persons] % folds
    decided = {name: np.full(len(truth), _NONE) for name in ("all coordinates", "features", "integers")}
    if settings.encrypted:
        decided["encrypted"] = np.full(len(truth), _NONE)
    features = features_of(data, ClassMap(settings.parameters, settings.threshold))
    pair = LocalPair(settings.parameters) if settings.encrypted else None
    best = np.zeros(len(truth))
    for fold in range(folds):
        tested = np.flatnonzero(fold_of == fold)
        trained = np.flatnonzero(fold_of != fold)
        classes = [data.classes[row] for row in trained]
        for name, vectors in (("all coordinates", data.embeddings), ("features", features)):
            weights, biases = fit(vectors[trained], classes, data.names, settings.regularisation)
            decided[name][tested] = np.argmax(vectors[tested] @ weights.T + biases, axis=1)
        head = Head("measured", data.model, settings.parameters, settings.threshold, data.names, weights, biases)
        probes = np.array([quantise(head.map.probe(data.embeddings[row]), head.parameters) for row in tested])
        scores = probes @ head.integers().T
        t = settings.parameters.threshold(settings.threshold)
        best[tested] = scores.max(axis=1)
        decided["integers"][tested] = np.where(scores.max(axis=1) >= t, scores.argmax(axis=1), _NONE)
        if pair is not None:
            decided["encrypted"][tested] = _encrypted(
                head, probes, t, pair, (int(np.sum(fold_of < fold)), len(truth)), progress
            )
    confusion = np.zeros((len(data.names), len(data.names)), int)
    np.add.at(confusion, (truth, decided["integers"]), decided["integers"] != _NONE)
    square = settings.parameters.scale**2
    return HeadFigures(
        model=data.model,
        parameter_set=settings.parameters.name,
        threshold=settings.threshold,
        classes=data.names,
        photos=len(truth),
        people=len(people),
        failures=data.failures,
        folds=folds,
        errors={name: _rate(found != truth, persons, settings) for name, found in decided.items()},
        baseline=1 - float(np.bincount(truth).max()) / len(truth),
        none=int(np.count_nonzero(decided["integers"] == _NONE)),
        rounded=int(np.count_nonzero(decided["integers"] != decided["features"])),
        different=int(np.count_nonzero(decided["encrypted"] != decided["integers"])) if pair is not None else None,
        confusion=tuple(tuple(int(n) for n in row) for row in confusion),
        lowest=float(best.min()) / square,
        lowest_floor=ClassMap(settings.parameters, settings.threshold).floor,
    )


def _encrypted(head: Head, probes: Array, t: int, pair: LocalPair, done: tuple[int, int], progress: Progress) -> Array:
    """Return the encrypted decision of each probe, int64[n]; -1 for none. done: before these, and of how many."""
    gallery, wanted = pair.gallery(head.integers()), np.arange(len(head.classes))
    found = []
    for probe in probes:
        best = pair.best(probe, gallery, wanted, t)
        found.append(_NONE if best is None else best)
        progress("encrypted", done[0] + len(found), done[1])
    return np.array(found)


def _rate(wrong: Array, persons: Array, settings: HeadSettings) -> Rate:
    each, photos = np.bincount(persons, weights=wrong), np.bincount(persons)
    errors, trials = int(each.sum()), len(wrong)

    def statistic(counts: Array) -> list[float]:
        return [float(counts @ each) / float(counts @ photos)]

    drawn = resamples(statistic, len(photos), settings.replicates, settings.seed)[:, 0]
    return Rate(errors / trials, errors, trials, interval(errors / trials, drawn, trials))
