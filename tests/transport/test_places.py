"""Places to wait in: a bounded number, and a newcomer takes one of whoever has most."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from veilmatch.crypto.errors import OverloadedError
from veilmatch.server.ground.places import Places


class House:
    """Places, and who waits in them until the end of the test or until it is pushed out."""

    def __init__(self, count: int) -> None:
        self.places = Places(count, "matcher-b")
        self.inside: Counter[str] = Counter()
        self.most = 0

    async def wait(self, name: str, within_s: float | None = 5.0) -> None:
        async with self.places.place(name, within_s):
            self.inside[name] += 1
            self.most = max(self.most, self.inside.total())
            try:
                await asyncio.sleep(10)
            finally:
                self.inside[name] -= 1

    async def come(self, *names: str) -> list[asyncio.Task[None]]:
        tasks = []
        for name in names:
            tasks.append(asyncio.create_task(self.wait(name)))
            tasks[-1].add_done_callback(lambda task: task.cancelled() or task.exception())
            await asyncio.sleep(0.002)
        return tasks


async def test_there_are_never_more_than_there_are_places() -> None:
    house = House(4)
    await house.come(*"aabbccddeeff")
    assert house.inside.total() == 4 and house.most <= 5, "one that is pushed out takes a moment to leave"


async def test_a_newcomer_pushes_out_the_oldest_of_whoever_has_most() -> None:
    house = House(4)
    greedy = await house.come("kiosk", "door", "kiosk", "kiosk")
    (newcomer,) = await house.come("gate")
    with pytest.raises(OverloadedError) as caught:
        await greedy[0]
    assert caught.value.party == "matcher-b" and caught.value.retry_after_s
    assert house.inside == Counter(kiosk=2, door=1, gate=1) and not newcomer.done()


async def test_whoever_has_most_pushes_out_itself() -> None:
    house = House(4)
    door, *_ = await house.come("door", "kiosk", "kiosk", "kiosk", *["kiosk"] * 100)
    assert not door.done() and house.inside == Counter(kiosk=3, door=1)


async def test_twenty_greedy_ones_keep_nobody_out() -> None:
    house = House(40)
    await house.come(*(f"greedy-{n % 20}" for n in range(120)))
    (door,) = await house.come("door")
    await house.come(*(f"greedy-{n % 20}" for n in range(120)))
    assert not door.done() and house.inside["door"] == 1


async def test_a_place_ends_in_time_and_is_free_then() -> None:
    house = House(1)
    with pytest.raises(TimeoutError):
        await house.wait("a", 0.01)
    (b,) = await house.come("b")
    assert house.inside == Counter(b=1) and not b.done()
