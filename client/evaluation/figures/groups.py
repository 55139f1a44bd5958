"""Error rates by group: whether a threshold that is fair on the whole is so to everybody.

    subject,sex,age
    ada,f,30-40
    bob,m,20-30

With a column `photo` as well, a row is about that photo of the subject alone (the name of its file), as for sets whose
photos were made with known pose or light; a row without one is about all of them.

A genuine comparison belongs to the group of its subject; an impostor comparison to a group if both subjects do, because
those are the ones that err most (ISO/IEC 19795-10); of attributes of photos, if both photos do. Subjects that the file
leaves out are in no group.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from veilmatch.client.evaluation.data.pairs import Flags, Pairs
from veilmatch.client.evaluation.figures.intervals import interval, resamples
from veilmatch.client.evaluation.study import Evaluation, Rate
from veilmatch.crypto.errors import InvalidInputError
from veilmatch.crypto.packing.fields import Array

#: A file with more is not one of groups.
_MAX_BYTES = 16 << 20
_SUBJECT, _PHOTO = "subject", "photo"


@dataclass(frozen=True)
class GroupFigures:
    """The rates of one group at the chosen threshold; None where it has no such comparison. attribute: its column."""

    attribute: str
    group: str
    subjects: int
    fmr: Rate | None
    fnmr: Rate | None


def read_groups(path: Path) -> dict[str, dict[str, str]]:
    """Return the attributes of each subject of a CSV file with a column `subject`. An empty cell is no group.

    Those of a photo stand under "SUBJECT/PHOTO". Raises InvalidInputError if it is not one, or has a row twice.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise InvalidInputError("a file of groups is not as large", expected=f"at most {_MAX_BYTES} bytes")
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InvalidInputError(
            "not a file of groups", got=f"{path}: {type(error).__name__}", expected=_WANTED
        ) from None
    if not rows or _SUBJECT not in rows[0] or not set(rows[0]) - {_SUBJECT, _PHOTO} or any(None in row for row in rows):
        raise InvalidInputError("not a file of groups", got=str(path), expected=_WANTED)
    found: dict[str, dict[str, str]] = {}
    for row in rows:
        subject, photo = (row.pop(_SUBJECT) or "").strip(), (row.pop(_PHOTO, "") or "").strip()
        key = f"{subject}/{photo}" if photo else subject
        if key in found:
            raise InvalidInputError("a subject or photo is in two rows of the file of groups", got=key[:40])
        found[key] = {name: value.strip() for name, value in row.items() if value and value.strip()}
    return found


_WANTED = "CSV with a column `subject` and one for each attribute"


def by_group(
    evaluation: Evaluation,
    subjects: Sequence[str],
    groups: Mapping[str, Mapping[str, str]],
    photos: Sequence[str] | None = None,
) -> list[GroupFigures]:
    """Return the rates of every group, by attribute and name. subjects, photos: of each face that was compared.

    photos: names of files; None where there are none.

    Raises InvalidInputError if no subject of the evaluation is in the groups.
    """
    of_photos = [""] * len(subjects) if photos is None else [f"{s}/{p}" for s, p in zip(subjects, photos, strict=True)]
    if not set(groups) & {*subjects, *of_photos}:
        raise InvalidInputError(
            "no subject of the photos is in the file of groups",
            got=f"{len(groups)} rows there, {len(set(subjects))} here",
            expected="names of folders, in the column `subject`",
        )
    pairs, figures = evaluation.pairs, evaluation.figures
    matches = evaluation.cosines["integer"] >= figures.choice.cosine - 1e-12
    found = []
    attributes = dict.fromkeys(name for of in groups.values() for name in of)
    for attribute in attributes:
        names = [
            groups.get(photo, {}).get(attribute, "") or groups.get(subject, {}).get(attribute, "")
            for subject, photo in zip(subjects, of_photos, strict=True)
        ]
        for group in sorted(set(names) - {""}):
            inside = np.array([name == group for name in names])
            both = inside[pairs.first] & inside[pairs.second]
            count = len({subject for subject, name in zip(subjects, names, strict=True) if name == group})
            fmr, fnmr = (
                _rate(errors & both, among & both, pairs, figures.replicates, figures.seed)
                for errors, among in ((matches, ~pairs.genuine), (~matches, pairs.genuine))
            )
            found.append(GroupFigures(attribute, group, count, fmr, fnmr))
    return found


def _rate(errors: Flags, among: Flags, pairs: Pairs, replicates: int, seed: int) -> Rate | None:
    wrong, trials = int(np.count_nonzero(errors & among)), int(np.count_nonzero(among))
    if not trials:
        return None

    def statistic(counts: Array) -> list[float]:
        weights = pairs.weights(counts)[among]
        total = float(weights.sum())
        return [float(weights[errors[among]].sum()) / total if total else float("nan")]

    drawn = resamples(statistic, pairs.subjects, replicates, seed)[:, 0] if wrong else np.zeros(0)
    return Rate(wrong / trials, wrong, trials, interval(wrong / trials, drawn, trials))
