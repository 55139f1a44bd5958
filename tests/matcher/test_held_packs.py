"""Packs that a search holds stay what they were while others are loaded, and are let go afterwards."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator, Sequence

import pytest

from tests.crypto.toys import TOY
from tests.matcher.cluster.packed import PUBLIC_KEY, SCHEME, decrypt, exponents
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.packing.fields import Array
from veilmatch.server.matcher.gallery.mutation import GalleryState
from veilmatch.server.matcher.query import pack_worker
from veilmatch.server.matcher.query.pack_versions import PackVersions
from veilmatch.server.matcher.query.pack_worker import PackWorkers, make_handler
from veilmatch.server.workers.pool import WorkerPool
from veilmatch.server.workers.threads import Pool, WorkerThreads

STATE = GalleryState(1, b"c" * 32)
PACKS = 20


@pytest.fixture(params=["threads", "processes"])
def pool(request: pytest.FixtureRequest) -> Iterator[Pool]:
    kind = WorkerThreads if request.param == "threads" else WorkerPool
    with kind(2, make_handler, PUBLIC_KEY) as made:
        yield made


class Loaded:
    """Workers that are given packs of which the clear content is known."""

    def __init__(self, pool: Pool) -> None:
        self.workers = PackWorkers(pool, SCHEME)
        self.clear: dict[int, list[int]] = {}

    async def load(self, numbers: Sequence[int], gallery: int = 0) -> None:
        contents = {}
        for number in numbers:
            clear = [secrets.randbits(200) for _ in range(TOY.dimension)]
            self.clear[number] = clear
            contents[number] = b"".join(map(SCHEME.serialise, SCHEME.encrypt_many([Integer(m) for m in clear])))
        await self.workers.load(gallery, contents)

    async def match(self, share: Array, numbers: Sequence[int], held: int | None = None) -> list[int]:
        parts = self.workers.match(0, STATE, numbers, share, held)
        return [decrypt(r) async for part in parts for r in part]


def products(clear: dict[int, list[int]], share: Array, numbers: Sequence[int]) -> list[int]:
    modulus = int(PUBLIC_KEY.modulus)
    return [sum(int(e) * m for e, m in zip(share, clear[n], strict=True)) % modulus for n in numbers]


@pytest.fixture
async def loaded(pool: Pool) -> Loaded:
    made = Loaded(pool)
    await made.load(range(PACKS))
    return made


async def test_what_is_held_is_answered_whatever_is_loaded(loaded: Loaded) -> None:
    share, numbers = exponents(), range(PACKS)
    first = dict(loaded.clear)
    async with loaded.workers.held(0) as one:
        await loaded.load([3, 4, 11])
        second = dict(loaded.clear)
        async with loaded.workers.held(0) as two:
            await loaded.load([4, PACKS, PACKS + 1])
            assert await loaded.match(share, numbers, one) == products(first, share, numbers)
            assert await loaded.match(share, numbers, two) == products(second, share, numbers)
            assert await loaded.match(share, range(PACKS + 2)) == products(loaded.clear, share, range(PACKS + 2))
        assert await loaded.match(share, numbers, one) == products(first, share, numbers)
        await loaded.load([4])
        assert await loaded.match(share, numbers, one) == products(first, share, numbers)
    assert await loaded.match(share, range(PACKS + 2)) == products(loaded.clear, share, range(PACKS + 2))


async def test_a_search_in_slices_is_one_answer_while_packs_change(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pack_worker, "SLICE_PACKS", 3)
    share, numbers, first = exponents(), [19, *range(18), 18], dict(loaded.clear)
    async with loaded.workers.held(0) as held:
        searching = asyncio.ensure_future(loaded.match(share, numbers, held))
        for number in (0, 7, 19, 12):
            await asyncio.sleep(0)
            await loaded.load([number])
        assert await searching == products(first, share, numbers)
    assert await loaded.match(share, numbers) == products(loaded.clear, share, numbers)


async def test_another_gallery_is_not_touched_by_what_is_held(loaded: Loaded) -> None:
    other = Loaded.__new__(Loaded)
    other.workers, other.clear = loaded.workers, {}
    async with loaded.workers.held(0) as held:
        await other.load(range(3), gallery=1)
        share = exponents()
        assert await loaded.match(share, range(PACKS), held) == products(loaded.clear, share, range(PACKS))
        found = [r async for part in loaded.workers.match(1, STATE, range(3), share) for r in part]
        assert [decrypt(r) for r in found] == products(other.clear, share, range(3))


async def test_what_nobody_holds_any_more_is_let_go() -> None:
    with WorkerThreads(2, make_handler, PUBLIC_KEY) as pool:
        loaded = Loaded(pool)
        await loaded.load(range(PACKS))
        versions: PackVersions = pool._handler.__self__._groups  # type: ignore[attr-defined]
        once = len(versions)
        async with loaded.workers.held(0):
            for _ in range(3):
                await loaded.load([0])
            assert len(versions) > once
            async with loaded.workers.held(0):
                await loaded.load([0, 9])
        assert len(versions) == once
        await loaded.load([0])
        assert len(versions) == once, "without anybody who holds it, a pack is replaced where it is"


async def test_one_search_that_is_kept_waiting_costs_one_version_of_a_group_however_often_it_changes() -> None:
    """A deviating matcher can keep the other one's search waiting, and enrol meanwhile."""
    with WorkerThreads(2, make_handler, PUBLIC_KEY) as pool:
        loaded = Loaded(pool)
        await loaded.load(range(PACKS))
        versions: PackVersions = pool._handler.__self__._groups  # type: ignore[attr-defined]
        once, share, first = len(versions), exponents(), dict(loaded.clear)
        async with loaded.workers.held(0) as waiting:
            for _ in range(5):
                await loaded.load([0])
                async with loaded.workers.held(0) as short:
                    assert await loaded.match(share, [0], short) == products(loaded.clear, share, [0])
                    await loaded.load([0])
                    assert len(versions) <= once + 2
            assert len(versions) == once + 1
            assert await loaded.match(share, range(PACKS), waiting) == products(first, share, range(PACKS))
        assert len(versions) == once


async def test_a_search_that_fails_or_is_given_up_holds_nothing(loaded: Loaded) -> None:
    with pytest.raises(ZeroDivisionError):
        async with loaded.workers.held(0):
            await loaded.load([1])
            raise ZeroDivisionError
    assert not +loaded.workers._held[0] and not loaded.workers._versioned[0]
