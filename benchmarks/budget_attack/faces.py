"""Attacks on the templates of real faces, by somebody who has photos of other people from the same camera."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks.budget_attack.attacks import Attack, asked, bounded, strangers, unbounded
from benchmarks.budget_attack.belief import of_faces
from benchmarks.budget_attack.device import LONGEST, THRESHOLD, Device, Ints, P, Vector, served

AT = (1, 10, 35, 60, 100, 200, 500)
#: Lowest thresholds that the attacks are bounded by.
BOUNDS = (0.40, 0.45, 0.50)
#: Photos of a person that are attacked as templates, each for itself.
TEMPLATES = (0, 4, 8)


@dataclass(frozen=True)
class Faces:
    """Unit embeddings [n, D], their integers [n, D] and whose they are [n]; at least nine of everybody."""

    embeddings: Vector
    integers: Ints
    people: Ints

    def others(self, person: int) -> Vector:
        return np.asarray(self.embeddings[self.people != person])

    def templates(self, people: int) -> list[tuple[int, Ints]]:
        """The templates of the first so many people, and whose they are."""
        return [
            (person, self.integers[np.flatnonzero(self.people == person)[number]])
            for person in range(people)
            for number in TEMPLATES
        ]


def orl_faces() -> Faces:
    """All AT&T/ORL photos through the installed models."""
    from veilmatch.client.capture.detector import YuNetDetector
    from veilmatch.client.evaluation.data.capture import capture, installed_embedder, orl_photos

    found = capture(orl_photos(), YuNetDetector.installed(), installed_embedder(P), P)
    return Faces(found.embeddings, found.integers, found.labels)


@dataclass(frozen=True)
class FaceAttack:
    """An attack by somebody who has these faces of other people, and the cosine at which a probe passes where it is."""

    passes_at: float
    having: Callable[[Vector], Attack]


def _unbounded(others: Vector) -> Attack:
    return lambda device, rng: unbounded(device, rng, of_faces(others))


def _strangers(bound: float) -> FaceAttack:
    t = P.threshold(bound)
    return FaceAttack(bound, lambda others: lambda device, rng: strangers(device, rng, others, t))


def _guesses(bound: float) -> FaceAttack:
    t = P.threshold(bound)
    return FaceAttack(bound, lambda others: lambda device, rng: bounded(device, rng, of_faces(others), t))


ATTACKS = {"any threshold": FaceAttack(THRESHOLD, _unbounded)}
for _bound in BOUNDS:
    ATTACKS |= {f"{_bound:.2f} strangers": _strangers(_bound), f"{_bound:.2f} guesses": _guesses(_bound)}


def run(faces: Faces, name: str, people: int, seed: int) -> dict[int, float]:
    """The share of these people's templates that a probe was found for, by number of questions."""
    attack, passed = ATTACKS[name], []
    for i, (person, template) in enumerate(faces.templates(people)):
        device = Device(template, P.threshold(attack.passes_at))
        asked(device, attack.having(faces.others(person))(device, np.random.default_rng([seed, i])), max(AT))
        passed.append(device.passed or max(AT) + 1)
    return {n: round(float((np.array(passed) <= n).mean()), 3) for n in AT}


def rates(faces: Faces) -> dict[str, dict[str, float]]:
    """By bound: how often a stranger's photo matches, as it is and at its longest, and how often the own one fails."""
    same = faces.people[:, None] == faces.people[None, :]
    own = same & ~np.eye(len(same), dtype=bool)
    scores = faces.integers @ faces.integers.T
    longest = np.array([served(face, LONGEST) for face in faces.embeddings]) @ faces.integers.T
    return {
        f"{bound:.2f}": {
            "fmr": float((scores[~same] >= P.threshold(bound)).mean()),
            "fmr_longest": float((longest[~same] >= P.threshold(bound)).mean()),
            "fnmr": float((scores[own] < P.threshold(bound)).mean()),
        }
        for bound in BOUNDS
    }
