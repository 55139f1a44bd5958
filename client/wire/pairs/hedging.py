"""Hedging: a query that takes longer than nearly all before it is asked of a second pair as well.

The first answer counts. What is slow in one pair (a burst of other work, a line that loses packets) seldom is in
another, so the slowest queries become faster. The price is that such a query is asked twice: it uses up stock and
budgets of a device twice, at the organisation that is in both pairs, and its answer bits count twice.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from veilmatch.client.wire.exchange import DEVIATIONS, nearest_to_the_cause
from veilmatch.crypto.errors import VeilmatchError

#: So many latest queries of one kind are looked at, and so many are needed.
LATEST, FEWEST = 200, 20
#: The part of them that a query may take as long as.
USUAL = 0.95

_R = TypeVar("_R")


class Latencies:
    """How long the latest queries of each kind took, in one client."""

    def __init__(self) -> None:
        self._taken: dict[int, deque[float]] = {}

    def note(self, operation: int, seconds: float) -> None:
        """Note how long an answer took."""
        self._taken.setdefault(operation, deque(maxlen=LATEST)).append(seconds)

    def usual_s(self, operation: int) -> float | None:
        """Return what 95 of 100 queries of this kind do not exceed, None while there were too few to tell."""
        taken = sorted(self._taken.get(operation, ()))
        return taken[int(USUAL * len(taken))] if len(taken) >= FEWEST else None


async def first_answer(
    ask: Callable[[], Coroutine[Any, Any, _R]], ask_another: Callable[[], Coroutine[Any, Any, _R]], after_s: float
) -> _R:
    """Return what `ask` returns, or `ask_another` if that is earlier; it is begun after so many seconds.

    An error of one is raised if the other gives none but an error as well, and at once if it says that somebody
    deviates, which nothing may hide.
    """
    outcome = await _outcome(ask, ask_another, after_s)
    # Raised here, where the calls are gone: an error that is kept must not keep connections open (processes.py).
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome[0]


async def _outcome(
    ask: Callable[[], Coroutine[Any, Any, _R]], ask_another: Callable[[], Coroutine[Any, Any, _R]], after_s: float
) -> tuple[_R] | BaseException:
    tasks = [asyncio.ensure_future(ask())]
    try:
        done, running = await asyncio.wait(tasks, timeout=after_s)
        if not done:
            tasks.append(asyncio.ensure_future(ask_another()))
            done, running = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        while True:
            errors = [error for task in tasks if task.done() and (error := task.exception()) is not None]
            if deviations := [error for error in errors if isinstance(error, DEVIATIONS)]:
                return deviations[0]
            answers = [task.result() for task in tasks if task.done() and task.exception() is None]
            if answers:
                return (answers[0],)
            if not running:
                known = [error for error in errors if isinstance(error, VeilmatchError)]
                return nearest_to_the_cause(known) if len(known) == len(errors) else errors[0]
            _, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
