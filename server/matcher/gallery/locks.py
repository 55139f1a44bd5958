"""A lock for many readers or one writer, in asyncio, in the order in which they come.

Readers that follow each other hold it together. Neither kind waits for more than what was there before: with writers
first, a device that changes a gallery all the time would keep everybody else from reading it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class ReadWriteLock:
    """Queries hold it shared, mutations exclusively."""

    def __init__(self) -> None:
        self._readers = 0
        self._writing = False
        #: Who waits: whether to write, and what tells that it may.
        self._queue: deque[tuple[bool, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def shared(self) -> AsyncIterator[None]:
        """Hold together with other readers."""
        await self._acquire(to_write=False)
        try:
            yield
        finally:
            self._release(wrote=False)

    @asynccontextmanager
    async def exclusive(self) -> AsyncIterator[None]:
        """Hold alone."""
        await self._acquire(to_write=True)
        try:
            yield
        finally:
            self._release(wrote=True)

    async def _acquire(self, *, to_write: bool) -> None:
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waits = (to_write, mine)
        self._queue.append(waits)
        self._let_in()
        try:
            await mine
        except BaseException:
            if mine.done() and not mine.cancelled():
                self._release(wrote=to_write)  # it came in the moment in which the wait ended
            elif waits in self._queue:
                self._queue.remove(waits)
                self._let_in()
            raise

    def _release(self, *, wrote: bool) -> None:
        if wrote:
            self._writing = False
        else:
            self._readers -= 1
        self._let_in()

    def _let_in(self) -> None:
        while self._queue and not self._writing:
            to_write, following = self._queue[0]
            if to_write and self._readers:
                return
            self._queue.popleft()
            if following.done():  # its wait has just ended
                continue
            self._writing = to_write
            self._readers += not to_write
            following.set_result(None)
