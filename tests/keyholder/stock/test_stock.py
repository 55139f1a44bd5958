"""The stock of a pair: both holders get matching randomness, and no index is ever handed out twice."""

from __future__ import annotations

import asyncio
import random
import threading
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.keyholder.dealers import (
    GAMMAS,
    MODULUS,
    NAME,
    PAIR,
    TARGETS,
    UNITS,
    Dealer,
    Holder,
    gamma_of,
    multiply_right,
    safety_of,
)
from veilmatch.crypto import dealing
from veilmatch.crypto.dealing import BitTriples, Block, BlockCheck, BlockName, CheckedBlock, Kind, Products
from veilmatch.crypto.errors import ProtocolError, StorageError, UnavailableError
from veilmatch.crypto.pair.messages import Reserve
from veilmatch.server.keyholder.stock.shelf import UsedRanges
from veilmatch.server.keyholder.stock.standing import Standing
from veilmatch.server.keyholder.stock.stock import Stock, stock_name

KINDS = dealing.STOCK_KINDS
#: One step of the durable mark, at most.
AHEAD = {"triples": 64, "bits": 32768, "products": 2048}


@pytest.fixture
def plus(tmp_path: Path) -> Holder:
    return Holder(tmp_path / "plus", is_plus=True)


@pytest.fixture
def minus(plus: Holder) -> Holder:
    return plus.other


# -- used ranges ------------------------------------------------------------------------------


@given(st.integers(0, 20), st.lists(st.tuples(st.integers(0, 60), st.integers(1, 12)), max_size=40))
def test_used_ranges_behave_like_a_set_of_used_indices(floor: int, takes: list[tuple[int, int]]) -> None:
    ranges, used = UsedRanges(floor), set(range(floor))
    for start, count in takes:
        wanted = set(range(start, start + count))
        assert ranges.take(start, start + count) is wanted.isdisjoint(used)
        if wanted.isdisjoint(used):
            used |= wanted
        assert ranges.low == next(i for i in range(200) if i not in used)


def test_ranges_that_touch_are_merged_so_that_long_use_costs_no_memory() -> None:
    ranges, numbers = UsedRanges(0), list(range(500))
    random.Random(1).shuffle(numbers)
    assert all(ranges.take(3 * n, 3 * n + 3) for n in numbers)
    assert ranges.low == 1500
    assert len(ranges._ranges) == 1


# -- matching material ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
async def test_both_holders_get_the_same_triples_across_the_border_of_blocks(
    kind: Kind, plus: Holder, minus: Holder
) -> None:
    size = UNITS[kind]
    for count in (1, size - 2, 3, size, 2 * size + 5):
        ours = await plus.reserve(kind, count)
        theirs = await minus.reserve(kind, count, start=ours.start)
        assert ours.start == theirs.start
        assert multiply_right(ours, theirs)


async def test_material_of_another_range_does_not_multiply(plus: Holder, minus: Holder) -> None:
    """The test above can fail."""
    ours = await plus.reserve("triples", 3)
    assert not multiply_right(ours, await minus.reserve("triples", 3, start=3))


async def test_no_triple_is_alike_another(plus: Holder) -> None:
    reserved = [await plus.reserve("triples", 100) for _ in range(6)]
    values = [int(t.a) for r in reserved for t in r.material]  # type: ignore[attr-defined]
    assert len(set(values)) == 600
    bits = [await plus.reserve("bits", 40_000) for _ in range(4)]
    rows = [r.material.a[i : i + 32].tobytes() for r in bits for i in range(0, 40_000, 32)]  # type: ignore[attr-defined]
    assert len(set(rows)) == len(rows)


