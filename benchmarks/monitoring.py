"""What monitoring costs: CPU time of what is counted for one verification, of a scrape, and of a word to a neighbour.

    python benchmarks/monitoring.py

Beside it, `python benchmarks/load.py --against REVISION` has the CPU time of whole requests.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from prometheus_client import generate_latest

from veilmatch.crypto.health import read_said
from veilmatch.server.monitoring import calls, meters
from veilmatch.server.monitoring.readings import GAUGES, _families

#: What a key holder hands to its workers for one verification, generously.
_TASKS = 10


def one_verification() -> None:
    """Count what a key holder counts for one verification."""
    with calls.call("Serve"):
        calls.about("verify")
        watch = calls.Stages()
        for stage in ("check", "note", "meet", "session"):
            watch.lap(stage)
    meters.charged({"device": "", "gallery": ""}, {"requests": 1, "searches": 0, "bits": 1})
    for of in ("ledger", "audit log"):
        meters.synced(of, 1, 0.001)
    for _ in range(_TASKS):
        meters.worked(0.001)


def scrape() -> None:
    """Write all metrics, each gauge with six values."""
    readings = {
        name: {tuple(f"{label}{i}" for label in labels): 1.0 for i in range(6 if labels else 1)}
        for name, (_, labels) in GAUGES.items()
    }
    list(_families(readings))
    generate_latest(meters.REGISTRY)


def neighbour() -> None:
    """Read what another server says of itself."""
    read_said(b'{"time_ms": 1764500000000, "holds": ["gallery", "keyholder", "pair-ab", "pair-ac", "ready"]}')


def cpu_of(work: Callable[[], None], times: int) -> float:
    """Return the CPU seconds of one call."""
    work()
    started = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - started) / times


if __name__ == "__main__":
    print(f"counting one verification, at a key holder: {1e6 * cpu_of(one_verification, 10_000):.0f} us of CPU")
    print(f"one scrape: {1e3 * cpu_of(scrape, 300):.1f} ms of CPU")
    print(f"what a neighbour says: {1e6 * cpu_of(neighbour, 10_000):.0f} us of CPU")
