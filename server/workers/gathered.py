"""Work of many requests gathered into few requests to workers; see waiting.py for who is served when.

    gathered = GatheredWork(pool, lanes)
    answers = await gathered.done("device-7", b"kind", items)

The handler of the pool is one of parts (parts.py): a message is the kind, one byte, and then the joined items. A worker
takes what waits as soon as it is free, in its own thread: while it computes, what comes waits, and is taken together.
Where nothing waits, nothing is delayed. A request that fails or is given up ends for itself alone.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

from veilmatch.crypto.errors import UnavailableError
from veilmatch.server.workers.parts import join, outcomes
from veilmatch.server.workers.pool import Exchange
from veilmatch.server.workers.threads import Pool
from veilmatch.server.workers.waiting import Job, Part, Waiting

#: What became of the items of a part: an answer of each, or why there is none.
_Outcome = Sequence[bytes | Exception]


class _Promised(Job):
    """A job, the future that its answers are put in, and those that are there already."""

    __slots__ = ("answers", "future", "missing")

    def __init__(self, owner: str, kind: bytes, items: Sequence[bytes], width: int) -> None:
        self.future: asyncio.Future[list[bytes]] = asyncio.get_running_loop().create_future()
        super().__init__(owner, kind, items, width, self.future)
        self.answers: list[bytes] = [b""] * len(items)
        self.missing = len(items)

    def settle(self, start: int, outcome: _Outcome) -> None:
        """Take in what became of some items."""
        if self.future.done():
            return
        for index, answer in enumerate(outcome, start):
            if isinstance(answer, Exception):
                self.future.set_exception(answer)
                return
            self.answers[index] = answer
        self.missing -= len(outcome)
        if not self.missing:
            self.future.set_result(self.answers)


class GatheredWork:
    """lanes: how many items of width 1 a worker computes at the cost of one. For one event loop."""

    def __init__(self, pool: Pool, lanes: int) -> None:
        self._pool = pool
        self._lock = threading.Lock()
        self._waiting = Waiting(lanes)
        #: Workers that nothing was given to, and how many compute now; the others are about to take something.
        self._idle = list(range(pool.count))
        self._computing = 0

    async def done(self, owner: str, kind: bytes, items: Sequence[bytes], width: int = 1) -> list[bytes]:
        """Return what the workers answer to each item, in order.

        owner: whose turn it takes. kind: one byte; work of one kind is computed together. width: lanes of an item.
        Raises the error of an item that failed. What was not begun when this is cancelled is dropped.
        """
        if not items:
            return []
        job = _Promised(owner, kind, items, width)
        with self._lock:
            self._waiting.put(job)
            about_to_take = self._pool.count - len(self._idle) - self._computing
            count = min(len(self._idle), max(0, self._waiting.groups - about_to_take))
            woken = [self._idle.pop() for _ in range(count)]
        try:
            for worker in woken:
                self._wake(worker, job.future.get_loop())
            return await job.future
        finally:
            # Given up, or no worker could be woken. An error that came in the same moment has nobody to go to.
            if not job.future.cancel() and not job.future.cancelled():
                job.future.exception()

    def _wake(self, worker: int, loop: asyncio.AbstractEventLoop) -> None:
        self._pool.lend(worker, partial(self._work, worker, loop))

    def _work(self, worker: int, loop: asyncio.AbstractEventLoop, exchange: Exchange) -> None:
        """Compute one batch of what waits; in the worker's thread. Others that want the worker go before the next."""
        while self._one_batch(worker, loop, exchange):
            with suppress(UnavailableError):  # the pool is closed: what waits is told so by it
                self._wake(worker, loop)
                return

    def _one_batch(self, worker: int, loop: asyncio.AbstractEventLoop, exchange: Exchange) -> bool:
        """Compute what a free worker is to take. Returns whether more waits; if not, it is idle from now on."""
        with self._lock:
            parts = self._waiting.take(self._pool.count - self._computing)
            self._computing += 1
        settled = _computed(parts, exchange)
        with self._lock:
            self._computing -= 1
            goes_on = bool(self._waiting)
            if not goes_on:
                self._idle.append(worker)
        if settled:
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(_settle, settled)
        return goes_on


def _settle(settled: Sequence[tuple[Part, _Outcome]]) -> None:
    for part, outcome in settled:
        job = part.job
        assert isinstance(job, _Promised)
        job.settle(part.start, outcome)


def _computed(parts: Sequence[Part], exchange: Callable[[bytes], bytes]) -> list[tuple[Part, _Outcome]]:
    """Return what became of each part: of all together, or each by itself if that fails."""
    try:
        return _together(parts, exchange) if parts else []
    except Exception as error:
        if len(parts) == 1:
            return [(parts[0], [error])]
    return [found for part in parts for found in _computed([part], exchange)]


def _together(parts: Sequence[Part], exchange: Callable[[bytes], bytes]) -> list[tuple[Part, _Outcome]]:
    items = [item for part in parts for item in part.items]
    answers = iter(outcomes(exchange(parts[0].job.kind + join(items)), len(items)))
    return [(part, [next(answers) for _ in part.items]) for part in parts]
