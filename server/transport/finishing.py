"""Work that has to end once it has begun, whoever waits for it: half a change must not lose its lock."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")
#: The event loop keeps weak references only.
_running: set[asyncio.Task[Any]] = set()


async def to_the_end(work: Coroutine[Any, Any, _T]) -> _T:
    """Return what `work` returns. If the caller is cancelled meanwhile, the work goes on to its end without it."""
    task = asyncio.ensure_future(work)
    _running.add(task)
    task.add_done_callback(_ended)
    return await asyncio.shield(task)


def _ended(task: asyncio.Task[Any]) -> None:
    _running.discard(task)
    if not task.cancelled():
        task.exception()  # noted: the caller may be gone and nobody else take it
