"""Two calls at once: the other is cancelled, the clearer error wins, and the next pair is tried."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from tests.client.fakes import FakeMatchers
from veilmatch.client.wire import exchange
from veilmatch.client.wire.exchange import ask_both
from veilmatch.client.wire.exchange import with_fallback as with_fallback_and_count
from veilmatch.crypto.errors import (
    CiphertextError,
    DealtStockError,
    IntegrityError,
    KeySafetyError,
    ModelMismatchError,
    OverloadedError,
    ProtocolError,
    RequestExpiredError,
    RequestRefusedError,
    ServerDeviationError,
    StorageError,
    UnavailableError,
    UnknownSubjectError,
    VeilmatchError,
)


class Scripted:
    """Asks that end as told: per party a value, an error, or None to wait for ever."""

    def __init__(self, **ends: Any) -> None:
        self.ends, self.cancelled = ends, []

    async def __call__(self, matcher: Any) -> Any:
        party = matcher.party[-1]
        delay, end = self.ends[party] if isinstance(self.ends[party], tuple) else (0, self.ends[party])
        try:
            await asyncio.sleep(60 if end is None else delay)
        except asyncio.CancelledError:
            self.cancelled.append(party)
            raise
        if isinstance(end, BaseException):
            raise end
        return end


async def ask(script: Scripted, timeout_s: float = 5, others: tuple[Any, ...] = ()) -> Any:
    return await ask_both(FakeMatchers().both, script, timeout_s, others)


async def test_answers_come_in_the_order_of_the_matchers() -> None:
    assert await ask(Scripted(a=(0.02, "A"), b="B")) == ("A", "B")


#: More than a busy machine needs for what waits for nothing.
LONG_S = 30.0


@pytest.fixture
def long_graces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every grace is too long to be taken for none."""
    monkeypatch.setattr(exchange, "GRACE_S", tuple(LONG_S if grace_s else 0.0 for grace_s in exchange.GRACE_S))


@pytest.mark.parametrize(("failing", "waiting"), ["ab", "ba"])
async def test_error_of_one_cancels_the_other_at_once(failing: str, waiting: str, long_graces: None) -> None:
    script, started = Scripted(**{failing: UnknownSubjectError("who"), waiting: None}), time.monotonic()
    with pytest.raises(UnknownSubjectError):
        await ask(script, timeout_s=60)
    assert script.cancelled == [waiting]
    assert time.monotonic() - started < LONG_S


#: From the cause to those who only saw that somebody was gone, as servers send them.
BY_VAGUENESS: list[tuple[VeilmatchError, ...]] = [
    (
        CiphertextError("a ciphertext is not well-formed under this key and epoch"),
        RequestRefusedError("no"),
        UnknownSubjectError("who"),
        ModelMismatchError("another model", got="m2", expected="m1"),
    ),
    (ProtocolError("a message out of order"), IntegrityError("the server failed on this request", got="OSError")),
    (
        UnavailableError("cannot be reached", party="keyholder-a", available="no answer", alternatives=("bc",)),
        UnavailableError("does not answer", party="keyholder-b", alternatives=("ac",)),
    ),
    (
        UnavailableError("the gallery database cannot be used", available="SQLITE_FULL"),
        UnavailableError("matcher-b cannot be reached", party="matcher-b", available="no connection"),
    ),
    (
        UnavailableError("keyholder-a left the request", party="keyholder-a", needed="keyholder-a"),
        UnavailableError("matcher-a ended the request", party="matcher-a", needed="matcher-a"),
        UnavailableError("the request was abandoned here"),
    ),
]
BETTER_AND_WORSE = [
    (better, worse)
    for at, level in enumerate(BY_VAGUENESS)
    for better in level
    for less in BY_VAGUENESS[at + 1 :]
    for worse in less
]


@pytest.mark.parametrize("worse_s", [0.0, 0.02, 0.04])
@pytest.mark.parametrize(("at_better", "at_worse"), ["ab", "ba"])
async def test_the_error_nearer_to_the_cause_wins_in_every_order_of_arrival(
    at_better: str, at_worse: str, worse_s: float, long_graces: None
) -> None:
    scripts = [Scripted(**{at_better: (0.02, x), at_worse: (worse_s, y)}) for x, y in BETTER_AND_WORSE]
    caught = await asyncio.gather(*(ask(script, timeout_s=60) for script in scripts), return_exceptions=True)
    for found, (better, worse) in zip(caught, BETTER_AND_WORSE, strict=True):
        assert found is better, f"{found!r}, and not {better!r} where the other says {worse!r}"


