"""Error versus discard: how far the FNMR falls when comparisons of the worst photos are left out; what floors do.

ISO/IEC 29794-1:2024, error versus discard characteristic (EDC): the threshold stays, the quality of a comparison is the
lower unified score of its two photos, and comparisons are discarded from the lowest on. A measure that says nothing
about errors gives a level line; one that knows them falls as steeply as there are errors. The same by every other
component alone shows which of them would be worth a floor. Beside it stands what the floors of [capture.floors] refuse,
of photos that fail and of others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from veilmatch.client.capture.quality.assessment import COMPONENTS, Component, Quality
from veilmatch.client.evaluation.data.pairs import Flags
from veilmatch.client.evaluation.figures.rates import Floats
from veilmatch.crypto.packing.fields import Array

#: Shares of the genuine comparisons that are discarded, in reports.
SHARES = (0.0, 0.01, 0.02, 0.05, 0.10, 0.15, 0.20, 0.30)
#: The name of the curve that no measure can fall below.
KNOWING = "knowing the errors"
#: Components of which a larger value is worse.
_MORE_IS_WORSE: frozenset[Component] = frozenset({
    "sharpness", "under_exposure_prevention", "over_exposure_prevention", "single_face_present", "mouth_closed",
})  # fmt: skip


@dataclass(frozen=True)
class Discard:
    """An EDC at SHARES, and the effect of the floors.

    fnmr: at each share, of the comparisons that are left. photos, refused: all that were acquired, and those below a
    floor. bad, bad_refused: photos more than half of whose genuine comparisons fail, and how many of them are below a
    floor. kept_fnmr: of comparisons both of whose photos are above the floors; None if there is none. components: the
    FNMR at each share where comparisons are discarded by one component alone, and by KNOWING.
    """

    shares: tuple[float, ...]
    fnmr: tuple[float, ...]
    photos: int
    refused: int
    bad: int
    bad_refused: int
    kept_fnmr: float | None
    components: dict[str, tuple[float, ...]]

    @property
    def good(self) -> int:
        """Photos that do not fail."""
        return self.photos - self.bad

    @property
    def good_refused(self) -> int:
        """Photos that do not fail, and are refused all the same."""
        return self.refused - self.bad_refused


@dataclass(frozen=True, eq=False)
class Genuine:
    """Genuine comparisons. probe, template: rows of their photos, int64[n]; errors: which do not match, bool[n].

    probes, templates: the quality of every photo of each kind, by row.
    """

    probe: Array
    template: Array
    errors: Flags
    probes: Sequence[Quality]
    templates: Sequence[Quality]


def goodness(quality: Quality, component: Component) -> float:
    """Return the value of a component, turned so that more is better: scores have too few steps to sort by."""
    value = quality.values.get(component, 0.0)
    if component.startswith("head_pose"):
        return -abs(value)
    return -value if component in _MORE_IS_WORSE else value


def left(order: Floats, errors: Flags | Floats, shares: Sequence[float] = SHARES) -> tuple[float, ...]:
    """Return the mean of the errors without the shares of them that come first in ascending order."""
    ordered = errors[np.argsort(order, kind="stable")]
    # Whole numbers of a hundred are not quite so as binary fractions.
    return tuple(float(np.mean(ordered[int(share * len(ordered) + 1e-9) :])) for share in shares)


def error_versus_discard(parts: Sequence[Genuine], *, symmetric: bool = False) -> Discard | None:
    """Return the EDC of genuine comparisons; None without any, or where photos have no unified score.

    symmetric: probes and templates are the same photos, and each comparison is there once: it counts for both.
    """
    parts = [part for part in parts if len(part.errors)]
    qualities = [quality for part in parts for quality in (*part.probes, *part.templates)]
    if not parts or any(quality.unified is None for quality in qualities):
        return None
    known = [component for component in COMPONENTS if all(component in quality.values for quality in qualities)]
    kept = []
    photos = refused = bad = bad_refused = 0
    for part in parts:
        good, good_templates = (np.array([bool(q) for q in some]) for some in (part.probes, part.templates))
        kept.append(good[part.probe] & good_templates[part.template])
        fails = _fails(part, symmetric)
        photos, refused = photos + len(good), refused + int(np.count_nonzero(~good))
        bad, bad_refused = bad + int(fails.sum()), bad_refused + int(np.count_nonzero(fails & ~good))
    wrong, above = np.concatenate([part.errors for part in parts]), np.concatenate(kept)
    curves = {component: left(_lowest(parts, component), wrong) for component in known}
    kept_fnmr = float(np.mean(wrong[above])) if above.any() else None
    fnmr = curves["unified_quality_score"]
    components = {KNOWING: left(-wrong.astype(np.float64), wrong)} | curves
    return Discard(SHARES, fnmr, photos, refused, bad, bad_refused, kept_fnmr, components)


def in_words(name: str) -> str:
    """Return the name of a curve as reports have it."""
    return name.replace("_", " ")


def _lowest(parts: Sequence[Genuine], component: Component) -> Floats:
    """Return the goodness of the worse photo of every comparison."""
    found = []
    for part in parts:
        probes, templates = (np.array([goodness(q, component) for q in some]) for some in (part.probes, part.templates))
        found.append(np.minimum(probes[part.probe], templates[part.template]))
    return np.concatenate(found)


def _fails(part: Genuine, symmetric: bool) -> Flags:
    """Return which photos fail in more than half of their genuine comparisons, bool[photos]."""
    count = len(part.probes)
    total, wrong = np.zeros(count), np.zeros(count)
    for rows in (part.probe, part.template) if symmetric else (part.probe,):
        total += np.bincount(rows, minlength=count)
        wrong += np.bincount(rows, weights=part.errors, minlength=count)
    return np.asarray(2 * wrong > total)
