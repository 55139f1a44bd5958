"""Encryptions of zero made at rest: each goes into one result at most, and nothing else of an answer changes."""

from __future__ import annotations

import asyncio
import hashlib
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.crypto.toys import TOY
from tests.matcher.cluster.packed import PUBLIC_KEY, SCHEME, decrypt, exponents
from veilmatch.crypto.arithmetic import Integer, from_bytes
from veilmatch.crypto.errors import UnavailableError
from veilmatch.server.matcher.gallery.mutation import GalleryState
from veilmatch.server.matcher.query import preparing
from veilmatch.server.matcher.query.pack_worker import PackWorkers, make_handler
from veilmatch.server.matcher.query.preparing import Rest, Zeros
from veilmatch.server.workers.pool import Exchange, WorkerPool
from veilmatch.server.workers.threads import Pool, WorkerThreads

STATE = GalleryState(1, b"c" * 32)
PACKS = 20
SIZE = TOY.ciphertext_bytes


class Watched:
    """A pool that notes what it was asked, and fails at will."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.asked: list[bytes] = []
        self.fails = False

    @property
    def count(self) -> int:
        return self._pool.count

    async def call(self, worker: int, request: bytes) -> bytes:
        self.asked.append(request[:1])
        if self.fails:
            raise UnavailableError("a worker process has died")
        return await self._pool.call(worker, request)

    def lend(self, worker: int, work: Callable[[Exchange], None]) -> None:
        self._pool.lend(worker, work)


class Matcher:
    """Packs of which content is known, in workers that prepare."""

    def __init__(self, pool: Pool, searches: int, most_bytes: int = 1 << 20) -> None:
        self.pool = Watched(pool)
        self.zeros = Zeros(SIZE, searches, most_bytes)
        self.workers = PackWorkers(self.pool, SCHEME, self.zeros)  # type: ignore[arg-type]
        self.packs = [SCHEME.encrypt_many([Integer(i * j % 251) for j in range(TOY.dimension)]) for i in range(PACKS)]

    async def load(self) -> Matcher:
        contents = {i: b"".join(map(SCHEME.serialise, pack)) for i, pack in enumerate(self.packs)}
        await self.workers.load(0, contents)
        return self

    async def rested(self) -> None:
        """Return when all that is wanted is there."""
        async with asyncio.timeout(30):
            while self.zeros.missing:
                await asyncio.sleep(0.01)

    async def search(self, numbers: Sequence[int] = range(PACKS)) -> list[Integer]:
        """Return the encryption of zero in R of each pack, and check what R decrypts to."""
        share = exponents()
        answer = [r async for part in self.workers.match(0, STATE, numbers, share) for r in part]
        found = []
        for number, r in zip(numbers, answer, strict=True):
            product = SCHEME.product_of_powers(self.packs[number], share.tolist(), TOY.ring_bits)
            assert decrypt(r) == decrypt(SCHEME.serialise(product))
            found.append(SCHEME.divide(SCHEME.parse(r), product))
        return found

    def kept(self) -> list[Integer]:
        """Return what is there, without using it up."""
        data = bytes(self.zeros._made)
        return [from_bytes(data[at : at + SIZE]) for at in range(0, len(data), SIZE)]


@pytest.fixture(autouse=True)
def _rests_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparing, "REST_S", 0.02)


@pytest.fixture(params=["threads", "processes"])
def pool(request: pytest.FixtureRequest) -> Iterator[Pool]:
    kind = WorkerThreads if request.param == "threads" else WorkerPool
    with kind(2, make_handler, PUBLIC_KEY) as made:
        yield made


async def test_each_goes_into_one_result_and_every_result_has_one_of_its_own(pool: Pool) -> None:
    matcher = await Matcher(pool, searches=2).load()
    async with matcher.workers.preparing():
        made, used = set[Integer](), list[Integer]()
        for _ in range(3):
            await matcher.rested()
            kept = matcher.kept()
            assert len(set(kept)) == len(kept) == 2 * PACKS
            made.update(kept)
            used += await matcher.search()
        assert len(set(used)) == len(used) == 3 * PACKS
        assert set(used) <= made, "all were there"
        assert not set(used) & set(matcher.kept())


async def test_what_is_not_there_is_made_as_it_comes(pool: Pool) -> None:
    matcher = await Matcher(pool, searches=1).load()
    async with matcher.workers.preparing():
        await matcher.rested()
    kept = set(matcher.kept())
    first, second = await matcher.search(), await matcher.search()
    assert set(first) == kept and not set(second) & kept
    assert len({*first, *second, Integer(1)}) == 2 * PACKS + 1


async def test_without_it_nothing_is_made_ahead() -> None:
    with WorkerThreads(2, make_handler, PUBLIC_KEY) as threads:
        pool = Watched(threads)
        workers = PackWorkers(pool, SCHEME)  # type: ignore[arg-type]
        async with workers.preparing():
            packs = {i: b"".join(map(SCHEME.serialise, SCHEME.encrypt_zeros(TOY.dimension))) for i in range(3)}
            await workers.load(0, packs)
            await asyncio.sleep(0.1)
            assert [part async for part in workers.match(0, STATE, range(3), exponents())]
            await asyncio.sleep(0.1)
        assert set(pool.asked) == {b"L", b"M"}


async def test_nothing_is_made_while_a_search_is_under_way_or_just_was(pool: Pool) -> None:
    matcher = await Matcher(pool, searches=1).load()
    async with matcher.workers.preparing():
        async with matcher.workers.held(0):
            await asyncio.sleep(0.2)
            assert not len(matcher.zeros) and b"Z" not in matcher.pool.asked
        await matcher.rested()


async def test_of_a_search_that_fails_nothing_comes_back() -> None:
    with WorkerThreads(2, make_handler, PUBLIC_KEY) as threads:
        matcher = await Matcher(threads, searches=1).load()
        async with matcher.workers.preparing():
            await matcher.rested()
        kept = set(matcher.kept())
        matcher.pool.fails = True
        with pytest.raises(UnavailableError):
            await matcher.search()
        matcher.pool.fails = False
        assert not len(matcher.zeros)
        assert not set(await matcher.search()) & kept


async def test_no_more_are_kept_than_bytes_allow() -> None:
    with WorkerThreads(1, make_handler, PUBLIC_KEY) as threads:
        matcher = await Matcher(threads, searches=5, most_bytes=7 * SIZE + SIZE // 2).load()
        async with matcher.workers.preparing():
            await matcher.rested()
            await asyncio.sleep(0.1)
            assert len(matcher.kept()) == 7
            used = await matcher.search(range(5))
            assert len(set(used)) == 5
            await matcher.rested()
            assert len(matcher.kept()) == 7 and not set(used) & set(matcher.kept())


async def test_a_dead_worker_ends_it_quietly() -> None:
    with WorkerThreads(1, make_handler, PUBLIC_KEY) as threads:
        matcher = await Matcher(threads, searches=1).load()
        matcher.pool.fails = True
        async with matcher.workers.preparing():
            await asyncio.sleep(0.2)
        assert matcher.pool.asked.count(b"Z") == 1 and not len(matcher.zeros)


# -- the parts ---------------------------------------------------------------------------------

steps = st.one_of(
    st.tuples(st.just("expect"), st.integers(0, 12)),
    st.tuples(st.just("put"), st.integers(0, 9)),
    st.tuples(st.just("take"), st.integers(0, 9)),
)


@settings(max_examples=200)
@given(st.lists(steps, max_size=40), st.integers(0, 3), st.integers(0, 40))
def test_whatever_is_done_nothing_is_taken_twice(done: list[tuple[str, int]], searches: int, most: int) -> None:
    zeros, number = Zeros(2, searches, most), 0
    put, taken, largest = list[bytes](), list[bytes](), 0
    for what, count in done:
        match what:
            case "expect":
                zeros.expect(count)
                largest = max(largest, count)
            case "put":
                fresh = [(number + i).to_bytes(2, "big") for i in range(count)]
                number += count
                put += fresh
                zeros.put(b"".join(fresh))
            case "take":
                there, found = len(zeros), zeros.take(count)
                assert len(found) == (2 * count if count <= there else 0)
                taken += [found[at : at + 2] for at in range(0, len(found), 2)]
        assert len(zeros) == len(put) - len(taken)
        assert zeros.missing == max(0, min(searches * largest, most // 2) - len(zeros))
    assert len(set(taken)) == len(taken) and set(taken) <= set(put)


async def test_rest_begins_when_all_have_ended_and_a_while_has_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparing, "REST_S", 0.1)
    rest, loop = Rest(), asyncio.get_running_loop()
    with rest.at_work():
        waiting = asyncio.ensure_future(rest.begins())
        with rest.at_work():
            await asyncio.sleep(0.15)
        await asyncio.sleep(0.15)
        assert not waiting.done()
    ended = loop.time()
    await waiting
    assert loop.time() - ended >= 0.099


_PREPARES_AND_DIES = """
import asyncio, hashlib, os, signal
from tests.matcher.test_preparing import Matcher, PUBLIC_KEY, WorkerThreads, make_handler, preparing

