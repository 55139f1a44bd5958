"""Presentation attacks: how often a liveness detector lets them through, and how often they then pass as somebody.

ISO/IEC 30107-3:2023. Of every species of attack instrument (prints, screens, masks ...), one folder each:

- APCER: attacks that the detector takes for live, of those that it says something about. A detector is as good as
  its worst species.
- APNRR: attacks that it says nothing about (no face, no decision).
- IAPAR: attacks that the whole system accepts: taken for live, and a match with the person whose folder it is.

BPCER are live photos, those of the evaluation, that it takes for attacks, and BPNRR those that it says nothing about.
Without a detector everything is taken for live: then IAPAR is what matching alone lets through.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from veilmatch.client.capture.embedder import Embedding
from veilmatch.client.capture.image import ImageSource
from veilmatch.client.capture.quantiser import quantise
from veilmatch.client.evaluation.data.faces import FaceSet, Progress
from veilmatch.client.given.photo_folder import read_folder
from veilmatch.crypto.errors import InvalidInputError, LivenessError
from veilmatch.crypto.packing.fields import Array
from veilmatch.crypto.parameters import ParameterSet

IsLive = Callable[[ImageSource], bool]
"""The decision about a photo; raises InvalidInputError where it has none."""


@dataclass(frozen=True)
class Species:
    """Attacks of one kind. judged: those with a decision; live: those taken for live; accepted: those that also match.

    compared: those whose person has a template in the evaluation. None of the rates where there is nothing to count.
    """

    name: str
    attacks: int
    judged: int
    live: int
    compared: int
    accepted: int

    @property
    def apcer(self) -> float | None:
        """Attack presentation classification error rate."""
        return self.live / self.judged if self.judged else None

    @property
    def apnrr(self) -> float:
        """Attack presentation non-response rate."""
        return 1 - self.judged / self.attacks

    @property
    def iapar(self) -> float | None:
        """Impostor attack presentation accept rate."""
        return self.accepted / self.compared if self.compared else None


@dataclass(frozen=True)
class AttackFigures:
    """species: each kind. bona_fide: live photos; _judged: of these with a decision; _refused: taken for attacks.

    detector: whether there is one.
    """

    species: tuple[Species, ...]
    bona_fide: int
    bona_fide_judged: int
    bona_fide_refused: int
    detector: bool

    @property
    def bpcer(self) -> float | None:
        """Bona fide presentation classification error rate."""
        return self.bona_fide_refused / self.bona_fide_judged if self.bona_fide_judged else None

    @property
    def worst(self) -> Species | None:
        """The species with the highest APCER."""
        judged = [s for s in self.species if s.apcer is not None]
        return max(judged, key=lambda s: s.apcer or 0.0, default=None)


def read_attacks(folder: Path) -> dict[str, list[tuple[str, ImageSource]]]:
    """Return (subject, photo) of every species in a folder: SPECIES/SUBJECT/PHOTO. Raises InvalidInputError."""
    kinds = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    found: dict[str, list[tuple[str, ImageSource]]] = {kind.name: [*read_folder(kind).photos] for kind in kinds}
    if not any(found.values()):
        raise InvalidInputError(
            "there are no attacks to measure", got=str(folder), expected="folders SPECIES/SUBJECT/PHOTO"
        )
    return {name: photos for name, photos in found.items() if photos}


def measure_attacks(
    attacks: dict[str, list[tuple[str, ImageSource]]],
    bona_fide: Sequence[ImageSource],
    faces: FaceSet,
    embed: Callable[[ImageSource], Embedding],
    is_live: IsLive | None,
    at: tuple[ParameterSet, int],
    progress: Progress = lambda stage, done, total: None,
) -> AttackFigures:
    """Return the figures of every species. at: the parameter set, and the threshold t, of matching.

    A detector that fails on every photo, live ones too, is no detector: raises LivenessError.
    """
    parameters, t = at
    species = []
    for name, photos in attacks.items():
        judged = live = compared = accepted = 0
        for done, (subject, photo) in enumerate(photos):
            progress(f"attacks: {name}", done, len(photos))
            decision = _decision(photo, is_live)
            known = np.array([row for row, s in enumerate(faces.subjects) if s == subject], np.int64)
            judged, live, compared = judged + (decision is not None), live + bool(decision), compared + bool(len(known))
            if decision and len(known):
                accepted += _matches(photo, embed, faces.integers[known], parameters, t)
        species.append(Species(name, len(photos), judged, live, compared, accepted))
    decisions = [_decision(photo, is_live) for photo in bona_fide]
    said = [decision for decision in decisions if decision is not None]
    if is_live is not None and not said:
        raise LivenessError("the liveness detector says nothing about any live photo", got=f"{len(decisions)} photos")
    return AttackFigures(tuple(species), len(decisions), len(said), said.count(False), is_live is not None)


def _decision(photo: ImageSource, is_live: IsLive | None) -> bool | None:
    if is_live is None:
        return True
    try:
        return is_live(photo)
    except InvalidInputError:
        return None


def _matches(
    photo: ImageSource, embed: Callable[[ImageSource], Embedding], templates: Array, parameters: ParameterSet, t: int
) -> bool:
    """Whether the face in an attack reaches the threshold with a template of the person; no face does not."""
    try:
        return bool((templates @ quantise(embed(photo), parameters) >= t).any())
    except InvalidInputError:
        return False
