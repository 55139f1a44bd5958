"""How often a key holder takes part in refreshes of one leader: durably, and whatever the clock says."""

from __future__ import annotations

import random
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from tests.keyholder.refreshables import Refreshables, refreshables
from tests.keyholder.trio import stocked
from veilmatch.crypto.errors import IntegrityError, ProtocolError, RefreshIntervalError, UnavailableError
from veilmatch.crypto.keys.parties import PARTIES, Party
from veilmatch.server.keyholder.refresh.pace import BEGUN_AT_MOST, Pace

INTERVAL_S = 600.0


class Clock:
    def __init__(self) -> None:
        self.now = 1.7e9

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def opened(folder: Path, clock: Clock) -> Pace:
    return Pace(folder, "b", INTERVAL_S, clock)


def begun(pace: Pace, leader: Party = "a", *, used: bool = False) -> bool:
    name = secrets.token_bytes(32)
    try:
        pace.begin(leader, name)
    except RefreshIntervalError:
        return False
    if used:
        pace.use(name)
    return True


def refusal(pace: Pace, leader: Party = "a") -> RefreshIntervalError:
    with pytest.raises(RefreshIntervalError) as caught:
        pace.require(leader)
    return caught.value


# -- what counts ----------------------------------------------------------------------------------------


def test_one_that_is_used_is_the_last_one_of_its_leader_in_the_interval(tmp_path: Path, clock: Clock) -> None:
    pace = opened(tmp_path, clock)
    assert begun(pace, used=True) and not begun(pace)
    clock.now += INTERVAL_S - 0.002
    assert not begun(pace)
    clock.now += 0.002
    assert begun(pace, used=True) and not begun(pace)


def test_three_that_fail_may_be_begun_and_then_no_more(tmp_path: Path, clock: Clock) -> None:
    """A leader whose peer went down in the middle tries again at once; one that lets them fail gains nothing."""
    pace = opened(tmp_path, clock)
    outcomes = []
    for _ in range(5):
        outcomes.append(begun(pace))
        clock.now += 10.0
    assert outcomes == [True] * BEGUN_AT_MOST + [False] * 2
    clock.now += INTERVAL_S - 50.0
    assert begun(pace) and not begun(pace)


def test_each_leader_has_an_interval_of_its_own(tmp_path: Path, clock: Clock) -> None:
    pace = opened(tmp_path, clock)
    assert begun(pace, "a", used=True) and begun(pace, "c", used=True)
    assert not begun(pace, "a") and not begun(pace, "c")
    pace.require("b")


def test_the_refusal_says_who_when_and_how_many(tmp_path: Path, clock: Clock) -> None:
    pace = opened(tmp_path, clock)
    begun(pace, used=True)
    clock.now += 100.0
    error = refusal(pace)
    assert (error.code, error.exit_status, error.limit, error.retry_after_s) == ("refresh_interval", 9, 1, 500.0)
    assert "keyholder-b takes part" in error.message and "keyholder-a" in (error.budget or "")
    clock.now += error.retry_after_s or 0
    assert [begun(pace) for _ in range(BEGUN_AT_MOST)] == [True] * 3
    assert (refusal(pace).limit, refusal(pace).retry_after_s) == (BEGUN_AT_MOST, INTERVAL_S)
    clock.now += refusal(pace).retry_after_s or 0
    assert begun(pace)


def test_in_any_span_of_the_interval_there_are_never_more_of_either(tmp_path: Path, clock: Clock) -> None:
    pace, rng = opened(tmp_path, clock), random.Random(3)
    begins: list[float] = []
    uses: list[float] = []
    for _ in range(400):
        clock.now += rng.choice((0.1, 5.0, 100.0, 250.0))
        used = rng.random() < 0.4
        if begun(pace, used=used):
            begins.append(clock.now)
            uses += [clock.now] if used else []
    assert len(uses) > 30
    for times, most in ((begins, BEGUN_AT_MOST), (uses, 1)):
        for start in times:
            assert sum(start <= at < start + INTERVAL_S for at in times) <= most


def test_a_refresh_that_was_begun_before_is_not_begun_again(tmp_path: Path, clock: Clock) -> None:
    pace = opened(tmp_path, clock)
    pace.begin("a", bytes(32))
    with pytest.raises(ProtocolError):
        pace.begin("a", bytes(32))
    assert begun(pace) and begun(pace) and not begun(pace)


def test_its_own_refreshes_count_like_those_of_a_peer(tmp_path: Path, clock: Clock) -> None:
    pace = opened(tmp_path, clock)
    for _ in range(BEGUN_AT_MOST):
        pace.require("b")
        pace.note(secrets.token_bytes(32))
    assert refusal(pace, "b").retry_after_s == INTERVAL_S


# -- restarts and clocks --------------------------------------------------------------------------------


def test_a_restart_changes_nothing(tmp_path: Path, clock: Clock) -> None:
    pace = opened(tmp_path, clock)
    begun(pace, used=True)
    pace.close()
    again = opened(tmp_path, clock)
    assert not begun(again) and refusal(again).retry_after_s == INTERVAL_S


