"""A server that deviates alone: what comes of an honest device's request, and whether what servers see tells of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Any, Literal

import numpy as np

from tests.hostile.deviations import Deviation, Outcome
from tests.simulator import Keys, PairSimulator, SimulatedGallery, unit_vectors
from veilmatch.crypto.errors import VeilmatchError
from veilmatch.crypto.packing.fields import Array
from veilmatch.crypto.pair.messages import Reserve
from veilmatch.crypto.pair.request import Operation
from veilmatch.crypto.parameters import ParameterSet

#: Verifications against what the matchers made, and against what a device encrypted; searches; changes of what a device
#: encrypted; changes of what the matchers made of it.
Kind = Literal["verify", "verify bulk", "search", "change", "record"]
QUERIES = ("verify", "verify bulk", "search")


@dataclass(frozen=True)
class Work:
    """What a device asks for."""

    operation: Operation
    kind: Kind

    def __str__(self) -> str:
        of = {"record": " of a record", "verify bulk": " against a device's record"}
        return f"{self.operation}{of.get(self.kind, '')}"


WORK = (
    Work("verify", "verify"),
    Work("verify", "verify bulk"),
    *(Work(operation, "search") for operation in ("candidates", "identify", "known")),
    *(Work(operation, "change") for operation in ("enrol", "erase", "rotate")),
    *(Work(operation, "record") for operation in ("erase", "rotate")),
)


@cache
def faces(parameters: ParameterSet) -> tuple[Array, Array, Array]:
    """A gallery, a probe that is in it, and one that matches nobody at threshold 1."""
    known, *others = unit_vectors(np.random.default_rng(81), parameters.slots + 3, parameters)
    stranger = others.pop()
    templates = np.array([known, *(t if t @ stranger < 1 else -t for t in others)])
    return templates, known, stranger if known @ stranger < 1 else -stranger


def two_vectors(work: Work, parameters: ParameterSet) -> tuple[Array, Array]:
    """Two vectors of a request that a server would like to tell apart.

    Who is in the gallery and who is not; a valid template and a refused one; a template and an empty one.
    """
    _, known, stranger = faces(parameters)
    return known, {"change": 3 * known, "record": 0 * known}.get(work.kind, stranger)


def run(keys: Keys, deviation: Deviation | None, work: Work, vector: Array) -> tuple[Outcome, list[tuple[Any, ...]]]:
    """One request: what comes of it, and the kinds and sizes of all that the key holders do and see until it ends."""
    templates = faces(keys.scheme.parameters)[0]
    seen: list[tuple[Any, ...]] = []
    simulator = PairSimulator(keys, observe=lambda holder, action: seen.append((holder, shape(action))))
    gallery = SimulatedGallery.of(keys.scheme, templates)
    if deviation is not None:
        deviation.apply(simulator, gallery)
    places = gallery.places[:1] if work.operation == "verify" else gallery.places
    request = simulator.request(work.operation, int(work.kind in QUERIES))
    by_device = [work.kind not in ("verify", "record")]
    try:
        ends = simulator.run(request, simulator.encrypt(vector), gallery, places, by_device)
    except VeilmatchError as error:
        seen.append(("refused", type(error).__name__))
        return "refused", seen
    except TimeoutError:
        seen.append(("silence",))
        return "silence", seen
    right = expected(work, vector, templates[: len(places)], keys.scheme.parameters)
    return "right" if opened(work, ends) == right else "wrong", seen


def opened(work: Work, ends: tuple[Any, Any]) -> list[int]:
    """What the device or the gallery gets: the valid bits, then answer bits or coordinates with their offset."""
    plus, minus = ends
    if work.kind in QUERIES:
        return [plus.valid ^ minus.valid, *(plus.bits ^ minus.bits).tolist()]
    return [*(plus.valid ^ minus.valid).tolist(), *PairSimulator.added_up(ends)]


def expected(work: Work, vector: Array, templates: Array, parameters: ParameterSet) -> list[int]:
    """The same from plain integers, queries at threshold 1."""
    if work.kind not in QUERIES:
        valid = work.kind == "record" or parameters.norm_min <= int(vector @ vector) <= parameters.norm_max
        told = [int(valid)] if work.kind == "change" and work.operation != "erase" else []
        return [*told, *(int(valid) * vector + parameters.offset).tolist()]
    scores = templates @ vector
    if work.operation == "identify":
        best = int(np.argmax(scores)) + 1 if scores.max() >= 1 else 0
        return [1, *(best >> i & 1 for i in range(len(templates).bit_length()))]
    bits = (scores >= 1).astype(int).tolist()
    return [1, int(any(bits))] if work.operation in ("verify", "known") else [1, *bits]


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
