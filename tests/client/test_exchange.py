"""Two calls at once: the other is cancelled, the clearer error wins, and the next pair is tried."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from veilmatch.client import exchange
from veilmatch.client.exchange import ask_both, with_fallback
from veilmatch.crypto.errors import (
    IntegrityError,
    RequestRefusedError,
    UnavailableError,
    UnknownSubjectError,
    VeilmatchError,
)

from .fakes import FakePair


class Scripted:
    """Asks that end as told: per party a value, an error, or None to wait for ever."""

    def __init__(self, **ends: Any) -> None:
        self.ends, self.cancelled = ends, []

    async def __call__(self, matcher: Any) -> Any:
        seat = matcher.party[-1]
        delay, end = self.ends[seat] if isinstance(self.ends[seat], tuple) else (0, self.ends[seat])
        try:
            await asyncio.sleep(60 if end is None else delay)
        except asyncio.CancelledError:
            self.cancelled.append(seat)
            raise
        if isinstance(end, BaseException):
            raise end
        return end


async def ask(script: Scripted, timeout_s: float = 5) -> Any:
    return await ask_both(FakePair().both, script, timeout_s)


async def test_answers_come_in_the_order_of_the_matchers() -> None:
    assert await ask(Scripted(a=(0.02, "A"), b="B")) == ("A", "B")


@pytest.mark.parametrize(("failing", "waiting"), ["ab", "ba"])
async def test_error_of_one_cancels_the_other_at_once(failing: str, waiting: str) -> None:
    script, started = Scripted(**{failing: UnknownSubjectError("who"), waiting: None}), time.monotonic()
    with pytest.raises(UnknownSubjectError):
        await ask(script)
    assert script.cancelled == [waiting]
    assert time.monotonic() - started < exchange.GRACE_S


@pytest.mark.parametrize(("vague", "clear"), ["ab", "ba"])
async def test_typed_error_beats_a_missing_party(vague: str, clear: str) -> None:
    script = Scripted(**{vague: UnavailableError("gone"), clear: (0.02, RequestRefusedError("no"))})
    with pytest.raises(RequestRefusedError):
        await ask(script)


async def test_error_with_alternatives_beats_one_without() -> None:
    script = Scripted(a=UnavailableError("gone"), b=(0.02, UnavailableError("gone", alternatives=("bc",))))
    with pytest.raises(UnavailableError) as caught:
        await ask(script)
    assert caught.value.alternatives == ("bc",)


async def test_missing_party_is_reported_after_a_short_grace() -> None:
    script, started = Scripted(a=UnavailableError("gone", party="matcher-a"), b=None), time.monotonic()
    with pytest.raises(UnavailableError, match="gone"):
        await ask(script)
    assert exchange.GRACE_S <= time.monotonic() - started < 2
    assert script.cancelled == ["b"]


async def test_other_pairs_are_not_kept_waiting() -> None:
    script, started = Scripted(a=UnavailableError("gone", alternatives=("bc",)), b=None), time.monotonic()
    with pytest.raises(UnavailableError, match="gone"):
        await ask(script)
    assert time.monotonic() - started < exchange.GRACE_S


async def test_deadline_names_who_did_not_answer() -> None:
    script = Scripted(a="A", b=None)
    with pytest.raises(UnavailableError) as caught:
        await ask(script, timeout_s=0.05)
    assert caught.value.party == "matcher-b"
    assert script.cancelled == ["b"]


async def test_unforeseen_error_leaves_as_one_of_ours_without_its_text() -> None:
    with pytest.raises(IntegrityError) as caught:
        await ask(Scripted(a=ValueError("coordinates 1 2 3"), b=None))
    assert "coordinates" not in str(caught.value) and caught.value.got == "ValueError"


async def test_cancelled_caller_cancels_both() -> None:
    script = Scripted(a=None, b=None)
    task = asyncio.ensure_future(ask(script))
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(script.cancelled) == ["a", "b"]


# -- the next pair ---------------------------------------------------------------------------------


class Attempts:
    def __init__(self, **ends: VeilmatchError | str) -> None:
        self.ends, self.tried, self.limits = ends, [], []

    async def __call__(self, pair: str, left: float) -> str:
        self.tried.append(pair)
        self.limits.append(left)
        end = self.ends[pair]
        if isinstance(end, VeilmatchError):
            raise end
        return end


async def test_next_pair_is_tried_with_the_time_that_is_left() -> None:
    attempts = Attempts(ab=UnavailableError("a is down", alternatives=("bc", "ac")), ac="answer")
    assert await with_fallback(["ab", "ac", "bc"], attempts, 5) == "answer"
    assert attempts.tried == ["ab", "ac"]
    assert attempts.limits[1] <= attempts.limits[0] <= 5


async def test_pairs_that_cannot_serve_are_left_out() -> None:
    attempts = Attempts(ab=UnavailableError("a is down", alternatives=("bc",)), bc="answer")
    assert await with_fallback(["ab", "ac", "bc"], attempts, 5) == "answer"
    assert attempts.tried == ["ab", "bc"]


async def test_pair_outside_the_settings_is_never_used() -> None:
    attempts = Attempts(ab=UnavailableError("a is down", alternatives=("bc",)))
    with pytest.raises(UnavailableError):
        await with_fallback(["ab"], attempts, 5)
    assert attempts.tried == ["ab"]


async def test_no_pair_is_tried_twice() -> None:
    every = UnavailableError("out of stock", alternatives=("ab", "ac", "bc"))
    attempts = Attempts(ab=every, ac=every, bc=every)
    with pytest.raises(UnavailableError):
        await with_fallback(["ab", "ac", "bc"], attempts, 5)
    assert attempts.tried == ["ab", "ac", "bc"]


async def test_missing_matcher_has_no_stand_in() -> None:
    attempts = Attempts(ab=UnavailableError("matcher-a cannot be reached"), ac="answer")
    with pytest.raises(UnavailableError):
        await with_fallback(["ab", "ac"], attempts, 5)
    assert attempts.tried == ["ab"]


async def test_refusal_is_not_tried_elsewhere() -> None:
    attempts = Attempts(ab=RequestRefusedError("no"), ac="answer")
    with pytest.raises(RequestRefusedError):
        await with_fallback(["ab", "ac"], attempts, 5)


async def test_nothing_is_tried_after_the_deadline() -> None:
    attempts = Attempts(ab=UnavailableError("late", alternatives=("ac",)), ac="answer")

    async def slow(pair: str, left: float) -> str:
        await asyncio.sleep(0.05)
        return await attempts(pair, left)

    with pytest.raises(UnavailableError, match="late"):
        await with_fallback(["ab", "ac"], slow, 0.02)
