"""A check that fails: who is named, what it costs, and that the pair goes on by itself. Two holders in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.keyholder.dealers import NAME, UNITS, Holder, multiply_right
from veilmatch.crypto.dealing import STOCK_KINDS, Block, BlockName, Kind
from veilmatch.crypto.errors import (
    BudgetExceededError,
    DealtOpeningError,
    DealtStockError,
    UnavailableError,
    VeilmatchError,
)
from veilmatch.protos.v1 import keyholder_pb2 as pb
from veilmatch.server.config import KeyHolderSettings
from veilmatch.server.keyholder.stock.standing import FIRST_WAIT_S

A, B, C = "keyholder-a", "keyholder-b", "keyholder-c"


@pytest.fixture
def plus(tmp_path: Path) -> Holder:
    return Holder(tmp_path / "plus", is_plus=True)


@pytest.fixture
def minus(plus: Holder) -> Holder:
    return plus.other


async def check(plus: Holder, kind: Kind = "bits") -> VeilmatchError | None:
    """Have a block checked; what it ended with at the plus holder."""
    try:
        await plus.stock._shelves[kind].check_one()
    except VeilmatchError as error:
        return error
    return None


def pass_time(plus: Holder, seconds: float) -> None:
    for holder in (plus, plus.other):
        holder.clock.now += seconds


def named(plus: Holder) -> tuple[str | None, str | None]:
    """Whom the plus holder and the minus holder name, if they wait."""
    found: list[str | None] = []
    for holder in (plus, plus.other):
        try:
            holder.standing.require_good()
            found.append(None)
        except (DealtStockError, UnavailableError) as error:
            found.append(error.party)
    return found[0], found[1]


def wrong_words(name: BlockName, block: Block) -> Block:
    return Block(block.seed, bytes([block.corrections[0] ^ 1]) + block.corrections[1:])


def another(_name: BlockName, commitment: bytes) -> bytes:
    return bytes([commitment[0] ^ 1]) + commitment[1:]


def altering(kind: str) -> Callable[[pb.CheckMessage], pb.CheckMessage]:
    """What makes a holder change the last bit of its messages of a kind."""

    def changed(message: pb.CheckMessage) -> pb.CheckMessage:
        if message.WhichOneof("content") != kind:
            return message
        data: bytes = getattr(message, kind)
        return pb.CheckMessage(**{kind: data[:-1] + bytes([data[-1] ^ 1])})

    return changed


# -- who is named -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", STOCK_KINDS)
async def test_a_dealer_that_deals_wrong_words_is_named_by_both(kind: Kind, plus: Holder, minus: Holder) -> None:
    plus.dealer.change = wrong_words
    with capture_logs() as logged:
        error = await check(plus, kind)
    assert type(error) is DealtStockError and error.party == C
    assert named(plus) == (C, C)
    assert [(entry["named"], entry["block"], entry["log_level"]) for entry in logged] == [(C, f"{kind} 0", "error")] * 2
    assert not plus.store.numbers(NAME, kind) and not minus.store.numbers(NAME, kind)


async def test_a_dealer_that_commits_to_something_else_has_the_peer_named_and_by_that_the_one_who_names(
    plus: Holder, minus: Holder
) -> None:
    """Nobody can tell this from a peer that altered its opening: each holder knows of itself alone."""
    minus.dealer.claim = another
    error = await check(plus)
    assert isinstance(error, DealtOpeningError) and named(plus) == (B, A)


async def test_if_it_does_so_towards_the_plus_holder_that_one_names_and_leaves(plus: Holder) -> None:
    plus.dealer.claim = another
    error = await check(plus)
    assert isinstance(error, DealtOpeningError) and error.party == B
    assert named(plus) == (B, None), "the minus holder only sees that its peer has left"


@pytest.mark.parametrize("size", [0, 31, 33])
async def test_a_commitment_of_another_size_fits_nothing(size: int, plus: Holder) -> None:
    plus.dealer.claim = lambda _name, commitment: (commitment * 2)[:size]
    assert isinstance(await check(plus), DealtOpeningError)


async def test_a_plus_holder_that_alters_its_opening_is_named(plus: Holder) -> None:
    plus.says = altering("opening")
    assert isinstance(await check(plus), DealtOpeningError)
    assert named(plus) == (B, A), "it names whoever refuses it"


async def test_a_minus_holder_that_alters_its_opening_is_named(plus: Holder, minus: Holder) -> None:
    minus.says = altering("opening")
    assert isinstance(await check(plus), DealtOpeningError)
    assert named(plus) == (B, None)


async def test_a_holder_that_misstates_its_values_has_the_dealer_named(plus: Holder, minus: Holder) -> None:
    """Nobody can tell this from a dealer that deals wrong words: the values were not opened."""
    minus.says = altering("proof")
    error = await check(plus)
    assert type(error) is DealtStockError and named(plus) == (C, None)
    assert not plus.store.numbers(NAME, "bits"), "what the minus holder has of it is never allocated"


async def test_a_minus_holder_that_refuses_a_right_proof_is_named(plus: Holder, minus: Holder) -> None:
    plus.says = altering("proof")
    assert type(await check(plus)) is DealtStockError
    assert named(plus) == (B, C), "both believe of themselves that they were right"
    assert not minus.store.numbers(NAME, "bits")


@pytest.mark.parametrize("who", ["plus", "minus"])
async def test_a_dealer_that_keeps_silent_when_it_hears_the_coin_is_named_and_the_number_is_lost(
    who: str, plus: Holder, minus: Holder
) -> None:
    (plus if who == "plus" else minus).dealer.silent = True
    error = await check(plus)
    assert isinstance(error, UnavailableError) and error.party == C
    assert named(plus) == ((C, None) if who == "plus" else (None, C))
    assert plus.store.tried(NAME, "bits") == minus.store.tried(NAME, "bits") == 1


# -- what it costs ------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["plus", "minus"])
async def test_a_dealer_that_is_down_before_the_coin_costs_neither_a_number_nor_a_wait(
    who: str, plus: Holder, minus: Holder
) -> None:
    (plus if who == "plus" else minus).dealer.down = True
    assert isinstance(await check(plus), UnavailableError)
    plus.dealer.down = minus.dealer.down = False
    assert named(plus) == (None, None)
    assert await check(plus) is None and plus.store.numbers(NAME, "bits") == {0}


async def test_a_dealer_that_refuses_a_block_for_now_costs_neither_and_is_named_when_the_stock_has_run_out(
    plus: Holder, minus: Holder
) -> None:
    def refuse(_name: BlockName, _block: Block) -> Block:
        raise BudgetExceededError("more dealing than it gets", budget="dealing to keyholder-b", retry_after_s=7.0)

    minus.dealer.change = refuse
    with pytest.raises(UnavailableError, match="deals no more for now") as caught:
        await plus.reserve("bits", 5)
    assert (caught.value.party, caught.value.retry_after_s) == (C, 7.0)
    minus.dealer.change = lambda _name, block: block
    assert (await plus.reserve("bits", 5)).start == 0


@pytest.mark.parametrize("kind", STOCK_KINDS)
async def test_stock_that_is_there_is_served_while_checks_wait_and_then_the_error_says_who_and_how_long(
    kind: Kind, plus: Holder, minus: Holder
) -> None:
    await plus.stock.refill()
    plus.dealer.change = wrong_words
    with pytest.raises(DealtStockError):
        await plus.reserve(kind, 3 * UNITS[kind])
    pass_time(plus, 2)
    plus.dealer.change = lambda _name, block: block
    for start in (0, UNITS[kind]):
        ours = await plus.reserve(kind, UNITS[kind])
        assert ours.start == start and multiply_right(ours, await minus.reserve(kind, UNITS[kind], start=start))
    with pytest.raises(DealtStockError) as caught:
        await plus.reserve(kind, 1)
    assert (caught.value.party, caught.value.retry_after_s) == (C, FIRST_WAIT_S - 2)


async def test_while_it_waits_for_a_silent_dealer_a_stock_that_has_run_out_says_so(plus: Holder) -> None:
    plus.dealer.silent = True
    for passed in (0.0, 2.0):
        pass_time(plus, passed)
        with pytest.raises(UnavailableError, match="the stock of bits has run out") as caught:
            await plus.reserve("bits", 5)
        assert (caught.value.party, caught.value.retry_after_s) == (C, FIRST_WAIT_S - passed)


@pytest.mark.parametrize("fault", ["words", "commitment to plus", "commitment to minus", "silence"])
async def test_the_pair_goes_on_by_itself_once_the_wait_is_over(fault: str, plus: Holder, minus: Holder) -> None:
    """No restart, and the number of the failed check is a gap."""
    if fault == "words":
        plus.dealer.change = wrong_words
    elif fault == "silence":
        plus.dealer.silent = True
    else:
        (plus if fault.endswith("plus") else minus).dealer.claim = another
    for wait_s in (FIRST_WAIT_S, 2 * FIRST_WAIT_S):
        assert await check(plus) is not None
        pass_time(plus, wait_s - 1)
        assert await check(plus) is not None, "still waiting"
        pass_time(plus, 1)
    for holder in (plus, minus):
        holder.dealer.change, holder.dealer.claim = lambda _name, block: block, lambda _name, commitment: commitment
        holder.dealer.silent = False
    ours = await plus.reserve("bits", 100)
    assert ours.start == 2 * UNITS["bits"]
    assert multiply_right(ours, await minus.reserve("bits", 100, start=ours.start))


@pytest.mark.parametrize("kind", STOCK_KINDS)
async def test_a_dealer_that_dies_when_it_hears_the_coin_has_started_again_before_an_empty_stock_waits_no_more(
    kind: Kind, plus: Holder, minus: Holder
) -> None:
    """As right after a refresh, when a pair has nothing yet. A start takes seconds, and so does the wait."""
    for holder in (plus, minus):
        holder.dealer.silent = True
    with pytest.raises(UnavailableError, match="has run out") as caught:
        await plus.reserve(kind, 5)
    assert (
        caught.value.retry_after_s is not None
        and caught.value.retry_after_s <= KeyHolderSettings.model_fields["peer_timeout_s"].default
    )
    for holder in (plus, minus):
        holder.dealer.silent = False
    pass_time(plus, caught.value.retry_after_s)
    ours = await plus.reserve(kind, 5)
    assert multiply_right(ours, await minus.reserve(kind, 5, start=ours.start))


async def test_all_kinds_wait_for_one_that_failed(plus: Holder) -> None:
    plus.dealer.change = wrong_words
    await check(plus, "bits")
    asked = list(plus.dealer.asked)
    for kind in STOCK_KINDS:
        assert isinstance(await check(plus, kind), DealtStockError)
    assert plus.dealer.asked == asked


async def test_a_replaced_stock_does_not_end_the_wait(plus: Holder, minus: Holder) -> None:
    plus.dealer.change = wrong_words
    await check(plus)
    for holder in (plus, minus):
        holder.adopt(bytes(32))
    assert isinstance(await check(plus), DealtStockError)


@pytest.mark.parametrize("who", ["plus", "minus"])
async def test_a_check_that_ends_with_its_stock_is_a_failure_of_nobody(who: str, plus: Holder, minus: Holder) -> None:
    """By a refresh, say. The dealer, in the next epoch already, commits to nothing of this one."""
    asking = plus if who == "plus" else minus
    asked, refusing = asyncio.Event(), asyncio.Event()

    async def refuse(_name: BlockName, _coin: bytes) -> bytes:
        asked.set()
        await refusing.wait()
        raise UnavailableError("the key shares are being refreshed, ask again")

    commitment, asking.dealer.commitment = asking.dealer.commitment, refuse  # type: ignore[method-assign]
    checking = asyncio.create_task(check(plus))
    await asked.wait()
    for holder in (plus, minus):
        holder.adopt(bytes(32))
    refusing.set()
    assert isinstance(await checking, UnavailableError)
    assert named(plus) == (None, None)
    asking.dealer.commitment = commitment  # type: ignore[method-assign]
    assert await check(plus) is None, "at once"


# -- what the dealer is asked -------------------------------------------------------------------------


async def test_each_holder_asks_once_for_a_block_under_the_coin_of_both(plus: Holder, minus: Holder) -> None:
    await plus.stock.refill()
    assert len(plus.dealer.coins) == len(minus.dealer.coins) == 2 * len(STOCK_KINDS)
    assert plus.dealer.coins == minus.dealer.coins and len(set(plus.dealer.coins)) == len(plus.dealer.coins)