async def test_whoever_left_has_time_to_say_why() -> None:
    late = exchange.GRACE_S[-1] * 0.7
    script = Scripted(a=(late, CiphertextError("not well-formed")), b=UnavailableError("keyholder-a left"))
    with pytest.raises(CiphertextError):
        await ask(script)


@pytest.mark.parametrize("error", [level[0] for level in BY_VAGUENESS[1:]], ids=lambda e: e.message[:20])
async def test_an_error_is_raised_after_a_short_grace_if_no_better_one_comes(error: VeilmatchError) -> None:
    script, started = Scripted(a=error, b=None), time.monotonic()
    with pytest.raises(type(error)):
        await ask(script)
    assert 0.25 <= time.monotonic() - started < 2
    assert script.cancelled == ["b"]


async def test_a_pair_that_will_be_tried_next_is_not_kept_waiting(long_graces: None) -> None:
    gone, started = UnavailableError("gone", alternatives=("bc",)), time.monotonic()
    with pytest.raises(UnavailableError, match="gone"):
        await ask(Scripted(a=gone, b=None), timeout_s=60, others=("bc",))
    assert time.monotonic() - started < LONG_S


@pytest.mark.parametrize("others", [("ac",), ()])
async def test_without_such_a_pair_there_is_a_grace(others: tuple[str, ...]) -> None:
    gone, started = UnavailableError("gone", alternatives=("bc",)), time.monotonic()
    with pytest.raises(UnavailableError, match="gone"):
        await ask(Scripted(a=gone, b=None), others=others)
    assert time.monotonic() - started >= 0.25


async def test_grace_ends_at_the_deadline(long_graces: None) -> None:
    started = time.monotonic()
    with pytest.raises(UnavailableError, match="left"):
        await ask(Scripted(a=UnavailableError("left"), b=None), timeout_s=0.1)
    assert time.monotonic() - started < LONG_S


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


async def test_what_still_runs_after_an_error_can_be_handed_over_and_after_an_answer_nothing_runs() -> None:
    handed: list[asyncio.Future[Any]] = []
    script = Scripted(a=(0.2, KeySafetyError("altered")), b=UnavailableError("gone", alternatives=("ac",)))
    with pytest.raises(UnavailableError, match="gone"):
        await ask_both(FakeMatchers().both, script, 5, ("ac",), handed.append)
    assert script.cancelled == [] and len(handed) == 1
    assert isinstance((await asyncio.gather(*handed, return_exceptions=True))[0], KeySafetyError)
    await ask_both(FakeMatchers().both, Scripted(a="A", b="B"), 5, ("ac",), handed.append)
    assert len(handed) == 1


# -- the next pair ---------------------------------------------------------------------------------


async def with_fallback(pairs: Any, attempt: Any, timeout_s: float, requests: int = 9) -> Any:
    return await with_fallback_and_count(pairs, attempt, timeout_s, lambda: requests - len(attempt.tried))


class Attempts:
    def __init__(self, **ends: VeilmatchError | str) -> None:
        self.ends, self.tried, self.limits, self.others = ends, [], [], []

    async def __call__(self, pair: str, left: float, others: Any) -> str:
        self.tried.append(pair)
        self.others.append(list(others))
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
    assert attempts.others == [["ac", "bc"], ["bc"]]


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


@pytest.mark.parametrize("kind", [IntegrityError, RequestExpiredError, StorageError, DealtStockError, VeilmatchError])
async def test_any_error_that_names_other_pairs_leads_to_one(kind: type[VeilmatchError]) -> None:
    attempts = Attempts(ab=kind("of its own", party="keyholder-b", alternatives=("ac",)), ac="answer")
    assert await with_fallback(["ab", "ac", "bc"], attempts, 5) == "answer"
    assert attempts.tried == ["ab", "ac"]


