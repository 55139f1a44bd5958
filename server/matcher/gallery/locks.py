"""A lock for many readers or one writer, in asyncio, in the order in which they come.

Readers that follow each other hold it together. Neither kind waits for more than what was there before: with writers
first, a device that changes a gallery all the time would keep everybody else from reading it.

Whoever prepares a large change keeps other writers out and lets readers in, and then switches, which is short:

    async with lock.preparing():
        ...                                    # write beside what is read
        async with lock.switching():
            ...                                # alone
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

_Kind = Literal["read", "prepare", "write"]


class ReadWriteLock:
    """Queries hold it shared, mutations exclusively, and whoever takes many changes prepares them first."""

    def __init__(self) -> None:
        self._readers = 0
        self._writing = False
        self._preparing = False
        #: Set while nobody prepares.
        self._prepared = asyncio.Event()
        self._prepared.set()
        #: What tells who prepares that it may switch.
        self._switch: asyncio.Future[None] | None = None
        #: Who waits, and what tells that it may.
        self._queue: deque[tuple[_Kind, asyncio.Future[None]]] = deque()

    @property
    def is_preparing(self) -> bool:
        """Whether somebody prepares a change: a writer may have to wait for long, a reader need not."""
        return self._preparing

    async def prepared(self, within_s: float) -> bool:
        """Return whether nobody prepares a change; waits so long for its end."""
        try:
            async with asyncio.timeout(within_s):
                while self._preparing:
                    await self._prepared.wait()
        except TimeoutError:
            pass
        return not self._preparing

    @asynccontextmanager
    async def shared(self) -> AsyncIterator[None]:
        """Hold together with other readers."""
        await self._acquire("read")
        try:
            yield
        finally:
            self._release("read")

    @asynccontextmanager
    async def exclusive(self) -> AsyncIterator[None]:
        """Hold alone."""
        await self._acquire("write")
        try:
            yield
        finally:
            self._release("write")

    @asynccontextmanager
    async def preparing(self) -> AsyncIterator[None]:
        """Hold with readers, and no writer."""
        await self._acquire("prepare")
        try:
            yield
        finally:
            self._release("prepare")

    @asynccontextmanager
    async def switching(self) -> AsyncIterator[None]:
        """Hold alone, for who is preparing; readers that come meanwhile wait."""
        assert self._preparing and self._switch is None
        switch = self._switch = asyncio.get_running_loop().create_future()
        self._let_in()
        try:
            await switch
        except BaseException:
            if switch.done() and not switch.cancelled():
                self._release("write")  # it came in the moment in which the wait ended
            else:
                self._switch = None
                self._let_in()
            raise
        try:
            yield
        finally:
            self._release("write")

    async def _acquire(self, kind: _Kind) -> None:
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waits = (kind, mine)
        self._queue.append(waits)
        self._let_in()
        try:
            await mine
        except BaseException:
            if mine.done() and not mine.cancelled():
                self._release(kind)  # it came in the moment in which the wait ended
            elif waits in self._queue:
                self._queue.remove(waits)
                self._let_in()
            raise

    def _release(self, kind: _Kind) -> None:
        if kind == "write":
            self._writing = False
        elif kind == "prepare":
            self._preparing = False
            self._prepared.set()
        else:
            self._readers -= 1
        self._let_in()

    def _let_in(self) -> None:
        if self._switch is not None and not self._writing:
            if self._readers:
                return
            switch, self._switch, self._writing = self._switch, None, True
            switch.set_result(None)
        kept: deque[tuple[_Kind, asyncio.Future[None]]] = deque()
        while self._queue and not self._writing:
            waits = kind, following = self._queue[0]
            if kind == "write" and self._readers and not self._preparing:
                break
            self._queue.popleft()
            if following.done():  # its wait has just ended
                continue
            if kind != "read" and self._preparing:
                kept.append(waits)  # readers pass it: what it waits for takes longer than they do
                continue
            self._writing, self._preparing = kind == "write", self._preparing or kind == "prepare"
            if kind == "prepare":
                self._prepared.clear()
            self._readers += kind == "read"
            following.set_result(None)
        self._queue.extendleft(reversed(kept))
