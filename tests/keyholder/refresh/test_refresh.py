"""Refreshing shares: all three pairs in one epoch, or nothing; interrupted anywhere, it ends in one of the two."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.keyholder.refreshables import Refreshables, refreshables
from tests.keyholder.trio import stocked
from veilmatch.crypto.errors import UnavailableError
from veilmatch.crypto.keys.parties import PAIRS, PARTIES, Pair, Party


@pytest.fixture
async def three(tmp_path: Path) -> AsyncIterator[Refreshables]:
    async with refreshables(await stocked(tmp_path / "trio")) as made:
        yield made


async def test_every_pair_serves_with_its_new_shares(three: Refreshables) -> None:
    before = {party: three[party].key for party in PARTIES}
    assert await three.serves()
    for epoch, leader in enumerate(PARTIES, start=2):
        assert await three.refresh(leader) == epoch
        assert await three.settled() == {epoch}
        assert await three.serves()
    for party in PARTIES:
        for pair in PAIRS:
            if party in pair:
                assert three[party].key.share(pair) != before[party].share(pair)
    # And after a restart, from what is on disk.
    await three.stop(*PARTIES)
    await three.start(*PARTIES)
    await three.found_again()
    assert {three[party].epoch for party in PARTIES} == {4}
    assert await three.serves()


#: Every change of a key file or of the record, in order.
NAMES = ("put", "prepare", "ready", "decide", "commit", "erase", "forget")
STEPS = tuple(f"{when} {name}" for name in NAMES for when in ("before", "after"))
#: And where one is given up.
ALL_STEPS = (*STEPS, "before withdraw", "after withdraw", "before discard", "after discard")


@pytest.mark.parametrize("party", PARTIES)
async def test_killed_at_any_step_it_ends_in_one_epoch_that_serves(three: Refreshables, party: Party) -> None:
    """The leader is a. Which epoch it is, is decided by whether its decision was on disk."""
    epoch = 1
    assert await three.serves()
    for step in STEPS:
        three.hook = lambda who, what, step=step: three.die(party) if (who, what) == (party, step) else None
        try:
            async with asyncio.timeout(30):
                await three.refresh("a")
        except (UnavailableError, asyncio.CancelledError):
            pass
        three.hook = lambda who, what: None
        assert three.dead == {party}, step
        decided = STEPS.index(step) >= STEPS.index("after decide" if party == "a" else "before decide")
        epoch += decided
        if not decided:
            # The others serve on. Once they are in the new epoch, its stock needs the dealer.
            assert await three.serves(*(pair for pair in PAIRS if party not in pair))
        await three.revive()
        assert await three.settled() == {epoch}, step
        assert await three.serves()
    assert await three.refresh("b") == epoch + 1


async def test_everybody_killed_while_the_next_keys_wait_ends_in_the_old_epoch(three: Refreshables) -> None:
    three.hook = lambda who, what: three.die("a") if (who, what) == ("a", "before decide") else None
    with pytest.raises((UnavailableError, asyncio.CancelledError)):
        await three.refresh("a")
    await asyncio.gather(*three.dying)
    # b and c keep their next keys: a might have begun to use its own.
    assert [three.files(party) for party in PARTIES] == [["", ".next"]] * 3
    await three.stop("b", "c")
    three.hook, three.dead = lambda who, what: None, {"a", "b", "c"}
    await three.revive()
    assert await three.settled() == {1}
    assert await three.serves()


async def test_the_old_epoch_serves_on_until_the_leader_is_back(three: Refreshables) -> None:
    assert await three.serves()
    three.hook = lambda who, what: three.die("a") if (who, what) == ("a", "before decide") else None
    with pytest.raises((UnavailableError, asyncio.CancelledError)):
        await three.refresh("a")
    three.hook = lambda who, what: None
    await asyncio.gather(*three.dying)
    assert await three.serves("bc")
    with pytest.raises(UnavailableError) as caught:
        await three.refresh("b")
    assert caught.value.party == "keyholder-a"
    assert three.files("b") == ["", ".next"]
    await three.revive()
    assert await three.refresh("b") == 2
    assert await three.settled() == {2} and await three.serves()


@pytest.mark.parametrize("missing", PARTIES)
async def test_with_a_key_holder_missing_nothing_is_changed(three: Refreshables, missing: Party) -> None:
    assert await three.serves()
    await three.stop(missing)
    (left,) = (pair for pair in PAIRS if missing not in pair)
    for leader in left:
        with pytest.raises(UnavailableError) as caught:
            await three.refresh(leader)  # type: ignore[arg-type]
        assert caught.value.party == f"keyholder-{missing}"
    assert all(three.files(party) == [""] for party in PARTIES)
    assert await three.serves(left)
    await three.start(missing)
    await three.found_again()
    assert await three.refresh() == 2


async def test_two_refreshes_at_once_never_mix(three: Refreshables) -> None:
    """One wins, or both end in an error with nothing changed."""
    for _ in range(6):
        epoch = three["a"].epoch
        outcomes = await asyncio.gather(*(three.refresh(p) for p in PARTIES), return_exceptions=True)
        won = [found for found in outcomes if isinstance(found, int)]
        assert len(won) <= 1 and all(isinstance(f, int | UnavailableError) for f in outcomes), outcomes
        assert await three.settled() == {epoch + len(won)}
    assert await three.serves()


async def test_sessions_under_way_are_answered_or_may_be_asked_again(three: Refreshables) -> None:
    async def ask(pair: Pair) -> str:
        try:
            assert await three.serves(pair)
        except UnavailableError:
            return "again"
        return "answered"

    asked = [asyncio.create_task(ask(pair)) for _ in range(4) for pair in PAIRS]
    await asyncio.sleep(0.1)
    assert await three.refresh() == 2
    outcomes = await asyncio.gather(*asked)
    assert set(outcomes) <= {"answered", "again"} and "answered" in outcomes
    assert await three.settled() == {2} and await three.serves()


async def test_a_request_waits_while_the_shares_change(three: Refreshables) -> None:
    """It is brought while the turnstile is closed, and is answered with the new shares."""
    assert await three.serves()
    async with three["a"]._turnstile.closed(1.0) as empty:
        assert empty
        waiting = asyncio.create_task(three.serves("ab"))
        await asyncio.sleep(0.3)
        assert not waiting.done()
    assert await waiting


async def test_several_deaths_and_leaders_at_once_end_in_one_epoch_that_serves(three: Refreshables) -> None:
    rng = random.Random(7)

    async def lead(party: Party) -> None:
        with suppress(UnavailableError, asyncio.CancelledError):
            await three.refresh(party)

    for _ in range(6):
        plan = {(rng.choice(PARTIES), rng.choice(ALL_STEPS)) for _ in range(3)}
        leaders = rng.sample(PARTIES, rng.randint(1, 3))

        def strike(who: Party, step: str, plan: set[tuple[Party, str]] = plan) -> None:
            if (who, step) in plan and who not in three.dead:
                three.die(who)

        three.hook = strike
        await asyncio.gather(*map(lead, leaders))
        three.hook = lambda who, what: None
        await three.revive()
        assert len(await three.settled()) == 1, (plan, leaders)
        assert await three.serves(rng.choice(PAIRS)), (plan, leaders)
