"""Work that has begun ends, although whoever waited for it is told to leave."""

from __future__ import annotations

import asyncio

import pytest

from veilmatch.server.ground.finishing import to_the_end


async def test_a_caller_that_is_cancelled_leaves_when_the_work_is_done_and_not_before() -> None:
    begun, goes_on, done = asyncio.Event(), asyncio.Event(), []

    async def work() -> None:
        begun.set()
        await goes_on.wait()
        done.append("all of it")

    caller = asyncio.ensure_future(to_the_end(work()))
    await begun.wait()
    for _ in range(3):
        caller.cancel()
        await asyncio.sleep(0.01)
        assert not caller.done() and done == []
    goes_on.set()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert done == ["all of it"]


async def test_a_cancelled_caller_leaves_although_the_work_fails() -> None:
    async def work() -> None:
        await asyncio.sleep(0.01)
        raise ValueError("no")

    caller = asyncio.ensure_future(to_the_end(work()))
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller


async def test_a_caller_that_stays_gets_the_result_or_the_error() -> None:
    async def right() -> int:
        return 5

    async def wrong() -> int:
        raise ValueError("no")

    assert await to_the_end(right()) == 5
    with pytest.raises(ValueError, match="no"):
        await to_the_end(wrong())