@pytest.mark.parametrize("kind", [KeySafetyError, ServerDeviationError, OverloadedError])
async def test_a_deviation_and_a_busy_server_lead_nowhere(kind: type[VeilmatchError]) -> None:
    attempts = Attempts(ab=kind("no", alternatives=("ac", "bc")), ac="answer")
    with pytest.raises(kind):
        await with_fallback(["ab", "ac", "bc"], attempts, 5)
    assert attempts.tried == ["ab"]


@pytest.mark.parametrize("kind", [KeySafetyError, ServerDeviationError])
@pytest.mark.parametrize("seats", ["ab", "ba"])
async def test_no_other_error_hides_a_deviation(kind: type[VeilmatchError], seats: str) -> None:
    other = RequestExpiredError("late", alternatives=("ac",))
    with pytest.raises(kind):
        await ask(Scripted(**{seats[0]: (0.01, other), seats[1]: kind("altered", alternatives=("ac",))}))


@pytest.mark.parametrize("kind", [KeySafetyError, ServerDeviationError])
async def test_the_text_of_an_accusation_says_who_accuses(kind: type[VeilmatchError]) -> None:
    with pytest.raises(kind) as caught:
        await ask(Scripted(a="A", b=kind("opened other values", party="keyholder-c", got=1)))
    assert str(caught.value) == "matcher-b says: opened other values (got 1)"
    assert caught.value.party == "keyholder-c" and caught.value.__context__ is None


async def test_of_the_errors_of_several_pairs_the_one_nearest_to_the_cause_is_raised() -> None:
    attempts = Attempts(
        ab=RequestExpiredError("540 s ago", party="keyholder-b", alternatives=("ac",)),
        ac=UnavailableError("keyholder-c is down", party="keyholder-c", alternatives=("ab",)),
    )
    with pytest.raises(RequestExpiredError) as caught:
        await with_fallback(["ab", "ac", "bc"], attempts, 5)
    assert (caught.value.party, caught.value.alternatives) == ("keyholder-b", ())


async def test_of_equal_errors_the_last_is_raised_and_names_no_pair_that_was_tried() -> None:
    attempts = Attempts(
        ab=UnavailableError("a is down", party="keyholder-a", alternatives=("bc",)),
        bc=UnavailableError("c is down", party="keyholder-c", alternatives=("ab", "ac")),
    )
    with pytest.raises(UnavailableError, match="c is down") as caught:
        await with_fallback(["ab", "bc"], attempts, 5)
    assert caught.value.alternatives == ("ac",)


async def test_of_equal_errors_one_that_says_when_to_ask_again_is_raised() -> None:
    """Both matchers of a pair, and then two pairs: one knows that it catches up, others only that somebody has left."""
    behind = UnavailableError("b is behind", party="matcher-b", alternatives=("ac",), retry_after_s=2.0)
    left = UnavailableError("matcher-b ended the request", party="matcher-b", alternatives=("ac",))
    with pytest.raises(UnavailableError, match="behind"):
        await ask(Scripted(a=left, b=behind))
    attempts = Attempts(ab=behind, ac=UnavailableError("c is down", party="matcher-c", alternatives=("ab",)))
    with pytest.raises(UnavailableError, match="behind") as caught:
        await with_fallback(["ab", "ac"], attempts, 5)
    assert caught.value.retry_after_s == 2.0


async def test_refusal_is_not_tried_elsewhere() -> None:
    attempts = Attempts(ab=RequestRefusedError("no"), ac="answer")
    with pytest.raises(RequestRefusedError):
        await with_fallback(["ab", "ac"], attempts, 5)


async def test_nothing_is_tried_after_the_deadline() -> None:
    attempts = Attempts(ab=UnavailableError("late", alternatives=("ac",)), ac="answer")

    async def slow(pair: str, left: float, others: Any) -> str:
        await asyncio.sleep(0.05)
        return await attempts(pair, left, others)

    with pytest.raises(UnavailableError, match="late"):
        await with_fallback_and_count(["ab", "ac"], slow, 0.02, lambda: 9)


async def test_nothing_is_tried_when_the_call_has_no_request_left() -> None:
    every = UnavailableError("out of stock", alternatives=("ab", "ac", "bc"))
    attempts = Attempts(ab=every, ac=every, bc="answer")
    with pytest.raises(UnavailableError):
        await with_fallback(["ab", "ac", "bc"], attempts, 5, requests=2)
    assert attempts.tried == ["ab", "ac"]
