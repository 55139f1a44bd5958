"""Work in order, some of it ahead."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from functools import partial

import pytest

from veilmatch.server.workers.ahead import ahead


class Work:
    """Pieces of work that end when they are let go, in any order."""

    def __init__(self, count: int) -> None:
        self.begun: list[int] = []
        self.dropped: list[int] = []
        self.go = [asyncio.Event() for _ in range(count)]
        self.pieces = [partial(self.piece, number) for number in range(count)]

    async def piece(self, number: int) -> int:
        self.begun.append(number)
        try:
            await self.go[number].wait()
        except asyncio.CancelledError:
            self.dropped.append(number)
            raise
        if number == 3:
            raise ZeroDivisionError
        return number


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_what_comes_next_is_under_way_and_no_more() -> None:
    work = Work(3)
    async with aclosing(ahead(work.pieces, 2)) as found:
        first = asyncio.ensure_future(anext(found))
        await settled()
        assert work.begun == [0, 1]
        work.go[1].set()
        await settled()
        assert not first.done(), "they come in order"
        work.go[0].set()
        assert await first == 0
        work.go[2].set()
        assert [one async for one in found] == [1, 2]


async def test_an_error_ends_it_and_what_is_under_way() -> None:
    work = Work(6)
    for number in range(4):
        work.go[number].set()
    got = []
    with pytest.raises(ZeroDivisionError):
        async with aclosing(ahead(work.pieces, 3)) as found:
            async for one in found:
                got.append(one)
    assert got == [0, 1, 2] and work.dropped == [4, 5]


@pytest.mark.parametrize("at_once", [1, 2, 9])
async def test_whoever_stops_leaves_nothing_under_way(at_once: int) -> None:
    work = Work(5)
    work.go[0].set()
    async with aclosing(ahead(work.pieces, at_once)) as found:
        assert await anext(found) == 0
        await settled()
    assert work.dropped == work.begun[1:] and len(work.begun) == min(at_once, 5)