@given(st.data())
async def test_a_range_holds_what_its_blocks_hold_wherever_it_lies(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(KINDS))
    size = UNITS[kind]
    start, count = data.draw(st.integers(0, 2 * size)), data.draw(st.integers(1, size + 2))
    blocks = [checked_block(kind, number) for number in range(start // size, (start + count - 1) // size + 1)]
    whole = dealing.material(kind, [(block, 0, size) for block in blocks], MODULUS)
    expected = first_column(whole)
    first = start // size * size
    shelf = _in_memory_minus()._shelves[kind]
    got = (await shelf.reserve(_wanted(kind, count, start))).material
    values = first_column(got)
    assert values == expected[start - first : start - first + count]


# -- single use -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
async def test_no_index_is_handed_out_twice_under_concurrency(kind: Kind, plus: Holder) -> None:
    rng = random.Random(7)
    counts = [rng.randrange(1, 2 * UNITS[kind] // 50) for _ in range(150)]
    reserved = await asyncio.gather(*(plus.reserve(kind, count) for count in counts))
    spans = sorted((r.start, r.start + count) for r, count in zip(reserved, counts, strict=True))
    assert all(stop <= start for (_, stop), (start, _) in pairwise(spans))
    assert sum(stop - start for start, stop in spans) == sum(counts) == spans[-1][1]


async def test_the_minus_holder_refuses_every_overlap_with_a_used_range(minus: Holder) -> None:
    await minus.reserve("triples", 10, start=20)
    for start, count in ((20, 10), (20, 1), (29, 1), (15, 6), (29, 5), (0, 100), (22, 3)):
        with pytest.raises(ProtocolError):
            await minus.reserve("triples", count, start=start)
    for start, count in ((0, 20), (30, 5)):
        assert (await minus.reserve("triples", count, start=start)).start == start
    for start in range(35):
        with pytest.raises(ProtocolError):
            await minus.reserve("triples", 1, start=start)


async def test_the_minus_holder_serves_one_of_many_who_ask_for_the_same_range(minus: Holder) -> None:
    outcomes = await asyncio.gather(*(minus.reserve("triples", 4, start=8) for _ in range(20)), return_exceptions=True)
    assert sum(not isinstance(outcome, BaseException) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, ProtocolError) for outcome in outcomes) == 19


async def test_allocations_may_arrive_out_of_order(plus: Holder, minus: Holder) -> None:
    ours = [await plus.reserve("triples", 7) for _ in range(60)]
    random.Random(3).shuffle(ours)
    for reserved in ours:
        assert multiply_right(reserved, await minus.reserve("triples", 7, start=reserved.start))


async def test_kinds_are_counted_apart(plus: Holder) -> None:
    for count, kind in enumerate(KINDS, 5):
        assert (await plus.reserve(kind, count)).start == 0
    assert plus.stock.floors == (5, 6, 7)


async def test_the_plus_holder_starts_no_lower_than_the_floor_that_both_agreed_on(plus: Holder) -> None:
    assert (await plus.reserve("triples", 5, floor=100)).start == 100
    assert (await plus.reserve("triples", 5, floor=50)).start == 105


@pytest.mark.parametrize("kind", KINDS)
async def test_a_jump_far_ahead_is_refused_and_burns_nothing(kind: Kind, plus: Holder, minus: Holder) -> None:
    far = 1025 * UNITS[kind]
    for start in (far, 1 << 40, (1 << 64) - 10):
        with pytest.raises(ProtocolError):
            await minus.reserve(kind, 5, start=start)
        with pytest.raises(ProtocolError):
            await plus.reserve(kind, 5, floor=start)
    assert plus.dealer.asked == minus.dealer.asked == []
    assert (await plus.reserve(kind, 5)).start == 0
    assert (await minus.reserve(kind, 5, start=0)).start == 0


async def test_a_mark_that_cannot_be_written_hands_out_nothing(plus: Holder, monkeypatch: pytest.MonkeyPatch) -> None:
    real, written = plus.store.advance, []

    def full(*_args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(plus.store, "advance", full)
    for _ in range(3):
        with pytest.raises(OSError, match="No space"):
            await plus.reserve("triples", 1)
    monkeypatch.setattr(plus.store, "advance", lambda *a: (written.append(a), real(*a)))
    reserved = await plus.reserve("triples", 1)
    assert len(written) == 1, "an index below the mark in memory was handed out without one on disk"
    assert plus.store.mark(NAME, "triples") > reserved.start


async def test_a_cancelled_reservation_does_not_free_its_range(plus: Holder) -> None:
    tasks = [asyncio.ensure_future(plus.reserve("triples", 3)) for _ in range(40)]
    for _ in range(3):
        await asyncio.sleep(0.002)
    for task in tasks[::2]:
        task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    served = [o.start for o in outcomes if not isinstance(o, BaseException)]
    assert len(served) >= 20
    more = [(await plus.reserve("triples", 3)).start for _ in range(5)]
    everything = [i for start in served + more for i in range(start, start + 3)]
    assert len(set(everything)) == len(everything)


# -- restarts ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
async def test_after_a_restart_everything_below_the_mark_is_skipped(kind: Kind, plus: Holder) -> None:
    before = await plus.reserve(kind, 5)
    plus.restart()
    mark = plus.store.mark(NAME, kind)
    after = await plus.reserve(kind, 5)
    assert before.start + 5 <= mark <= before.start + 5 + AHEAD[kind]
    assert after.start == mark


async def test_a_restart_without_use_skips_nothing_more(plus: Holder) -> None:
    await plus.reserve("triples", 5)
    plus.restart()
    floor = plus.stock.floors
    for _ in range(5):
        plus.restart()
    assert plus.stock.floors == floor


async def test_after_a_restart_the_minus_holder_refuses_what_lies_below_its_mark(minus: Holder) -> None:
    await minus.reserve("triples", 5, start=40)
    minus.restart()
    floor = minus.stock.floors[0]
    assert floor >= 45
    for start in (0, 5, 39, 40, 44, floor - 1):
        with pytest.raises(ProtocolError):
            await minus.reserve("triples", 1, start=start)
    assert (await minus.reserve("triples", 1, start=floor)).start == floor


@pytest.mark.parametrize("who", ["plus", "minus", "both"])
async def test_the_pair_goes_on_after_a_restart_of_either(who: str, plus: Holder, minus: Holder) -> None:
    seen: set[int] = set()
    for _ in range(4):
        for _ in range(10):
            # What a session's hello does: both floors are compared, the larger one holds.
            floor = max(plus.stock.floors[0], minus.stock.floors[0])
            ours = await plus.reserve("triples", 9, floor=floor)
            theirs = await minus.reserve("triples", 9, floor=floor, start=ours.start)
            assert multiply_right(ours, theirs)
            indices = set(range(ours.start, ours.start + 9))
            assert seen.isdisjoint(indices)
            seen |= indices
        for holder, name in ((plus, "plus"), (minus, "minus")):
            if who in (name, "both"):
                holder.restart()


async def test_the_floor_of_the_minus_holder_is_what_it_has_seen_used_without_a_gap(minus: Holder) -> None:
    assert minus.stock.floors == (0, 0, 0)
    await minus.reserve("triples", 5, start=10)
    assert minus.stock.floors == (0, 0, 0)
    await minus.reserve("triples", 10, start=0)
    assert minus.stock.floors == (15, 0, 0)


def test_another_epoch_or_generation_of_either_storage_is_another_stock() -> None:
    names = {
        stock_name(pair, epoch, plus, minus)
        for pair in ("ab", "ac", "bc")
        for epoch in (1, 2)
        for plus in (bytes(16), bytes([1]) * 16)
        for minus in (bytes(16), bytes([1]) * 16)
    }
    assert len(names) == 24
    assert {len(name) for name in names} == {32}


def test_a_storage_keeps_its_generation_and_a_new_one_has_another(plus: Holder, tmp_path: Path) -> None:
    before = plus.store.generation
    plus.restart()
    assert plus.store.generation == before
    assert Holder(tmp_path / "lost", is_plus=True).store.generation != before


# -- the dealer -------------------------------------------------------------------------------


async def test_stock_is_refilled_to_its_target_and_then_left_alone(plus: Holder) -> None:
    await plus.stock.refill()
    assert plus.stock.remaining == TARGETS
    asked = list(plus.dealer.asked)
    assert len(asked) == 2 * len(KINDS)
    await plus.stock.refill()
    assert plus.dealer.asked == asked


async def test_the_dealer_is_not_needed_while_there_is_stock(plus: Holder, minus: Holder) -> None:
    for holder in (plus, minus):
        await holder.stock.refill()
        holder.dealer.down = True
    for start in range(0, TARGETS["triples"], 32):
        ours = await plus.reserve("triples", 32)
        assert ours.start == start
        assert multiply_right(ours, await minus.reserve("triples", 32, start=start))
    with pytest.raises(UnavailableError):
        await plus.reserve("triples", 32)


async def test_stock_survives_a_restart_while_the_dealer_is_down(plus: Holder) -> None:
    await plus.stock.refill()
    plus.dealer.down = True
    plus.restart()
    assert plus.stock.remaining == TARGETS
    assert (await plus.reserve("bits", 1000)).start == 0


@pytest.mark.parametrize("kind", KINDS)
async def test_a_dealer_that_is_down_is_named_when_the_stock_has_run_out(kind: Kind, plus: Holder) -> None:
    plus.dealer.down = True
    with pytest.raises(UnavailableError) as caught:
        await plus.reserve(kind, 5)
    assert caught.value.party == "keyholder-c"
    assert kind in caught.value.message
    assert caught.value.available == "0 units"


async def test_a_refused_reservation_costs_nothing_and_works_once_the_dealer_is_back(plus: Holder) -> None:
    plus.dealer.down = True
    with pytest.raises(UnavailableError):
        await plus.reserve("triples", 5)
    plus.dealer.down = False
    assert (await plus.reserve("triples", 5)).start == 0


async def test_used_up_blocks_are_forgotten_by_both(plus: Holder, minus: Holder) -> None:
    for _ in range(12):
        await plus.reserve("triples", UNITS["triples"])
        await plus.stock.refill()
    for holder in (plus, minus):
        assert min(holder.store.numbers(NAME, "triples")) >= 11
        assert len(holder.store.numbers(NAME, "triples")) <= 3
    assert plus.stock.remaining["triples"] == TARGETS["triples"]


@pytest.mark.parametrize("kind", KINDS)
async def test_what_a_session_under_way_was_given_stays_at_the_peer_however_much_that_is(
    kind: Kind, plus: Holder, minus: Holder
) -> None:
    """A large search takes many blocks, and others may take many more before its peer hears of the first."""
    with plus.stock.session() as slow:
        late = await slow.reserve(_wanted(kind, 7 * UNITS[kind] + 1, None))
        for _ in range(12):
            with plus.stock.session() as quick:
                ours = await quick.reserve(_wanted(kind, UNITS[kind], None))
                assert multiply_right(ours, await minus.stock.reserve(_wanted(kind, UNITS[kind], ours.start)))
            await plus.stock.refill()
        held = minus.store.numbers(NAME, kind)
        assert multiply_right(late, await minus.stock.reserve(_wanted(kind, 7 * UNITS[kind] + 1, late.start)))
    await plus.reserve(kind, 2 * UNITS[kind])
    await plus.stock.refill()
    assert min(held) == 0 and min(minus.store.numbers(NAME, kind)) >= 20
    assert len(plus.stock._shelves[kind]._cache) <= 2, "a large search leaves nothing in memory"


@pytest.mark.parametrize("kind", KINDS)
async def test_a_check_that_begins_while_a_range_is_being_marked_leaves_its_blocks_at_the_peer(
    kind: Kind, plus: Holder, minus: Holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk may be slow, and by then the next range begins behind this one."""
    await plus.stock.refill()
    advance, is_marking, goes_on = plus.store.advance, threading.Event(), threading.Event()

    def slowly(*arguments: Any) -> None:
        is_marking.set()
        assert goes_on.wait(20)
        advance(*arguments)

    monkeypatch.setattr(plus.store, "advance", slowly)
    with plus.stock.session() as session:
        reserving = asyncio.create_task(session.reserve(_wanted(kind, UNITS[kind], None)))
        await asyncio.to_thread(is_marking.wait, 20)
        await plus.stock._shelves[kind].check_one()
        goes_on.set()
        ours = await reserving
        assert multiply_right(ours, await minus.stock.reserve(_wanted(kind, UNITS[kind], ours.start)))


async def test_a_range_that_could_not_be_marked_keeps_nothing_at_the_peer(
    plus: Holder, minus: Holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise StorageError("full")

    with monkeypatch.context() as patched, pytest.raises(StorageError):
        patched.setattr(plus.store, "advance", full)
        await plus.reserve("triples", UNITS["triples"])
    await plus.reserve("triples", UNITS["triples"])
    await plus.stock.refill()
    assert min(minus.store.numbers(NAME, "triples")) >= 1


@pytest.mark.parametrize(
    "block", [Block(b"", b""), Block(bytes(31), b""), Block(bytes(32), b"x"), Block(bytes(33), b"")]
)
@pytest.mark.parametrize("receiver", ["plus", "minus"])
async def test_a_block_of_the_wrong_size_is_never_used(
    receiver: str, plus: Holder, minus: Holder, block: Block
) -> None:
    (plus if receiver == "plus" else minus).dealer.change = lambda _name, _block: block
    with pytest.raises(ProtocolError):
        await plus.reserve("triples", 1)
    assert plus.store.numbers(NAME, "triples") == minus.store.numbers(NAME, "triples") == set()


def _wanted(kind: Kind, count: int, start: int | None) -> Reserve:
    return Reserve(kind, count, 0, start)


@cache
def checked_block(kind: Kind, number: int) -> CheckedBlock:
    """What is left at the minus holder of a block that was checked with a fixed coin."""
    name = BlockName(PAIR, NAME, 1, kind, number)
    plus, minus = (
        BlockCheck(
            name,
            dealing.deal_tagged(bytes(32), name, MODULUS, GAMMAS, for_plus=p),
            (bytes(32), bytes([1]) * 32),
            MODULUS,
            gamma_of(is_plus=p),
            is_plus=p,
        )
        for p in (True, False)
    )
    for_plus, for_minus = (
        dealing.commit_opening(bytes(32), name, plus.coin, MODULUS, of_plus=of_plus) for of_plus in (False, True)
    )
    minus.proof(plus.opening, for_minus)
    return minus.kept(plus.proof(minus.opening, for_plus))


def first_column(material: object) -> list[int]:
    if isinstance(material, Products):
        return list(material.factor)
    return list(material.a) if isinstance(material, BitTriples) else [t.a for t in material]  # type: ignore[attr-defined]


def _in_memory_minus() -> Stock:
    """A minus holder whose store has four checked blocks of each kind, for many examples."""

    class Store:
        def mark(self, *_: object) -> int:
            return 0

        tried = agreed = mark

        @property
        def memory(self) -> Store:
            return self

        def advance(self, *_: object) -> None:
            pass

        def numbers(self, *_: object) -> set[int]:
            return set(range(4))

        def get(self, name: BlockName) -> CheckedBlock | None:
            return checked_block(name.kind, name.number)

    return Stock(
        PAIR, NAME, 1, Store(), Dealer(for_plus=False), None, Standing(()), TARGETS, MODULUS, safety_of(is_plus=False),  # type: ignore[arg-type]
        is_plus=False,
    )  # fmt: skip
