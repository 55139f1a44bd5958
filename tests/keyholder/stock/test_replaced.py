"""A stock that was replaced: its blocks are gone, and what was used of it can never be used again."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.keyholder.dealers import NAME, PAIR, UNITS, Holder
from tests.keyholder.replace_loop import NAMES
from tests.keyholder.trio import STATE, TOY, Trio, ceremony, signed
from tests.simulator import SimulatedGallery
from veilmatch.crypto.dealing import STOCK_KINDS, BlockName, CheckedBlock
from veilmatch.crypto.encryption.paillier import Paillier
from veilmatch.crypto.errors import GalleryMismatchError, KeyMismatchError, UnavailableError
from veilmatch.crypto.keys.parties import Party
from veilmatch.protos.v1 import request_pb2
from veilmatch.server.keyholder.stock.store import StockStore
from veilmatch.server.matcher.gallery.mutation import GalleryState

ROOT = Path(__file__).parents[3]
OTHER = bytes([2]) * 32
BLOCK = CheckedBlock(bytes([7]) * 32 + b"corrections" * 50)


@pytest.fixture
def plus(tmp_path: Path) -> Holder:
    return Holder(tmp_path / "plus", is_plus=True)


def blocks(folder: Path) -> Counter[bytes]:
    """How many blocks of each stock are on disk."""
    with sqlite3.connect(folder / "stock.db") as connection:
        return Counter({bytes(name): count for name, count in connection.execute(
            "SELECT stock, COUNT(*) FROM checked_blocks GROUP BY stock"
        )})  # fmt: skip


# -- the store ---------------------------------------------------------------------------------


async def test_the_blocks_of_a_replaced_stock_are_deleted_and_its_marks_stay(plus: Holder) -> None:
    await plus.stock.refill()
    await plus.reserve("triples", 10)
    mark = plus.store.mark(NAME, "triples")
    assert blocks(plus.folder)[NAME] == 6 and mark >= 10
    plus.store.adopt(PAIR, OTHER)
    assert blocks(plus.folder) == {}
    assert plus.store.mark(NAME, "triples") == mark


async def test_a_stock_that_is_adopted_again_and_those_of_other_pairs_stay(plus: Holder) -> None:
    await plus.stock.refill()
    third = bytes([3]) * 32
    plus.store.adopt("ac", third)
    plus.store.put(BlockName("ac", third, 1, "bits", 0), BLOCK)
    plus.store.adopt(PAIR, NAME)
    assert blocks(plus.folder) == {NAME: 6, third: 1}
    plus.store.adopt(PAIR, OTHER)
    assert blocks(plus.folder) == {third: 1}


async def test_the_stock_of_the_epoch_before_is_taken_up_again_where_its_marks_are(plus: Holder) -> None:
    """While a refresh is not finished. A stock of the same epoch, with another storage of the peer, does not stay."""
    await plus.stock.refill()
    await plus.reserve("triples", 10)
    mark, third = plus.store.mark(NAME, "triples"), bytes([3]) * 32
    plus.store.adopt(PAIR, OTHER, only_of=2)
    plus.store.put(BlockName(PAIR, OTHER, 2, "bits", 0), BLOCK)
    assert blocks(plus.folder) == {NAME: 6, OTHER: 1}
    plus.store.adopt(PAIR, third, only_of=2)
    assert blocks(plus.folder) == {NAME: 6}
    plus.store.put(BlockName(PAIR, third, 2, "bits", 0), BLOCK)
    plus.store.adopt(PAIR, NAME, only_of=1)
    assert blocks(plus.folder) == {NAME: 6, third: 1} and plus.store.mark(NAME, "triples") == mark
    plus.store.drop_epoch(2)
    assert blocks(plus.folder) == {NAME: 6}


async def test_a_block_that_arrives_late_for_a_replaced_stock_does_not_stay(plus: Holder) -> None:
    plus.store.adopt(PAIR, OTHER)
    plus.store.put(BlockName(PAIR, NAME, 1, "triples", 0), BLOCK)
    assert plus.store.get(BlockName(PAIR, NAME, 1, "triples", 0)) is None
    assert blocks(plus.folder) == {}


async def test_the_replaced_blocks_are_overwritten_on_disk(plus: Holder) -> None:
    plus.store.put(BlockName(PAIR, NAME, 1, "triples", 0), BLOCK)
    with sqlite3.connect(plus.folder / "stock.db") as connection:
        sealed = bytes(connection.execute("SELECT sealed FROM checked_blocks").fetchone()[0])
    plus.store.adopt(PAIR, OTHER)
    plus.store.close()
    with sqlite3.connect(plus.folder / "stock.db") as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    assert not [path for path in plus.folder.iterdir() if sealed[12:44] in path.read_bytes()]


# -- the stock in memory -----------------------------------------------------------------------


async def test_a_retired_stock_hands_out_nothing_even_of_what_it_had_in_memory(plus: Holder) -> None:
    await plus.reserve("triples", 1)
    plus.stock.retire()
    for kind in STOCK_KINDS:
        with pytest.raises(UnavailableError, match="replaced"):
            await plus.reserve(kind, 1)
    await plus.stock.refill()
    assert plus.stock.remaining == dict.fromkeys(STOCK_KINDS, 0)


async def test_a_reservation_under_way_while_its_stock_is_retired_gets_nothing(
    plus: Holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its successor of the same name might have read the mark before it was moved."""
    advance = plus.store.advance

    def retire_first(*arguments: Any) -> None:
        plus.stock.retire()
        advance(*arguments)

    monkeypatch.setattr(plus.store, "advance", retire_first)
    with pytest.raises(UnavailableError, match="replaced"):
        await plus.reserve("triples", 5)


