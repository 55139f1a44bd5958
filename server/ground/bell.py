"""A bell: rung whenever something has changed, it wakes whoever wants to look, and nobody while nothing does.

    with bell.heard_by(woken):           # an asyncio.Event, which may listen to several bells
        while True:
            woken.clear()                # first, so that what changes while one looks wakes again
            look()
            await woken.wait()

For one event loop: a bell is rung in the loop whose events listen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class Bell:
    """Events that are set each time it is rung."""

    def __init__(self) -> None:
        self._listening: set[asyncio.Event] = set()

    def ring(self) -> None:
        """Wake all who listen."""
        for woken in self._listening:
            woken.set()

    @contextmanager
    def heard_by(self, woken: asyncio.Event) -> Iterator[None]:
        """Have this event set whenever it rings while the body runs. An event listens to a bell once at a time."""
        self._listening.add(woken)
        try:
            yield
        finally:
            self._listening.discard(woken)


async def woken_within(woken: asyncio.Event, seconds: float) -> bool:
    """Return whether the event was set within so many seconds; no later than that."""
    try:
        async with asyncio.timeout(seconds):
            await woken.wait()
    except TimeoutError:
        return False
    return True
