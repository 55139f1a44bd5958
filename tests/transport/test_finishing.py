"""Work that has begun ends, although whoever waited for it has gone."""

from __future__ import annotations

import asyncio

import pytest

from veilmatch.server.transport.finishing import to_the_end


async def test_work_goes_on_without_its_caller() -> None:
    begun, goes_on, done = asyncio.Event(), asyncio.Event(), []

    async def work() -> str:
        begun.set()
        await goes_on.wait()
        done.append("all of it")
        return "result"

    caller = asyncio.ensure_future(to_the_end(work()))
    await begun.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert done == []
    goes_on.set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert done == ["all of it"]


async def test_a_caller_that_stays_gets_the_result_or_the_error() -> None:
    async def right() -> int:
        return 5

    async def wrong() -> int:
        raise ValueError("no")

    assert await to_the_end(right()) == 5
    with pytest.raises(ValueError, match="no"):
        await to_the_end(wrong())
