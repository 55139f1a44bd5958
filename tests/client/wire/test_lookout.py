"""Signs of life: who gives none is left, who is only slow is not, and who is lost is found again."""

from __future__ import annotations

import asyncio
import gc
import time
from typing import Any

import pytest

from tests.client.fakes import FakeMatchers
from veilmatch.client.wire.pairs import lookout
from veilmatch.client.wire.pairs.health import PairHealth
from veilmatch.client.wire.pairs.lookout import Lookout, unless_silent
from veilmatch.crypto.errors import IntegrityError, UnavailableError

ALL: Any = ["ab", "ac", "bc"]


async def after(seconds: float, end: Any = "answer") -> Any:
    await asyncio.sleep(seconds)
    if isinstance(end, Exception):
        raise end
    return end


async def until(what: Any, limit_s: float = 5.0) -> float:
    """Return how long it took until `what` was true."""
    started = time.monotonic()
    while not what():
        assert time.monotonic() - started < limit_s, "it never comes true"
        await asyncio.sleep(0.01)
    return time.monotonic() - started


def others() -> set[asyncio.Task[Any]]:
    return asyncio.all_tasks() - {asyncio.current_task()}  # type: ignore[arg-type]


async def test_a_matcher_without_a_sign_of_life_is_left(fakes: FakeMatchers) -> None:
    fakes.a.lives = False
    started = time.monotonic()
    with pytest.raises(UnavailableError, match="no sign of life") as caught:
        await unless_silent(after(60), fakes.a, 0.5)
    assert 0.4 < time.monotonic() - started < 30 and caught.value.party == "matcher-a"
    assert others() == set()


async def test_a_matcher_that_is_slow_and_alive_is_waited_for(fakes: FakeMatchers) -> None:
    assert await unless_silent(after(1.5), fakes.a, 0.4) == "answer"
    assert fakes.a.asked >= 2 and others() == set()


async def test_a_quick_answer_takes_no_question(fakes: FakeMatchers) -> None:
    assert await unless_silent(after(0.0), fakes.a, 1.8) == "answer"
    with pytest.raises(IntegrityError):
        await unless_silent(after(0.1, IntegrityError("no")), fakes.a, 1.8)
    assert fakes.a.asked == 0


async def test_waiting_for_an_answer_that_comes_soon_takes_no_task(fakes: FakeMatchers) -> None:
    waiting = asyncio.ensure_future(unless_silent(after(0.3), fakes.a, 1.8))
    await asyncio.sleep(0.1)
    assert others() == {waiting}
    assert await waiting == "answer" and fakes.a.asked == 0


async def test_a_matcher_that_has_no_sign_at_once_is_asked_again_and_not_without_a_pause(fakes: FakeMatchers) -> None:
    asked = 0

    async def no_sign(timeout_s: float) -> bool:
        nonlocal asked
        asked += 1
        return False

    fakes.a.alive = no_sign  # type: ignore[method-assign]
    started = time.monotonic()
    with pytest.raises(UnavailableError, match="no sign of life"):
        await unless_silent(after(60), fakes.a, 0.8)
    assert time.monotonic() - started > 0.7 and 2 <= asked <= 5 and others() == set()


async def test_a_time_out_of_the_answer_itself_is_no_silence(fakes: FakeMatchers) -> None:
    with pytest.raises(TimeoutError, match="of the call"):
        await unless_silent(after(0.0, TimeoutError("of the call")), fakes.a, 1.8)


async def test_while_this_process_is_halted_nobody_is_silent(fakes: FakeMatchers) -> None:
    async def halted() -> Any:
        await asyncio.sleep(0.05)
        time.sleep(1.2)
        await asyncio.sleep(0.2)
        return "answer"

    fakes.a.lives = False
    assert await unless_silent(halted(), fakes.a, 1.0) == "answer"


async def test_who_cancels_the_wait_cancels_the_call_and_the_question(fakes: FakeMatchers) -> None:
    fakes.a.lives = False
    task = asyncio.ensure_future(unless_silent(after(60), fakes.a, 5.0))
    await asyncio.sleep(0.8)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert fakes.a.asked == 1 and others() == set()


# -- in the background -------------------------------------------------------------------------------------


async def test_a_lost_matcher_is_tried_last_until_it_is_back(fakes: FakeMatchers) -> None:
    health = PairHealth()
    looking = Lookout(fakes.all, health)
    fakes.a.state, fakes.a.comes_back = "down", False
    looking.lose("a")
    assert health.in_order(ALL) == ["bc", "ab", "ac"]
    await asyncio.sleep(0.3)
    assert health.in_order(ALL) == ["bc", "ab", "ac"] and fakes.a.doubts > 0
    fakes.a.comes_back = True
    await until(lambda: health.in_order(ALL) == ALL)
    assert others() == set()


async def test_a_matcher_that_was_only_slow_is_found_at_once(fakes: FakeMatchers) -> None:
    health = PairHealth()
    looking = Lookout(fakes.all, health)
    looking.lose("b")
    assert health.in_order(ALL)[0] == "ac"
    assert await until(lambda: health.in_order(ALL) == ALL) < 0.2


async def test_it_is_asked_often_at_first_and_then_less(fakes: FakeMatchers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookout, "LONGEST_PAUSE_S", 0.2)
    fakes.a.state, fakes.a.comes_back = "down", False
    looking = Lookout(fakes.all, PairHealth())
    for _ in range(5):
        looking.lose("a")
    await asyncio.sleep(1.5)
    assert 5 <= fakes.a.asked <= 15, "one task, whoever has lost it"
    await looking.end()
    asked = fakes.a.asked
    await asyncio.sleep(0.5)
    assert fakes.a.asked == asked and others() == set()


async def test_whoever_forgets_the_lookout_ends_it(fakes: FakeMatchers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookout, "LONGEST_PAUSE_S", 0.1)
    fakes.a.state, fakes.a.comes_back = "down", False
    Lookout(fakes.all, PairHealth()).lose("a")
    gc.collect()
    await until(lambda: not others())
    assert fakes.a.asked <= 2


async def test_a_matcher_of_somebody_elses_making_that_fails_is_not_there(fakes: FakeMatchers) -> None:
    async def broken(timeout_s: float) -> bool:
        raise LookupError

    fakes.a.alive = broken  # type: ignore[method-assign]
    health = PairHealth()
    looking = Lookout(fakes.all, health)
    looking.lose("a")
    await asyncio.sleep(0.3)
    assert health.in_order(ALL)[0] == "bc"
    await looking.end()


def test_what_two_have_lost_is_tried_with_the_one_that_is_there_before_both() -> None:
    health = PairHealth()
    health.lost("a")
    health.lost("b")
    assert health.in_order(ALL) == ["ac", "bc", "ab"]
    health.served("bc")
    assert health.in_order(ALL) == ["bc", "ab", "ac"]
    health.found("a")
    assert health.in_order(ALL) == ALL