async def test_a_reservation_that_waits_for_its_dealer_while_its_stock_is_retired_gets_nothing(plus: Holder) -> None:
    def retire_first(_name: BlockName, block: Any) -> Any:
        plus.stock.retire()
        return block

    plus.dealer.change = retire_first
    with pytest.raises(UnavailableError, match="replaced"):
        await plus.reserve("triples", 2 * UNITS["triples"])
    assert plus.store.mark(NAME, "triples") == 0


async def test_a_stock_that_comes_back_goes_on_above_what_was_used(plus: Holder) -> None:
    used = await plus.reserve("triples", 70)
    plus.stock.retire()
    plus.store.adopt(PAIR, OTHER)
    plus.restart()
    back = await plus.reserve("triples", 70)
    assert back.start >= used.start + 70
    values = [{int(t.a) for t in reserved.material} for reserved in (used, back)]  # type: ignore[attr-defined]
    assert values[0].isdisjoint(values[1])


def test_no_index_of_either_stock_is_handed_out_twice_over_all_kills(tmp_path: Path) -> None:
    """Stocks that replace each other without end, in a process that is killed again and again."""
    handed: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for _ in range(5):
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.keyholder.replace_loop", str(tmp_path)], stdout=subprocess.PIPE, cwd=ROOT
        )
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(12)]
        process.kill()
        lines += process.communicate(timeout=10)[0].splitlines()
        assert process.returncode == -signal.SIGKILL
        for line in lines:
            which, start, stop = map(int, line.split())
            handed[which].append((start, stop))
        assert len(blocks(tmp_path)) <= 1
    store = StockStore(tmp_path, bytes(32))
    assert set(handed) == {0, 1}
    for which, spans in handed.items():
        assert all(stop <= start for (_, stop), (start, _) in pairwise(sorted(spans)))
        assert store.mark(NAMES[which], "triples") >= max(stop for _, stop in spans)


# -- three key holders -------------------------------------------------------------------------


TEMPLATES = np.random.default_rng(1).integers(-TOY.clip, TOY.clip + 1, (5, TOY.dimension))


async def query(trio: Trio) -> None:
    """A search by the pair ab; it has to be right."""
    gallery = SimulatedGallery.of(Paillier(ceremony().public_key), TEMPLATES)
    bits = await trio.decide(signed(TEMPLATES[0], "ab", 5), "ab", gallery, range(5))
    assert bits == (TEMPLATES @ TEMPLATES[0] >= 5).astype(int).tolist()


async def meet_again(trio: Trio) -> None:
    """What the daemons do all the time: fill the stocks, meeting first."""
    for party in ("b", "a"):
        await (await trio[party].stocks.of("ab")).refill()  # type: ignore[index]


async def with_new_storage(trio: Trio, party: Party) -> None:
    await trio.stop(party)
    for path in trio.data_dir(party).glob("stock.db*"):
        path.unlink()
    await trio.start(party)


async def test_a_peer_that_loses_its_storage_again_and_again_leaves_no_blocks_behind(trio: Trio) -> None:
    await (await trio["a"].stocks.of("ac")).refill()
    sizes = []
    for _ in range(4):
        await meet_again(trio)
        await query(trio)
        current = {trio["a"].stocks.by_pair[pair].name for pair in ("ab", "ac")}  # type: ignore[index]
        held = blocks(trio.data_dir("a"))
        assert set(held) == current
        sizes.append(held.total())
        await with_new_storage(trio, "b")
    assert max(sizes) == min(sizes)


async def test_a_session_that_is_under_way_while_its_stock_is_replaced_ends(trio: Trio) -> None:
    await meet_again(trio)
    request = signed(TEMPLATES[0])
    gate, reached = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        reached.set()
        await gate.wait()

    trio.running["a"].pool.before = wait
    async with trio.both(request, "ab") as calls:
        asking = asyncio.ensure_future(calls["a"].probe_share())
        await reached.wait()
        trio["a"].stocks.meet("ab", bytes(16))
        gate.set()
        with pytest.raises(UnavailableError, match="replaced"):
            await asking
    trio.running["a"].pool.before = None
    trio["a"].stocks.forget("ab")
    await meet_again(trio)
    await query(trio)


async def test_holders_of_different_stocks_refuse_once_and_then_meet_again(trio: Trio) -> None:
    await meet_again(trio)
    await with_new_storage(trio, "b")
    request = signed(TEMPLATES[0], operation=request_pb2.OPERATION_ENROL)
    with pytest.raises(KeyMismatchError, match="stock"):
        async with trio.both(request, "ab") as calls:
            await asyncio.gather(*(call.template_shares(1, told=1) for call in calls.values()))
    await query(trio)


async def test_a_gallery_mismatch_of_the_matchers_leaves_the_stock_alone(
    trio: Trio, monkeypatch: pytest.MonkeyPatch
) -> None:
    await meet_again(trio)
    stocks = {party: trio[party].stocks.by_pair["ab"] for party in ("a", "b")}  # type: ignore[index]
    before = [(stock.floors, stock.remaining) for stock in stocks.values()]

    def never(*_: object) -> Any:
        raise AssertionError("met again")

    for party in ("a", "b"):
        monkeypatch.setattr(trio[party]._peers, "meet_stock", never)  # type: ignore[index]
    request = signed(TEMPLATES[0])
    async with trio.call(request, "a", "ab") as first, trio.call(
        request, "b", "ab", state=GalleryState(STATE.sequence + 1, bytes(32))
    ) as second:  # fmt: skip
        outcomes = await asyncio.gather(first.probe_share(), second.probe_share(), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [GalleryMismatchError] * 2
    assert [(stock.floors, stock.remaining) for stock in stocks.values()] == before
    await query(trio)
    assert all(trio[party].stocks.by_pair["ab"] is stock for party, stock in stocks.items())  # type: ignore[index]
