"""The attacks: generators that yield after each round of questions."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from benchmarks.budget_attack.belief import START_COSINE, Belief
from benchmarks.budget_attack.device import LONGEST, THRESHOLD, Device, Ints, P, Vector, served

Attack = Callable[[Device, np.random.Generator], Iterator[None]]


def asked(device: Device, attack: Iterator[None], questions: int) -> Device:
    """The device after at least so many questions, or all that the attack has."""
    while len(device.cosines) <= questions and next(attack, device) is not device:
        pass
    return device


def bisection(device: Device, rng: np.random.Generator) -> Iterator[None]:
    """Coordinate after coordinate in a basis of probes that are served."""
    rows = int((P.norm_max / P.dimension) ** 0.5) * hadamard(P.dimension)
    furthest = int(4 * P.scale * float(np.linalg.norm(rows[0])) / P.dimension**0.5)  # 4 standard deviations of a score
    for row in rng.permutation(rows):
        low, high = -furthest, furthest
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if device.reaches(row, middle) else (low, middle)
        device.guess = device.guess + low * row / int(row @ row)
        yield


def unbounded(device: Device, rng: np.random.Generator, belief: Belief) -> Iterator[None]:
    """Any threshold: that at the median of what is believed of the score."""
    while True:
        device.guess = belief.mean
        probe = served(belief.spread @ rng.standard_normal(P.dimension))
        t = int(np.clip(round(float(probe @ belief.mean)), 1 - P.threshold_max, P.threshold_max))
        belief = belief.after(probe, t, device.reaches(probe, t))
        yield


def bounded(device: Device, rng: np.random.Generator, belief: Belief, t: int) -> Iterator[None]:
    """No threshold below t, and none above tells more: the probe is mixed so that t is the median of its score.

    As long as that is out of reach, the one that most probably matches is asked for.
    """
    while True:
        device.guess = belief.mean
        length = float(np.linalg.norm(belief.mean))
        if length * LONGEST < t:
            probe = served(belief.likely(rng, t), LONGEST)
        else:
            toward, part = belief.mean / length, t / length
            side = belief.spread @ rng.standard_normal(P.dimension)
            side -= (side @ toward) * toward
            rest = max(LONGEST**2 - part**2, 100.0) ** 0.5
            probe = served(part * toward + rest * side / np.linalg.norm(side), LONGEST)
        belief = belief.after(probe, t, device.ask(probe, t))
        yield


def strangers(device: Device, rng: np.random.Generator, embeddings: Vector, t: int) -> Iterator[None]:
    """Photos of other people, one after the other, until one matches."""
    for face in rng.permutation(embeddings):
        if device.ask(served(face, LONGEST), t):
            return
        yield


def gradient(device: Device, rng: np.random.Generator) -> Iterator[None]:
    """One threshold: go to where the answer flips, and add up the signs of random steps to all sides of it."""
    t, match = P.threshold(THRESHOLD), false_match(device, rng)
    device.guess = match
    low, high = P.norm_min**0.5 + 1, P.norm_max**0.5 - 1
    while high - low > 0.1:
        middle = (low + high) / 2
        low, high = (low, middle) if device.ask(served(match, middle), t) else (middle, high)
    part, signs, aside = t / high, np.zeros(P.dimension), max(LONGEST**2 - high**2, 100.0) ** 0.5
    while True:
        side = rng.standard_normal(P.dimension)
        side -= (side @ match) * match
        side *= aside / np.linalg.norm(side)
        probe = served(high * match + side, (high**2 + aside**2) ** 0.5)
        signs += side if device.ask(probe, t) else -side
        device.guess = part * match + max(P.scale**2 - part**2, 0.0) ** 0.5 * signs / np.linalg.norm(signs)
        yield


def climbing(device: Device, rng: np.random.Generator) -> Iterator[None]:
    """Random steps that still match at the length where the best match only just did."""
    t = P.threshold(THRESHOLD)
    best = false_match(device, rng)
    device.guess, length = best, P.norm_max**0.5 - 1
    while True:
        step = rng.standard_normal(P.dimension)
        tried = best + 0.25 * step / np.linalg.norm(step)
        tried /= np.linalg.norm(tried)
        if device.ask(served(tried, length), t):
            best = device.guess = tried
            yield
            if length > P.norm_min**0.5 + 1 and device.ask(served(best, length * 0.985), t):
                length *= 0.985
        yield


def false_match(device: Device, rng: np.random.Generator) -> Vector:
    """A stranger's embedding that matches: given to the attack for nothing."""
    unit = device.template / np.linalg.norm(device.template)
    across = rng.standard_normal(P.dimension)
    across -= (across @ unit) * unit
    across /= np.linalg.norm(across)
    return np.asarray(START_COSINE * unit + (1 - START_COSINE**2) ** 0.5 * across)


def hadamard(size: int) -> Ints:
    matrix = np.ones((1, 1), dtype=np.int64)
    while len(matrix) < size:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return matrix
