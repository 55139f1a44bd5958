"""The lock of a gallery: readers together, one writer alone, in the order in which they come."""

from __future__ import annotations

import asyncio

import pytest

from veilmatch.server.matcher.gallery.locks import ReadWriteLock


class Log:
    """Readers and writers of one lock; `order` says who got it, `inside` who has it."""

    def __init__(self) -> None:
        self.lock = ReadWriteLock()
        self.order: list[str] = []
        self.inside: list[str] = []

    async def hold(self, name: str, takes_s: float = 0.01) -> None:
        async with self.lock.exclusive() if name.startswith("w") else self.lock.shared():
            self.inside.append(name)
            self.order.append(name)
            assert len(self.inside) == 1 or not any(one.startswith("w") for one in self.inside)
            await asyncio.sleep(takes_s)
            self.inside.remove(name)

    def all(self, *names: str) -> list[asyncio.Task[None]]:
        return [asyncio.create_task(self.hold(name)) for name in names]


async def test_all_get_it_in_the_order_in_which_they_come() -> None:
    log = Log()
    names = ("r1", "r2", "w1", "r3", "w2", "w3", "r4", "r5")
    await asyncio.gather(*log.all(*names))
    assert log.order == list(names)


async def test_writers_that_never_end_do_not_keep_a_reader_out() -> None:
    log = Log()
    over = False

    async def writes(name: str) -> None:
        while not over:
            await log.hold(name)

    writers = [asyncio.create_task(writes(f"w{n}")) for n in range(2)]
    await asyncio.sleep(0.02)
    async with asyncio.timeout(2):
        await log.hold("r")
    over = True
    await asyncio.gather(*writers)


async def test_readers_that_never_end_do_not_keep_a_writer_out() -> None:
    log = Log()
    first = log.all("r1")
    await asyncio.sleep(0)
    later = log.all("w1", "r2")
    await asyncio.gather(*first, *later)
    assert log.order == ["r1", "w1", "r2"]


@pytest.mark.parametrize("leaves", [0, 1, 2, 3])
@pytest.mark.parametrize("after_s", [0.0, 0.005, 0.015])
async def test_whoever_leaves_holds_nobody_up(leaves: int, after_s: float) -> None:
    log = Log()
    tasks = log.all("r1", "w1", "r2", "w2")
    await asyncio.sleep(after_s)
    tasks[leaves].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    async with asyncio.timeout(1), log.lock.exclusive():
        pass
