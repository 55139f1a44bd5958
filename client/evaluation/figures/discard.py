"""Error versus discard: how far the FNMR falls when comparisons of the worst photos are left out; what floors do.

ISO/IEC 29794-1:2024, error versus discard characteristic (EDC): the threshold stays, the quality of a comparison is the
lower unified score of its two photos, and comparisons are discarded from the lowest on. A measure that says nothing
about errors gives a level line; one that knows them falls as steeply as there are errors. Beside it stands what the
floors of [capture.floors] refuse, of photos that fail and of others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from veilmatch.client.capture.quality.assessment import Quality
from veilmatch.client.evaluation.data.pairs import Flags
from veilmatch.crypto.packing.fields import Array

#: Shares of the genuine comparisons that are discarded, in reports.
SHARES = (0.0, 0.01, 0.02, 0.05, 0.10, 0.15, 0.20, 0.30)


@dataclass(frozen=True)
class Discard:
    """An EDC at SHARES, and the effect of the floors.

    fnmr: at each share, of the comparisons that are left. photos, refused: all that were acquired, and those below a
    floor. bad, bad_refused: photos more than half of whose genuine comparisons fail, and how many of them are below a
    floor. kept_fnmr: of comparisons both of whose photos are above the floors; None if there is none.
    """

    shares: tuple[float, ...]
    fnmr: tuple[float, ...]
    photos: int
    refused: int
    bad: int
    bad_refused: int
    kept_fnmr: float | None

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


def error_versus_discard(parts: Sequence[Genuine], *, symmetric: bool = False) -> Discard | None:
    """Return the EDC of genuine comparisons; None without any, or where photos have no unified score.

    symmetric: probes and templates are the same photos, and each comparison is there once: it counts for both.
    """
    parts = [part for part in parts if len(part.errors)]
    scored = all(q.unified is not None for part in parts for q in (*part.probes, *part.templates))
    if not parts or not scored:
        return None
    lowest, errors, kept = [], [], []
    photos = refused = bad = bad_refused = 0
    for part in parts:
        probes, templates = (
            np.array([q.values["unified_quality_score"] for q in qualities])
            for qualities in (part.probes, part.templates)
        )
        good_probes, good_templates = (
            np.array([bool(q) for q in qualities]) for qualities in (part.probes, part.templates)
        )
        lowest.append(np.minimum(probes[part.probe], templates[part.template]))
        errors.append(part.errors)
        kept.append(good_probes[part.probe] & good_templates[part.template])
        fails = _fails(part, symmetric)
        photos, refused = photos + len(probes), refused + int(np.count_nonzero(~good_probes))
        bad, bad_refused = bad + int(fails.sum()), bad_refused + int(np.count_nonzero(fails & ~good_probes))
    order = np.argsort(np.concatenate(lowest), kind="stable")
    wrong, left = np.concatenate(errors), np.concatenate(kept)
    ordered = wrong[order]
    fnmr = tuple(float(np.mean(ordered[int(share * len(ordered)) :])) for share in SHARES)
    kept_fnmr = float(np.mean(wrong[left])) if left.any() else None
    return Discard(SHARES, fnmr, photos, refused, bad, bad_refused, kept_fnmr)


def _fails(part: Genuine, symmetric: bool) -> Flags:
    """Return which photos fail in more than half of their genuine comparisons, bool[photos]."""
    count = len(part.probes)
    total, wrong = np.zeros(count), np.zeros(count)
    for rows in (part.probe, part.template) if symmetric else (part.probe,):
        total += np.bincount(rows, minlength=count)
        wrong += np.bincount(rows, weights=part.errors, minlength=count)
    return np.asarray(2 * wrong > total)
