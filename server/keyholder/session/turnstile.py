"""The turnstile of a key holder: sessions pass it freely, and wait before it while the key is changed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turnstile:
    """Counts the sessions inside, and can be closed until those have left."""

    def __init__(self) -> None:
        self._inside = 0
        self._empty = asyncio.Event()
        self._empty.set()
        self._open = asyncio.Event()
        self._open.set()

    @asynccontextmanager
    async def passed(self) -> AsyncIterator[None]:
        """Be inside; waits first if it is closed."""
        await self._open.wait()
        self._inside += 1
        self._empty.clear()
        try:
            yield
        finally:
            self._inside -= 1
            if not self._inside:
                self._empty.set()

    @asynccontextmanager
    async def closed(self, patience_s: float) -> AsyncIterator[bool]:
        """Hold newcomers back, and give those inside so long to leave; yields whether all have left. For one caller."""
        self._open.clear()
        try:
            try:
                await asyncio.wait_for(self._empty.wait(), patience_s)
            except TimeoutError:
                yield False
            else:
                yield True
        finally:
            self._open.set()
