"""A search holds the gallery's lock until it has what it asks about, and no longer where packs can be kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.crypto.toys import TOY
from tests.matcher.cluster.packed import SCHEME, Packed, decrypt
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.packing.fields import Array
from veilmatch.server.matcher.gallery.labels import Known
from veilmatch.server.matcher.gallery.mutation import GalleryState
from veilmatch.server.matcher.query.matching import Matched, match
from veilmatch.server.matcher.query.pack_worker import PackWorkers

NOBODY = Known(0, b"")


class Query:
    """One side of a search over a gallery of real ciphertexts. The key holder and the other matcher are stood in for:
    they say when the search goes on. share: of the probe. keeps: whether packs are kept."""

    def __init__(self, packed: Packed, share: Array, *, keeps: bool) -> None:
        self.packed, self.share, self.keeps = packed, share, keeps
        self.opened, self.go_on = asyncio.Event(), asyncio.Event()
        self.state: GalleryState | None = None
        self.sent: list[bytes] = []
        self.wanted, self.passed = np.zeros((0, TOY.slots), dtype=np.bool_), False
        self.meeting: Any = SimpleNamespace(swap_results=self._swap, of_peer=nullcontext)
        self.is_plus = True

    async def ask(self, operation: str = "candidates") -> Matched:
        checked = SimpleNamespace(operation=operation, recipient=None, pair="ab", digest=bytes(32), views=1)
        on: Any = SimpleNamespace(
            agreement=SimpleNamespace(reading=lambda meeting, gallery: gallery.lock.shared()),
            workers=self.packed.here if self.keeps else Unkept(self.packed.here),
            scheme=SCHEME, open_session=self._session, is_plus=lambda pair: self.is_plus,
        )  # fmt: skip
        request: Any = SimpleNamespace(subject="s3")
        return await match(checked, request, "model-1", NOBODY, self.packed.gallery, self.meeting, on)  # type: ignore[arg-type]

    @asynccontextmanager
    async def _session(self, checked: Any, request: Any, state: GalleryState, **_: Any) -> AsyncIterator[Any]:
        self.state = state
        self.opened.set()
        await self.go_on.wait()
        yield self

    async def _swap(self, session_id: bytes, made: Any, count: int, size: int, take: Any) -> None:
        async for mine in made:
            self.sent += mine
            await take(mine, [SCHEME.serialise(SCHEME.encode(Integer(1))) for _ in mine])
        assert len(self.sent) == count and all(len(sent) == size for sent in self.sent)

    async def probe_share(self, views: int) -> Any:
        assert views == 1
        return SimpleNamespace(session_id=bytes(32), values=self.share)

    async def send_results(self, results: list[bytes], wanted: Any, *, last: bool) -> None:
        assert len(results) == len(wanted) and not self.passed
        self.wanted, self.passed = np.concatenate([self.wanted, wanted]), last

    async def decision_share(self, count: int, packs: int) -> Any:
        return SimpleNamespace(session_id=bytes(32), bits=bytes(-(-count // 8)), valid=True)


class Unkept:
    """Workers that keep no packs, as on a cluster."""

    def __init__(self, workers: PackWorkers) -> None:
        self._workers = workers

    @asynccontextmanager
    async def held(self, gallery: int) -> AsyncIterator[None]:
        yield None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._workers, name)


@pytest.fixture
async def packed(tmp_path: Path) -> Packed:
    return await Packed(tmp_path).open()


def exponents() -> Array:
    return np.arange(1, TOY.dimension + 1, dtype=np.int64)


async def test_a_change_does_not_wait_for_a_search_that_has_begun(packed: Packed) -> None:
    query = Query(packed, exponents(), keeps=True)
    before = {pack: packed.product(pack, query.share) for pack in packed.clear}
    state = packed.gallery.state
    searching = asyncio.ensure_future(query.ask())
    await query.opened.wait()
    async with asyncio.timeout(15), packed.gallery.lock.exclusive():
        await packed.change([0, 5])
    assert packed.gallery.state.sequence == state.sequence + 1 and not searching.done()
    query.go_on.set()
    matched = await searching
    assert (matched.reply.sequence, matched.reply.chain) == (state.sequence, state.chain)
    assert (query.state, matched.reply.count) == (state, len(before))
    assert [decrypt(result) for result in query.sent] == [before[pack] for pack in sorted(before)]
    assert query.wanted.sum() == len(before) and query.passed
    assert matched.labels is not None
    assert sum(label != "" for label in matched.labels.tolist()) == len(before)


async def test_where_packs_are_not_kept_a_change_waits(packed: Packed) -> None:
    query = Query(packed, exponents(), keeps=False)
    searching = asyncio.ensure_future(query.ask())
    await query.opened.wait()
    changing = asyncio.ensure_future(packed.gallery.lock.exclusive().__aenter__())
    for _ in range(20):
        await asyncio.sleep(0)
    assert not changing.done()
    query.go_on.set()
    await searching
    async with asyncio.timeout(15):
        await changing


async def test_a_search_that_is_given_up_leaves_lock_and_packs(packed: Packed) -> None:
    for keeps in (True, False):
        query = Query(packed, exponents(), keeps=keeps)
        searching = asyncio.ensure_future(query.ask())
        await query.opened.wait()
        searching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await searching
        async with asyncio.timeout(15), packed.gallery.lock.exclusive():
            assert not +packed.here._held[0]
