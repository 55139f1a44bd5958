"""Work that has to end once it has begun, whoever waits for it: half a change must not lose its lock."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from typing import TypeVar

_T = TypeVar("_T")


async def to_the_end(work: Awaitable[_T]) -> _T:
    """Return what `work` returns. A caller that is cancelled meanwhile leaves once the work is done, and not before.

    So whatever the caller holds for the work, its lock, its turn, its memory, stays held as long as it goes on.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # noted: nobody is left to take it
        raise