@pytest.mark.parametrize("restarted", [False, True])
def test_a_clock_that_is_set_back_gives_nothing_away(tmp_path: Path, clock: Clock, restarted: bool) -> None:
    pace = opened(tmp_path, clock)
    begun(pace, used=True)
    clock.now -= 10 * INTERVAL_S
    if restarted:
        pace.close()
        pace = opened(tmp_path, clock)
    assert not begun(pace) and refusal(pace).retry_after_s == INTERVAL_S
    clock.now += 10 * INTERVAL_S + INTERVAL_S - 1.0
    assert not begun(pace)
    clock.now += 1.0
    assert begun(pace)


def test_what_cannot_be_counted_is_not_begun(tmp_path: Path, clock: Clock) -> None:
    pace = opened(tmp_path, clock)
    with pace._engine.begin() as connection:
        connection.execute(text("DROP TABLE begun"))
    for call in (lambda: pace.require("a"), lambda: pace.begin("a", bytes(32)), lambda: pace.note(bytes(32))):
        with pytest.raises(IntegrityError, match="damaged"):
            call()


# -- key holders ----------------------------------------------------------------------------------------


@pytest.fixture
async def three(tmp_path: Path) -> AsyncIterator[Refreshables]:
    async with refreshables(await stocked(tmp_path / "trio"), refresh_interval_s=INTERVAL_S) as made:
        yield made


def does_not_hold_itself_to_it(three: Refreshables, party: Party, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("require", "note"):
        monkeypatch.setattr(three.hands[party].pace, name, lambda *_: None)


async def led(three: Refreshables, times: int) -> tuple[int, list[RefreshIntervalError]]:
    """How many epochs a gains by leading so often, and what it was refused with."""
    before, refusals = three["a"].epoch, []
    for _ in range(times):
        try:
            await three.refresh("a")
        except RefreshIntervalError as error:
            refusals.append(error)
        await three.settled()
    return three["b"].epoch - before, refusals


async def test_one_leader_does_not_use_up_the_epochs(three: Refreshables, monkeypatch: pytest.MonkeyPatch) -> None:
    does_not_hold_itself_to_it(three, "a", monkeypatch)
    gained, refusals = await led(three, 5)
    assert gained == 1 and len(refusals) == 4
    assert all(e.retry_after_s and INTERVAL_S - 60.0 < e.retry_after_s <= INTERVAL_S for e in refusals)
    assert await three.serves()
    # The others are not shut out with it.
    assert await three.refresh("b") == 3


async def test_without_the_interval_it_would(three: Refreshables, monkeypatch: pytest.MonkeyPatch) -> None:
    does_not_hold_itself_to_it(three, "a", monkeypatch)
    for party in "bc":
        monkeypatch.setattr(three.hands[party].pace, "_require", lambda *_: 0)  # type: ignore[index]
    assert await led(three, 5) == (5, [])


async def test_neither_a_restart_nor_a_clock_that_is_set_back_lets_it_lead_sooner(
    three: Refreshables, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await three.refresh("a") == 2 and await three.settled() == {2}
    await three.stop(*PARTIES)
    three.clock_s = dict.fromkeys(PARTIES, -10 * INTERVAL_S)
    await three.start(*PARTIES)
    await three.found_again()
    does_not_hold_itself_to_it(three, "a", monkeypatch)
    assert (await led(three, 1))[0] == 0
    # The leader's own operator is told so before anybody is asked.
    with pytest.raises(RefreshIntervalError, match="keyholder-c takes part"):
        three.hands["c"].pace.require("a")
    three.clock_s = dict.fromkeys(PARTIES, INTERVAL_S)
    assert (await led(three, 1))[0] == 1


async def test_an_operator_is_told_by_the_own_key_holder_before_anybody_is_asked(three: Refreshables) -> None:
    await three.refresh("a")
    await three.settled()
    with pytest.raises(RefreshIntervalError, match="keyholder-a takes part in no other refresh led by keyholder-a"):
        await three.refresh("a")
    assert [three.hands[party].state().epoch for party in PARTIES] == [2, 2, 2]


async def test_a_leader_whose_refresh_failed_tries_again_at_once(three: Refreshables) -> None:
    """c goes down in the middle of it, and is missing at the next attempts: those are not begun."""
    three.hook = lambda who, what: three.die("c") if (who, what) == ("c", "after prepare") else None
    with pytest.raises(UnavailableError):
        await three.refresh("a")
    three.hook = lambda who, what: None
    for _ in range(5):
        with pytest.raises(UnavailableError, match="cannot be reached"):
            await three.refresh("a")
    await three.revive()
    await three.settled()
    assert await three.refresh("a") == 2


async def test_refreshes_that_are_begun_and_let_fail_are_refused_as_well(
    three: Refreshables, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They take no epoch, but work of both others."""
    does_not_hold_itself_to_it(three, "a", monkeypatch)

    def fails(_: bytes) -> Any:
        raise UnavailableError("never decided")

    monkeypatch.setattr(three.hands["a"], "decide", fails)
    for _ in range(BEGUN_AT_MOST):
        with pytest.raises(UnavailableError, match="never decided"):
            await three.refresh("a")
        assert await three.settled() == {1}
    with pytest.raises(RefreshIntervalError):
        await three.refresh("a")
    assert await three.serves("bc")
