"""What is measured of a peer: one query at a time, and what follows for galleries too large to measure.

A peer is asked for the cost of one query over n identities. Costs are CPU time over all its parties and wall time on
one core. A cell that would take longer than the time box is not measured; it is extrapolated, and says from what.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Peer:
    """What a reader must know of a peer beside its figures.

    name: unique; requires: package that it needs, or None; security_bits: as its parameters are commonly rated.
    """

    name: str
    operation: str
    probe: str
    template: str
    score_to: str
    security_bits: int | None
    requires: str | None = None


@dataclass(frozen=True)
class Cost:
    """One query. cpu_s: of all parties; wall_s: on one core, which other processes may share."""

    cpu_s: float
    wall_s: float


@dataclass(frozen=True)
class Row:
    """One query of one peer at one dimension and gallery size.

    extrapolated: None if measured, else from what. device_bytes: sent by the device for a query. template_bytes: stored
    for an identity, over all servers. max_error: largest deviation of a score from that of plain numbers, None if
    scores are not revealed or were not measured. server_bytes, rounds: what servers send each other for a query, and
    how many messages of it wait for one another; None if that was not counted.
    """

    peer: str
    dimension: int
    identities: int
    cpu_s: float
    latency_s: float
    extrapolated: str | None
    device_bytes: float
    template_bytes: float
    max_error: float | None = None
    server_bytes: float | None = None
    rounds: int | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the fields, and the CPU time of one identity."""
        return asdict(self) | {"cpu_s_per_identity": self.cpu_s / self.identities}


@dataclass(frozen=True)
class Sizes:
    """What to measure. identities: sizes of the table; largest: measured at most; box_s: CPU time of a query."""

    identities: tuple[int, ...] = (100, 1_000, 10_000, 1_000_000)
    largest: int = 10_000
    box_s: float = 60.0


FULL = Sizes()
QUICK = Sizes((100, 1_000), 1_000, 5.0)


@contextmanager
def clocked(costs: list[Cost]) -> Iterator[None]:
    """Append the cost of the block, as this process sees it."""
    cpu, wall = time.process_time(), time.perf_counter()
    yield
    costs.append(Cost(time.process_time() - cpu, time.perf_counter() - wall))


def measured(
    ask: Callable[[int], Cost], sizes: Sizes, always: Sequence[int] = ()
) -> Iterator[tuple[int, Cost, str | None]]:
    """Yield (identities, cost, extrapolated) for every size of the table.

    ask: one query over n identities. always: gallery sizes that are measured however long they take. The sizes of the
    table follow in rising order, up to `sizes.largest` and while the time box has room for them, by CPU time; one is
    measured in any case. Sizes beyond are on the line through the last two measurements (with one measurement:
    through the origin, so that work done once a query counts as if done for every identity).
    """
    done = [(n, ask(n)) for n in always]
    for n in sizes.identities:
        if not done or (n <= sizes.largest and done[-1][1].cpu_s * n / done[-1][0] <= sizes.box_s):
            done.append((n, ask(n)))
    known = dict(done)
    for size in sizes.identities:
        if size in known:
            yield size, known[size], None
        else:
            yield size, on_line(done, size), "x, from " + " and ".join(f"{n:,}" for n, _ in done[-2:])


def on_line(done: Sequence[tuple[int, Cost]], size: int) -> Cost:
    """Return the cost at `size` on the line through the last two measurements, or through the origin and the one."""
    n, last = done[-1]
    before_n, before = done[-2] if len(done) > 1 else (0, Cost(0.0, 0.0))

    def at(here: float, earlier: float) -> float:
        slope = (here - earlier) / (n - before_n)
        return here + slope * (size - n) if slope > 0 else here * size / n

    return Cost(at(last.cpu_s, before.cpu_s), at(last.wall_s, before.wall_s))
