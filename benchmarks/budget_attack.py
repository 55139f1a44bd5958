"""How much of a template a device reads from yes/no answers alone, by the number of its questions.

    python benchmarks/budget_attack.py [--templates 20] [--seed 1] [--json PATH]

The device knows the protocol and nothing of the template. It asks `score(probe, template) >= t` of integers made by
the quantiser (D = 128, S = 60, c = 23), and every probe is one that the validity gate lets through: coordinates in
[-c, c] and squared norm in [norm_min, norm_max]. Printed is the cosine between its best guess and the template; the
usual threshold is 0.40, so a guess above that passes as the person. The defaults in docs/budgets.md rest on this.

The device may choose its threshold:
- `adaptive`: each question at the most informative threshold, given a normal belief about the template that
  follows every answer. About the best there is: one answer is hardly ever worth less than a bit.
- `bisection`: exact scores of 128 orthogonal probes (rows of a Hadamard matrix), each by bisecting the threshold.

The threshold is fixed at 0.40, and the device begins with a stranger's probe that matches (cosine 0.42), given to it:
- `fixed`: as `adaptive`, with the probe mixed so that the fixed threshold is the informative one.
- `gradient`: goes to the boundary and adds up the signs around it (the gradient of HopSkipJump; a boundary of scores
  is flat, so there is no need to move along it).
- `climbing`: random steps, kept while a probe matches that is as short as the gate lets through.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from math import erfc
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from veilmatch.client.capture.quantiser import quantise
from veilmatch.crypto.parameters import D128_COARSE, ParameterSet

Vector = NDArray[np.float64]
Ints = NDArray[np.int64]

#: Finer scores take more questions to bisect; one answer never tells more than a bit.
P: ParameterSet = D128_COARSE
THRESHOLD = 0.40
#: Cosine of the false match that an attack with a fixed threshold starts from.
START_COSINE = 0.42
AT = (16, 32, 64, 100, 128, 150, 200, 256, 512, 1024, 2048)


class Device:
    """A hostile device and the answers it gets. cosines: of its guess before each question."""

    def __init__(self, template: Ints) -> None:
        self.template = template
        self.cosines: list[float] = []
        self.guess: Vector = np.zeros(P.dimension)

    def ask(self, probe: Ints, t: int) -> bool:
        """Whether the score reaches t. The probe and t have to be such as are served."""
        assert np.abs(probe).max() <= P.clip and P.norm_min <= int(probe @ probe) <= P.norm_max
        assert 1 <= t <= P.threshold_max
        self.cosines.append(cosine(self.guess, self.template))
        return int(probe @ self.template) >= t

    def reaches(self, probe: Ints, t: int) -> bool:
        """Whether the score reaches t, of any sign: a score below zero is asked for through the opposite probe."""
        return self.ask(probe, t) if t >= 1 else not self.ask(-probe, 1 - t)


def cosine(guess: Vector, template: Ints) -> float:
    length = float(np.linalg.norm(guess))
    return float(guess @ template) / (length * float(np.linalg.norm(template))) if length else 0.0


def served(direction: Vector, length: float = 60.0) -> Ints:
    """The integer probe along a direction, of about this length, whose norm the gate lets through."""
    scaled = direction / np.linalg.norm(direction)
    probe = np.clip(np.rint(length * scaled), -P.clip, P.clip).astype(np.int64)
    while int(probe @ probe) > P.norm_max or int(probe @ probe) < P.norm_min:
        length *= 0.99 if int(probe @ probe) > P.norm_max else 1.02
        probe = np.clip(np.rint(length * scaled), -P.clip, P.clip).astype(np.int64)
    return probe


def hadamard(size: int) -> Ints:
    matrix = np.ones((1, 1), dtype=np.int64)
    while len(matrix) < size:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return matrix


# -- attacks: generators that yield after each round of questions -----------------------------------


def bisection(device: Device, rng: np.random.Generator) -> Iterator[None]:
    """Coordinate after coordinate in a basis of probes that are served."""
    for row in rng.permutation(5 * hadamard(P.dimension)):
        low, high = -1280, 1280  # 4 standard deviations of a score
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if device.reaches(row, middle) else (low, middle)
        device.guess = device.guess + low * row / int(row @ row)
        yield


def adaptive(device: Device, rng: np.random.Generator) -> Iterator[None]:
    """Any threshold: that at the median of what is believed of the score."""
    mean, spread = np.zeros(P.dimension), np.eye(P.dimension) * P.scale**2 / P.dimension
    while True:
        probe = served(spread @ rng.standard_normal(P.dimension))
        t = int(np.clip(round(float(probe @ mean)), 1 - P.threshold_max, P.threshold_max))
        mean, spread = believe(mean, spread, probe, t, device.reaches(probe, t))
        device.guess = mean
        yield


def fixed(device: Device, rng: np.random.Generator) -> Iterator[None]:
    """One threshold: the probe is mixed so that it lies at the median of what is believed of the score."""
    t, match = P.threshold(THRESHOLD), false_match(device, rng)
    along = np.outer(match, match)
    mean = START_COSINE * P.scale * match
    spread = 9.0 * along + (np.eye(P.dimension) - along) * (1 - START_COSINE**2) * P.scale**2 / (P.dimension - 1)
    device.guess = mean
    while True:
        toward, length = mean / np.linalg.norm(mean), float(np.linalg.norm(mean))
        side = spread @ rng.standard_normal(P.dimension)
        side -= (side @ toward) * toward
        part = min(t / length, 60.0)
        rest = max(P.norm_max * 0.95 - part**2, 100.0) ** 0.5
        probe = served(part * toward + rest * side / np.linalg.norm(side), (part**2 + rest**2) ** 0.5)
        mean, spread = believe(mean, spread, probe, t, device.ask(probe, t))
        device.guess = mean
        yield


def gradient(device: Device, rng: np.random.Generator) -> Iterator[None]:
    """One threshold: go to where the answer flips, and add up the signs of random steps to all sides of it."""
    t, match = P.threshold(THRESHOLD), false_match(device, rng)
    device.guess = match
    low, high = P.norm_min**0.5 + 1, P.norm_max**0.5 - 1
    while high - low > 0.1:
        middle = (low + high) / 2
        low, high = (low, middle) if device.ask(served(match, middle), t) else (middle, high)
    part, signs = t / high, np.zeros(P.dimension)
    while True:
        side = rng.standard_normal(P.dimension)
        side -= (side @ match) * match
        side *= 25.0 / np.linalg.norm(side)
        probe = served(high * match + side, (high**2 + 25.0**2) ** 0.5)
        signs += side if device.ask(probe, t) else -side
        device.guess = part * match + max(P.scale**2 - part**2, 0.0) ** 0.5 * signs / np.linalg.norm(signs)
        yield


def believe(mean: Vector, spread: Vector, probe: Ints, t: int, answer: bool) -> tuple[Vector, Vector]:
    """Mean and covariance of a normal belief about the template, given that the score reaches t or does not."""
    toward = spread @ probe
    variance = float(probe @ toward) + 1.0
    away = (t - 0.5 - float(probe @ mean)) / variance**0.5
    tail = max(0.5 * erfc((away if answer else -away) / 2**0.5), 1e-12)
    step = float(np.exp(-(away**2) / 2)) / (2 * np.pi) ** 0.5 / tail * (1 if answer else -1)
    return mean + toward * step / variance**0.5, spread - np.outer(toward, toward) * (step * (step - away)) / variance


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


ATTACKS: dict[str, Callable[[Device, np.random.Generator], Iterator[None]]] = {
    "adaptive": adaptive, "bisection": bisection, "fixed": fixed, "gradient": gradient, "climbing": climbing,
}  # fmt: skip


def run(name: str, templates: int, seed: int) -> dict[int, float]:
    """Median cosine over the templates, by number of questions."""
    reached = []
    for i in range(templates):
        rng = np.random.default_rng([seed, i])
        device = Device(quantise(rng.standard_normal(P.dimension), P))
        steps = ATTACKS[name](device, rng)
        while len(device.cosines) <= max(AT) and next(steps, device) is not device:
            pass
        device.cosines += [cosine(device.guess, device.template)] * (max(AT) + 1 - len(device.cosines))
        reached.append([device.cosines[n] for n in AT])
    return dict(zip(AT, np.median(reached, axis=0).round(3).tolist(), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--templates", type=int, default=20, help="how many templates are attacked; medians are shown")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    options = parser.parse_args()
    started, figures, console = time.perf_counter(), {}, Console()
    for name in ATTACKS:
        with console.status(name):
            figures[name] = run(name, options.templates, options.seed)
    table = Table("questions", *ATTACKS, title=f"cosine with the template, median of {options.templates}")
    for n in AT:
        table.add_row(f"{n:,}", *(f"{figures[name][n]:.2f}" for name in ATTACKS))
    console.print(table)
    if options.json:
        document = {"parameter_set": P.name, "threshold": THRESHOLD, "start_cosine": START_COSINE, "cosine": figures}
        document |= {"templates": options.templates, "seed": options.seed}
        options.json.write_text(json.dumps(document | {"seconds": round(time.perf_counter() - started, 1)}) + "\n")


if __name__ == "__main__":
    main()
