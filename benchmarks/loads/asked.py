"""Requests that devices made, and the figures of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: What devices of a mix ask, as parts of all requests.
MIX = {"verify": 0.7, "identify": 0.15, "candidates": 0.05, "enrol": 0.1}
QUANTILES = {"p50_s": 0.5, "p95_s": 0.95, "p99_s": 0.99}
#: Seconds of a window in which answers are counted, by arrival.
WINDOW_S = 5.0
#: The part of a load before answers a second are counted.
WARM = 0.25


@dataclass(frozen=True)
class Asked:
    """One request. came_s: when it was due, ended_s: when its outcome was there, since the load began.

    error: its code, empty if it was answered. wrong: whether the answer is another than that of plain integers.
    """

    operation: str
    device: int
    came_s: float
    ended_s: float
    error: str = ""
    wrong: bool = False


def weights_of(operation: str) -> dict[str, float]:
    """Return which parts of the requests are what: all of an operation, or those of "mix"."""
    return MIX if operation == "mix" else {operation: 1.0}


def summary(asked: Sequence[Asked], seconds: float) -> dict[str, Any]:
    """Return the figures of all requests that came within these seconds; the last ones may have ended later.

    Times of an answer are counted from when the request was due: one that had to wait at the device, because everything
    before it took long, waited all the same. Answers a second are those that came in the time behind its first part:
    at the beginning nothing is under way yet, and after the end ever less.
    """
    took = sorted(a.ended_s - a.came_s for a in asked if not a.error)
    windows = [0] * max(1, round(seconds / WINDOW_S))
    for a in asked:
        if not a.error:
            windows[min(int(a.came_s / WINDOW_S), len(windows) - 1)] += 1
    counted_from_s = WARM * seconds
    within = sum(not a.error and counted_from_s < a.ended_s <= seconds for a in asked)
    return {
        "arrived": len(asked),
        "answered": len(took),
        "lasted_s": max((a.ended_s for a in asked), default=0.0),
        "answered_a_second": within / (seconds - counted_from_s),
        **{name: quantile(took, part) for name, part in QUANTILES.items()},
        "most_s": took[-1] if took else None,
        "wrong": sum(a.wrong for a in asked),
        "errors": dict(Counter(a.error for a in asked if a.error)),
        "operations": dict(Counter(a.operation for a in asked)),
        "answered_by_window": windows,
    }


def quantile(ordered: Sequence[float], part: float) -> float | None:
    """Return the least value that this part of all are not above; None if there is none. ordered: ascending."""
    if not ordered:
        return None
    rank = -int(-part * len(ordered) // 1)  # rounded up
    return ordered[max(rank, 1) - 1]


def cpu_of_a_request(
    before: Mapping[str, float], after: Mapping[str, float], devices_s: float, answered: int
) -> dict[str, Any]:
    """Return the CPU seconds of an answered request: of every daemon, of both kinds, of the devices and of all.

    before, after: of every daemon so far. What was refused or failed costs time too, and is in it.
    """
    count = max(1, answered)
    by_daemon = {party: (after[party] - before[party]) / count for party in after}
    kinds = {kind: sum(s for p, s in by_daemon.items() if p.startswith(kind)) for kind in ("matcher", "keyholder")}
    return {
        "by_daemon_s": by_daemon, "matchers_s": kinds["matcher"], "keyholders_s": kinds["keyholder"],
        "daemons_s": sum(by_daemon.values()), "devices_s": devices_s / count,
    }  # fmt: skip