async def main():
    preparing.REST_S = 0.0
    with WorkerThreads(1, make_handler, PUBLIC_KEY) as threads:
        matcher = await Matcher(threads, searches=1).load()
        async with matcher.workers.preparing():
            await matcher.rested()
            for zero in matcher.kept():
                print("kept", hashlib.sha256(str(zero).encode()).hexdigest(), flush=True)
            os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


def test_who_was_killed_begins_with_others() -> None:
    """No state is kept anywhere: what the next process prepares, or makes as a search comes, is drawn anew."""
    found = []
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", _PREPARES_AND_DIES], capture_output=True, text=True, timeout=120)
        assert done.returncode == -signal.SIGKILL, done.stderr
        found.append([line[5:] for line in done.stdout.splitlines() if line.startswith("kept ")])
    assert [len(set(one)) for one in found] == [PACKS, PACKS]
    assert not set(found[0]) & set(found[1])
    with WorkerThreads(1, make_handler, PUBLIC_KEY) as threads:
        used = asyncio.run(_searched(threads))
    assert not {hashlib.sha256(str(zero).encode()).hexdigest() for zero in used} & {*found[0], *found[1]}


async def _searched(threads: WorkerThreads) -> list[Integer]:
    return await (await Matcher(threads, searches=1).load()).search()
