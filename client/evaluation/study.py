"""One evaluation: three scorers over the same comparisons, with every figure of the report.

faces = from_photos(...)
evaluation = evaluate(faces, Settings(parameters))
evaluation.figures.agreement.different        # 0, or encryption changed a decision
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from veilmatch.client.evaluation.data.faces import FaceSet, Failure, Progress
from veilmatch.client.evaluation.data.pairs import Flags, Pairs, all_pairs
from veilmatch.client.evaluation.figures.discard import Discard, Genuine, error_versus_discard
from veilmatch.client.evaluation.figures.intervals import Interval, interval, resamples
from veilmatch.client.evaluation.figures.rates import Curve, Floats, curve
from veilmatch.client.evaluation.local_pair import LocalPair
from veilmatch.client.evaluation.scorers import encrypted_decisions, float_scores, integer_scores
from veilmatch.client.evaluation.search import Searches, open_set, open_set_curve, rank_one
from veilmatch.client.evaluation.thresholds import can_show, operating_threshold
from veilmatch.crypto.packing.fields import Array
from veilmatch.crypto.parameters import ParameterSet

_T = TypeVar("_T", bound=np.generic)
#: False match rates at which every report gives the FNMR.
TARGETS = (1e-2, 1e-3, 1e-4)
#: False-positive identification rates at which every report gives the FNIR.
SEARCH_TARGETS = (0.1, 0.01)


@dataclass(frozen=True)
class Settings:
    """fmr: the one asked for; replicates: of the bootstrap; seed: of the bootstrap; encrypted: whether to run it."""

    parameters: ParameterSet
    fmr: float = 1e-3
    replicates: int = 1000
    seed: int = 1
    encrypted: bool = True

    @property
    def targets(self) -> tuple[float, ...]:
        """TARGETS and the one asked for, largest first."""
        return tuple(sorted({*TARGETS, self.fmr}, reverse=True))


@dataclass(frozen=True)
class Rate:
    """A measured proportion in 0..1 with its 95 % interval."""

    rate: float
    errors: int
    trials: int
    interval: Interval


@dataclass(frozen=True)
class Point:
    """One scorer at the threshold it has for a target FMR.

    threshold: as the scorer compares it (cosine, or integer t); cosine: the same as a cosine; fmr, fnmr: at this
    threshold; fnmr_interval: of the FNMR at the target FMR, for scorers with scores the threshold chosen anew in every
    resample, so that it holds for the choice of the threshold too.
    """

    target_fmr: float
    threshold: float
    cosine: float
    fmr: Rate
    fnmr: Rate
    fpir: float
    fnir: float


@dataclass(frozen=True)
class ScorerFigures:
    """What one scorer gives. The encrypted one has decisions at thresholds only: no eer, rank_one, fnir_at_fpir."""

    points: tuple[Point, ...]
    eer: float | None = None
    eer_interval: Interval | None = None
    rank_one: float | None = None
    fnir_at_fpir: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Agreement:
    """Encrypted decisions against integer ones. decisions: how many were compared; different: how many differ."""

    decisions: int
    different: int


@dataclass(frozen=True)
class Choice:
    """The threshold for the FMR that was asked for.

    t: integer; cosine: what a device is configured with; shown: whether there are impostor comparisons enough
    (3/FMR) to claim this FMR.
    """

    fmr: float
    t: int
    cosine: float
    shown: bool


@dataclass(frozen=True)
class Figures:
    """Everything of a report but the degradations; made of JSON types and dataclasses of them."""

    parameter_set: str
    model: str
    subjects: int
    photos: int
    acquired: int
    fta: float
    fte: float
    failures: tuple[Failure, ...]
    genuine: int
    impostors: int
    replicates: int
    seed: int
    enrolled: int
    searches: int
    scorers: dict[str, ScorerFigures]
    quantisation_changes: dict[str, int]
    agreement: Agreement | None
    choice: Choice
    discard: Discard | None


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Figures, what was compared, and what the plots need: curve and scores (as cosines) of "float" and "integer"."""

    figures: Figures
    curves: dict[str, Curve]
    cosines: dict[str, Floats]
    pairs: Pairs

    @property
    def genuine(self) -> Flags:
        """bool[n]: whether both faces of a comparison are of one subject."""
        return self.pairs.genuine


def evaluate(faces: FaceSet, settings: Settings, progress: Progress = lambda stage, done, total: None) -> Evaluation:
    """Run all scorers. Raises InvalidInputError if there is nothing to compare, or no threshold for a target FMR."""
    parameters, pairs = settings.parameters, all_pairs(faces.labels)
    study = _Study(pairs, Searches.of(faces.labels), settings, progress)
    scores = {"float": float_scores(faces, pairs), "integer": integer_scores(faces, pairs).astype(np.float64)}
    square = float(parameters.scale**2)
    cosines = {"float": scores["float"], "integer": scores["integer"] / square}
    curves = {name: curve(values, pairs.genuine) for name, values in scores.items()}
    integer_t = [operating_threshold(curves["integer"], f, parameters) for f in settings.targets]
    float_t = [curves["float"].threshold_at(f) for f in settings.targets]
    figures = {
        "float": study.scored(scores["float"], curves["float"], float_t, 1.0),
        "integer": study.scored(scores["integer"], curves["integer"], [float(t) for t in integer_t], square),
    }
    changes = {
        _name(f): int(np.count_nonzero((scores["float"] >= x) != (scores["integer"] >= t)))
        for f, x, t in zip(settings.targets, float_t, integer_t, strict=True)
    }
    agreement = None
    if settings.encrypted:
        progress("ceremony", 0, 1)
        pair = LocalPair(parameters)
        progress("ceremony", 1, 1)
        decisions = encrypted_decisions(faces, pairs, integer_t, pair, progress)
        expected = scores["integer"] >= np.array(integer_t)[:, None]
        agreement = Agreement(decisions.size, int(np.count_nonzero(decisions != expected)))
        figures["encrypted"] = study.decided(decisions, [float(t) for t in integer_t], square)
    chosen = integer_t[settings.targets.index(settings.fmr)]
    impostors = int(np.count_nonzero(~pairs.genuine))
    return Evaluation(
        Figures(
            parameter_set=parameters.name,
            model=faces.model,
            subjects=pairs.subjects + len(faces.failed_subjects),
            photos=faces.attempts,
            acquired=len(faces.subjects),
            fta=faces.fta,
            fte=faces.fte,
            failures=faces.failures,
            genuine=int(np.count_nonzero(pairs.genuine)),
            impostors=impostors,
            replicates=settings.replicates,
            seed=settings.seed,
            enrolled=len(study.searches.enrolled),
            searches=len(study.searches.probes),
            scorers=figures,
            quantisation_changes=changes,
            agreement=agreement,
            choice=Choice(settings.fmr, chosen, parameters.cosine(chosen), can_show(settings.fmr, impostors)),
            discard=_discard(faces, pairs, scores["integer"] < chosen),
        ),
        curves,
        cosines,
        pairs,
    )


