"""Attacks on random templates."""

from __future__ import annotations

import numpy as np

from benchmarks.budget_attack.attacks import (
    Attack,
    asked,
    bisection,
    bounded,
    climbing,
    false_match,
    gradient,
    unbounded,
)
from benchmarks.budget_attack.belief import of_a_match, of_nobody
from benchmarks.budget_attack.device import THRESHOLD, Device, P, cosine
from veilmatch.client.capture.quantiser import quantise

AT = (16, 32, 64, 100, 128, 150, 200, 256, 512, 1024, 2048)

ATTACKS: dict[str, Attack] = {
    "any threshold": lambda device, rng: unbounded(device, rng, of_nobody()),
    "any, bisection": bisection,
    "bound": lambda device, rng: bounded(device, rng, of_nobody(), P.threshold(THRESHOLD)),
    "bound, match": lambda device, rng: bounded(
        device, rng, of_a_match(false_match(device, rng)), P.threshold(THRESHOLD)
    ),
    "gradient": gradient,
    "climbing": climbing,
}


def run(name: str, templates: int, seed: int) -> dict[int, float]:
    """Median cosine over the templates, by number of questions."""
    reached = []
    for i in range(templates):
        rng = np.random.default_rng([seed, i])
        device = Device(quantise(rng.standard_normal(P.dimension), P), P.threshold(THRESHOLD))
        asked(device, ATTACKS[name](device, rng), max(AT))
        cosines = device.cosines + [cosine(device.guess, device.template)] * (max(AT) + 1 - len(device.cosines))
        reached.append([cosines[n] for n in AT])
    return dict(zip(AT, np.median(reached, axis=0).round(3).tolist(), strict=True))
