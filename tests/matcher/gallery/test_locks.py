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
    async with asyncio.timeout(20), log.lock.exclusive():
        pass


async def test_who_prepares_lets_readers_in_and_keeps_writers_out() -> None:
    """Readers pass a writer that waits for it, and none while it switches; the writer comes right after it."""
    lock, seen = ReadWriteLock(), []

    async def read(name: str) -> None:
        async with lock.shared():
            seen.append(name)

    async def write() -> None:
        async with lock.exclusive():
            seen.append("written")

    async with lock.preparing():
        assert lock.is_preparing
        writing = asyncio.ensure_future(write())
        await asyncio.sleep(0)
        async with asyncio.timeout(20):
            await read("before")
        async with lock.shared():
            switching = lock.switching()
            entering = asyncio.ensure_future(switching.__aenter__())
            await asyncio.sleep(0)
            assert not entering.done()
            reading = asyncio.ensure_future(read("after"))
            await asyncio.sleep(0)
            assert seen == ["before"]
        async with asyncio.timeout(20):
            await entering
        assert not reading.done()
        seen.append("switched")
        await switching.__aexit__(None, None, None)
        async with asyncio.timeout(20):
            await reading
        assert not writing.done()
    async with asyncio.timeout(20):
        await writing
    assert seen == ["before", "switched", "after", "written"]
    assert not lock.is_preparing


async def test_whoever_waits_until_nobody_prepares_does_so_as_long_as_it_says() -> None:
    lock = ReadWriteLock()
    assert await lock.prepared(0.0)
    async with lock.preparing():
        assert not await lock.prepared(0.01)
        waiting = asyncio.ensure_future(lock.prepared(10.0))
        async with lock.switching():
            pass
        await asyncio.sleep(0)
        assert not waiting.done()
    async with asyncio.timeout(20):
        assert await waiting
    # Another one came first: it is told so, not that the first has ended.
    async with lock.preparing():
        waiting = asyncio.ensure_future(lock.prepared(0.02))
        await asyncio.sleep(0)
        following = lock.preparing()
        next_one = asyncio.ensure_future(following.__aenter__())
        await asyncio.sleep(0)
    async with asyncio.timeout(20):
        assert not await waiting
        await next_one
    await following.__aexit__(None, None, None)


async def test_who_prepares_waits_for_writers_and_for_others_who_do() -> None:
    lock, order = ReadWriteLock(), []

    async def prepare(name: str) -> None:
        async with lock.preparing():
            order.append(name)
            await asyncio.sleep(0)
            async with lock.switching():
                order.append(name)

    async with lock.exclusive():
        both = asyncio.gather(prepare("one"), prepare("two"))
        await asyncio.sleep(0.01)
        assert order == []
    async with asyncio.timeout(20):
        await both
    assert order == ["one", "one", "two", "two"]


async def test_a_switch_that_is_given_up_keeps_nobody_out() -> None:
    lock = ReadWriteLock()
    async with lock.preparing():
        async with lock.shared():
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01), lock.switching():
                    raise AssertionError("a reader is there")
        async with asyncio.timeout(20), lock.shared():
            pass
        async with asyncio.timeout(20), lock.switching():
            pass
    async with asyncio.timeout(20), lock.exclusive():
        pass
