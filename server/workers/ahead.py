"""Work in order, some of it ahead: what comes next is under way while somebody deals with what is there."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from typing import Any, TypeVar

_T = TypeVar("_T")


async def ahead(work: Iterable[Callable[[], Coroutine[Any, Any, _T]]], at_once: int) -> AsyncGenerator[_T, None]:
    """Yield what each piece of work returns, in order; up to `at_once` of them are under way.

    Closing the generator, and the first error, cancel what is under way; use it with `aclosing`.
    """
    under_way: deque[asyncio.Task[_T]] = deque()
    try:
        for begin in work:
            under_way.append(asyncio.create_task(begin()))
            if len(under_way) == at_once:
                yield await under_way.popleft()
        while under_way:
            yield await under_way.popleft()
    finally:
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
