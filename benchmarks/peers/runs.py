"""All measurements of one run, as one document: rows, what is missing, and what Veilmatch is held to."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.machine import cpu, only_one_core
from benchmarks.peers import paillier_libraries, plain, tenseal_expert, tenseal_users, twin, veilmatch
from benchmarks.peers.backend import backends
from benchmarks.peers.rows import FULL, QUICK, Peer, Row, Sizes
from benchmarks.peers.shared import measuring as shared
from benchmarks.peers.work import PARAMETERS
from veilmatch.crypto.keys.ceremony import run_ceremony
from veilmatch.crypto.rings.choice import REFERENCE

#: A peer of one cell, and how it is measured.
Cell = tuple[list[Peer], Callable[[], Iterable[Row]]]


@dataclass(frozen=True)
class Bar:
    """Veilmatch `candidates` is to take at most 1/needed of a peer's CPU time."""

    peer: str
    needed: float


BARS = (
    Bar(tenseal_users.PEER.name, 100.0),
    Bar(tenseal_expert.PEER.name, 1.0),
    Bar(twin.peer(backends()[0], 2).name, 100.0),
    Bar(twin.peer(backends()[0], None).name, 100.0),
)


def run(quick: bool, progress: Callable[[str], None] = lambda step: None, only: Sequence[str] = ()) -> dict[str, Any]:
    """Measure everything on one core and return the figures; progress: told what is being measured.

    quick: D = 128 and at most 1,000 identities. only: cells with a peer in whose name one of these stands; none: all.
    Keys: cpu, cores, quick, box_s, peers, rows, missing, bars.
    """
    with _one_core():
        return _run(quick, progress, only)


def _run(quick: bool, progress: Callable[[str], None], only: Sequence[str]) -> dict[str, Any]:
    sizes, dimensions = (QUICK, (128,)) if quick else (FULL, tuple(PARAMETERS))
    rows: list[Row] = []
    peers: dict[str, Peer] = {}
    missing: dict[str, str] = {}
    for dimension in dimensions:
        for these, measure in cells(dimension, sizes, quick):
            if only and not any(part in peer.name for part in only for peer in these):
                continue
            progress(f"D = {dimension}: {', '.join(peer.name for peer in these)}")
            found = attempt(these, measure, missing)
            rows += found
            peers |= {peer.name: peer for peer in these} if found else {}
    return {
        "cpu": cpu(),
        "cores": 1,
        "quick": quick,
        "box_s": sizes.box_s,
        "peers": {name: asdict(peer) for name, peer in peers.items()},
        "rows": [row.as_json() for row in rows],
        "missing": [{"peer": name, "install": package} for name, package in missing.items()],
        "bars": list(held_to(rows, sizes)),
    }


def cells(dimension: int, sizes: Sizes, quick: bool) -> Iterator[Cell]:
    """Yield what is measured at one dimension, the cheapest first."""
    best = backends()[0]
    yield [plain.PEER], lambda: plain.rows(dimension, sizes)
    yield [shared.PEER], lambda: shared.rows(dimension, sizes)
    yield (
        [veilmatch.peer(operation, backend) for backend in backends() for operation in veilmatch.OPERATIONS],
        lambda: veilmatch.rows(dimension, sizes),
    )
    yield [tenseal_expert.PEER], lambda: tenseal_expert.rows(dimension, sizes)
    yield [tenseal_users.PEER], lambda: tenseal_users.rows(dimension, sizes)
    yield [paillier_libraries.PHE], lambda: paillier_libraries.phe_rows(dimension, sizes)
    yield [paillier_libraries.LIGHTPHE], lambda: paillier_libraries.lightphe_rows(dimension, sizes)
    variants = [(best, None), (best, 2)] + (
        [(REFERENCE, None), (REFERENCE, 2)] if not quick and best != REFERENCE else []
    )
    yield [twin.peer(*variant) for variant in variants], lambda: _twins(dimension, sizes, variants)


@contextmanager
def _one_core() -> Iterator[None]:
    """Keep this process, and those that it starts, on one core; give it back what it had."""
    before = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    only_one_core()
    try:
        yield
    finally:
        if before is not None:
            os.sched_setaffinity(0, before)


def _twins(dimension: int, sizes: Sizes, variants: list[tuple[str, int | None]]) -> Iterator[Row]:
    ceremony = run_ceremony(PARAMETERS[dimension])
    for backend, values in variants:
        yield from twin.rows(dimension, sizes, ceremony, backend, values)


def attempt(peers: list[Peer], measure: Callable[[], Iterable[Row]], missing: dict[str, str]) -> list[Row]:
    """Return the rows of a cell; without a package that it needs, none, and the peers are noted as missing."""
    try:
        return list(measure())
    except ModuleNotFoundError as error:
        packages = {peer.requires for peer in peers}
        if None in packages or (error.name or "").split(".")[0] not in packages:
            raise
        missing |= {peer.name: peer.requires for peer in peers if peer.requires}
        return []


def held_to(rows: list[Row], sizes: Sizes) -> Iterator[dict[str, Any]]:
    """Yield, for every bar, dimension and size, the ratio of the peer's CPU time to that of Veilmatch `candidates`."""
    own = veilmatch.peer("candidates", backends()[0]).name
    at = {(row.peer, row.dimension, row.identities): row for row in rows}
    for bar in BARS:
        for (name, dimension, size), row in at.items():
            mine = at.get((own, dimension, size))
            if name == bar.peer and mine is not None:
                ratio = row.cpu_s / mine.cpu_s
                yield {
                    "peer": name,
                    "dimension": dimension,
                    "identities": size,
                    "needed": bar.needed,
                    "ratio": ratio,
                    "met": ratio >= bar.needed,
                    "extrapolated": row.extrapolated is not None or mine.extrapolated is not None,
                }