@dataclass(frozen=True, eq=False)
class _Study:
    """The comparisons and searches that all scorers share."""

    pairs: Pairs
    searches: Searches
    settings: Settings
    progress: Progress

    def scored(self, scores: Floats, whole: Curve, thresholds: list[float], unit: float) -> ScorerFigures:
        """Return the figures of a scorer with scores. unit: the score of a cosine of 1."""
        targets = self.settings.targets
        order = np.argsort(scores)  # once, and every resample is sorted already
        ordered, genuine = scores[order], self.pairs.genuine[order]

        def statistic(counts: Array) -> list[float]:
            weights = self.pairs.weights(counts)[order]
            if not weights[genuine].any() or not weights[~genuine].any():
                return [float("nan")] * (1 + len(targets))
            drawn = curve(ordered, genuine, weights)
            return [drawn.eer, *(drawn.fnmr_at(f) for f in targets)]

        replicates = self._resampled(statistic)
        decisions = scores >= np.array(thresholds)[:, None]
        points = self.decided(decisions, thresholds, unit, fnmr_replicates=list(replicates[:, 1:].T)).points
        table = self.searches.table(self._square(scores))
        search = open_set_curve(self.searches, table)
        return ScorerFigures(
            points=points,
            eer=whole.eer,
            eer_interval=interval(whole.eer, replicates[:, 0], int(np.count_nonzero(self.pairs.genuine))),
            rank_one=rank_one(self.searches, table),
            fnir_at_fpir={_name(f): search.fnmr_at(f) for f in SEARCH_TARGETS},
        )

    def decided(
        self, decisions: Flags, thresholds: list[float], unit: float, fnmr_replicates: list[Floats] | None = None
    ) -> ScorerFigures:
        """Return the figures of decisions, bool[thresholds, n]."""
        points = []
        for i, (target, threshold) in enumerate(zip(self.settings.targets, thresholds, strict=True)):
            matches = decisions[i]
            table = self.searches.table(self._square(matches))
            fpir, fnir = open_set(self.searches, table)
            fnmr = self._rate(~matches, self.pairs.genuine, None if fnmr_replicates is None else fnmr_replicates[i])
            fmr = self._rate(matches, ~self.pairs.genuine, None)
            points.append(Point(target, threshold, threshold / unit, fmr, fnmr, fpir, fnir))
        return ScorerFigures(tuple(points))

    def _rate(self, errors: Flags, among: Flags, replicates: Floats | None) -> Rate:
        """Return the rate of errors among these comparisons; resampled here unless replicates are given."""
        count, trials = int(np.count_nonzero(errors & among)), int(np.count_nonzero(among))
        if replicates is None and count:

            def statistic(counts: Array) -> list[float]:
                weights = self.pairs.weights(counts)[among]
                total = float(weights.sum())
                return [float(weights[errors[among]].sum()) / total if total else float("nan")]

            replicates = resamples(statistic, self.pairs.subjects, self.settings.replicates, self.settings.seed)[:, 0]
        nothing = np.zeros(0)
        return Rate(
            count / trials,
            count,
            trials,
            interval(count / trials, nothing if replicates is None else replicates, trials),
        )

    def _resampled(self, statistic: Callable[[Array], list[float]]) -> Floats:
        done = 0

        def counted(counts: Array) -> list[float]:
            nonlocal done
            done += 1
            self.progress("resampling", done, self.settings.replicates)
            return statistic(counts)

        self.progress("resampling", 0, self.settings.replicates)
        return resamples(counted, self.pairs.subjects, self.settings.replicates, self.settings.seed)

    def _square(self, values: npt.NDArray[_T]) -> npt.NDArray[_T]:
        """Return what comparisons say as a symmetric table of all faces; searches do not compare a face with itself."""
        n = len(self.pairs.labels)
        square = np.zeros((n, n), values.dtype)
        square[self.pairs.first, self.pairs.second] = values
        square[self.pairs.second, self.pairs.first] = values
        return square


def _discard(faces: FaceSet, pairs: Pairs, errors: Flags) -> Discard | None:
    """Return the EDC of the genuine comparisons, if the quality of the photos was measured."""
    if not faces.qualities:
        return None
    g = pairs.genuine
    part = Genuine(pairs.first[g], pairs.second[g], errors[g], faces.qualities, faces.qualities)
    return error_versus_discard([part], symmetric=True)


def _name(rate: float) -> str:
    """Return a rate as it is written in JSON: 0.001."""
    return f"{rate:g}"
