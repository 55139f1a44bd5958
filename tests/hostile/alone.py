"""A server that deviates alone: what comes of an honest device's query, and whether what servers see depends on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any

import numpy as np

from tests.hostile.deviations import Deviation, Outcome
from tests.simulator import Keys, PairSimulator, SimulatedGallery, unit_vectors
from veilmatch.crypto.errors import VeilmatchError
from veilmatch.crypto.packing.fields import Array
from veilmatch.crypto.pair.messages import Reserve
from veilmatch.crypto.pair.request import Operation
from veilmatch.crypto.parameters import ParameterSet

QUERIES: tuple[Operation, ...] = ("verify", "candidates", "identify")


@cache
def faces(parameters: ParameterSet) -> tuple[Array, Array, Array]:
    """A gallery, a probe that is in it, and one that matches nobody at threshold 1."""
    known, *others = unit_vectors(np.random.default_rng(81), parameters.slots + 3, parameters)
    stranger = others.pop()
    templates = np.array([known, *(t if t @ stranger < 1 else -t for t in others)])
    return templates, known, stranger if known @ stranger < 1 else -stranger


def run(
    keys: Keys, deviation: Deviation | None, operation: Operation, probe: Array
) -> tuple[Outcome, list[tuple[Any, ...]]]:
    """One query: what comes of it, and the kinds and sizes of all that the key holders do and see until it ends."""
    templates = faces(keys.scheme.parameters)[0]
    seen: list[tuple[Any, ...]] = []
    simulator = PairSimulator(keys, observe=lambda holder, action: seen.append((holder, shape(action))))
    gallery = SimulatedGallery.of(keys.scheme, templates)
    if deviation is not None:
        deviation.apply(simulator, gallery)
    places = gallery.places[:1] if operation == "verify" else gallery.places
    right = expected(operation, probe, templates[: len(places)])
    try:
        plus, minus = simulator.run(simulator.request(operation, 1), simulator.encrypt(probe), gallery, places)
    except VeilmatchError as error:
        seen.append(("refused", type(error).__name__))
        return "refused", seen
    except TimeoutError:
        seen.append(("silence",))
        return "silence", seen
    valid, bits = bool(plus.valid ^ minus.valid), (plus.bits ^ minus.bits).tolist()
    return "right" if valid and bits == right else "wrong", seen


def expected(operation: Operation, probe: Array, templates: Array) -> list[int]:
    """The answer bits of the plain integers at threshold 1."""
    scores = templates @ probe
    if operation == "identify":
        best = int(np.argmax(scores)) + 1 if scores.max() >= 1 else 0
        return [best >> i & 1 for i in range(len(templates).bit_length())]
    bits = (scores >= 1).astype(int).tolist()
    return [int(any(bits))] if operation == "verify" else bits


def shape(value: Any) -> Any:
    """The kind of a value and the sizes of its parts; of numbers, that there is one."""
    special: dict[type, Callable[[Any], Any]] = {
        Reserve: lambda r: ("Reserve", r.kind, r.count),
        np.ndarray: lambda a: a.shape,
        str: lambda s: s,
    }
    if type(value) in special:
        return special[type(value)](value)
    if is_dataclass(value):
        return type(value).__name__, *(shape(getattr(value, f.name)) for f in fields(value))
    return len(value) if isinstance(value, bytes | list | tuple) else type(value).__name__
