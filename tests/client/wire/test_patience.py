"""What a call waits for: matchers that come back, and busy servers, once; and what it does not wait for."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.client.fakes import FakeMatchers
from veilmatch.client.wire.pairs.patience import Patience
from veilmatch.crypto.errors import (
    AuditLogError,
    IntegrityError,
    OverloadedError,
    RequestRefusedError,
    StorageError,
    UnavailableError,
    VeilmatchError,
)

GONE = UnavailableError("matcher-b cannot be reached", party="matcher-b", needed="matcher-b")


def plenty() -> int:
    """Requests that a call may still make."""
    return 9


class Script:
    """Attempts that end as told, one after the other; an error takes its matcher away."""

    def __init__(self, fakes: FakeMatchers, *ends: Any) -> None:
        self.fakes, self.ends, self.limits = fakes, list(ends), []

    async def __call__(self, left_s: float) -> Any:
        self.limits.append(left_s)
        end = self.ends.pop(0)
        if end is GONE:
            self.fakes.b.state = "down"
        if isinstance(end, VeilmatchError):
            raise end
        return end


@pytest.fixture
async def patience(fakes: FakeMatchers) -> Patience:
    """Of a client that both matchers have answered before."""
    patience = Patience(fakes.all)
    await patience.ask(Script(fakes, "first"), 1.0, plenty, ["ab"], "ab")
    return patience


async def test_a_matcher_that_restarts_is_waited_for(patience: Patience, fakes: FakeMatchers) -> None:
    script = Script(fakes, GONE, "answer")
    assert await patience.ask(script, 5.0, plenty, ["ab"], "ab") == "answer"
    assert fakes.b.connects == 1 and fakes.a.connects == 0
    assert script.limits[1] < script.limits[0] <= 5.0


async def test_its_peer_may_need_a_moment_more_to_find_it(patience: Patience, fakes: FakeMatchers) -> None:
    not_found = UnavailableError("matcher-b cannot be reached", party="matcher-b", available="no answer")
    assert (
        await patience.ask(Script(fakes, GONE, not_found, not_found, "answer"), 5.0, plenty, ["ab"], "ab") == "answer"
    )
    assert fakes.b.connects == 1


async def test_a_matcher_that_stays_away_is_the_error_and_later_calls_do_not_wait(
    patience: Patience, fakes: FakeMatchers
) -> None:
    fakes.b.comes_back = False
    with pytest.raises(UnavailableError) as caught:
        await patience.ask(Script(fakes, GONE), 0.5, plenty, ["ab"], "ab")
    assert caught.value is GONE and fakes.b.connects == 1
    time.sleep(0.5)
    with pytest.raises(UnavailableError):
        await patience.ask(Script(fakes, GONE), 0.5, plenty, ["ab"], "ab")
    assert fakes.b.connects == 1


async def test_a_matcher_that_was_never_there_is_not_waited_for(fakes: FakeMatchers) -> None:
    with pytest.raises(UnavailableError):
        await Patience(fakes.all).ask(Script(fakes, GONE), 5.0, plenty, ["ab"], "ab")
    assert fakes.b.connects == 0


async def test_a_matcher_that_is_connected_has_not_restarted(patience: Patience, fakes: FakeMatchers) -> None:
    hangs = UnavailableError("matcher-b does not answer", party="matcher-b")
    with pytest.raises(UnavailableError):
        await patience.ask(Script(fakes, hangs), 5.0, plenty, ["ab"], "ab")


async def test_after_a_restart_no_error_of_a_server_about_anybody_else_is_waited_for(
    patience: Patience, fakes: FakeMatchers
) -> None:
    for said in (UnavailableError("no", party="keyholder-b"), UnavailableError("no", party="matcher-a")):
        with pytest.raises(UnavailableError) as caught:
            await patience.ask(Script(fakes, GONE, said, "answer"), 5.0, plenty, ["ab"], "ab")
        assert caught.value is said


async def test_a_matcher_that_is_there_and_failed_is_asked_again_before_one_that_is_gone_is_back(
    patience: Patience, fakes: FakeMatchers
) -> None:
    """With b gone the pair ac is whole: c failed in it, and b does not come back."""
    ended = UnavailableError("matcher-c ended the request", party="matcher-c")
    fakes.b.comes_back = False
    fakes.b.state = "down"
    pairs = ["ab", "ac", "bc"]
    assert await patience.ask(Script(fakes, ended, "answer"), 5.0, plenty, pairs, "abc") == "answer"
    assert fakes.b.connects == 0


async def test_what_a_key_holder_fails_in_waits_for_the_matcher_that_is_gone(
    patience: Patience, fakes: FakeMatchers
) -> None:
    fakes.b.state = "down"
    lacks = UnavailableError("keyholder-c cannot be reached", party="keyholder-c")
    assert await patience.ask(Script(fakes, lacks, "answer"), 5.0, plenty, ["ab", "ac", "bc"], "abc") == "answer"
    assert fakes.b.connects == 2  # for both of its pairs


async def test_a_call_without_requests_left_waits_for_nothing(patience: Patience, fakes: FakeMatchers) -> None:
    for error in (GONE, OverloadedError("busy", retry_after_s=0.1)):
        with pytest.raises(type(error)):
            await patience.ask(Script(fakes, error, "answer"), 5.0, lambda: 0, ["ab"], "ab")
    assert fakes.b.connects == 0


async def test_the_last_request_comes_when_its_peer_has_had_time_to_find_it(
    patience: Patience, fakes: FakeMatchers
) -> None:
    started = time.monotonic()
    assert await patience.ask(Script(fakes, GONE, "answer"), 5.0, lambda: 1, ["ab"], "ab") == "answer"
    assert 1.0 <= time.monotonic() - started < 2.5
    started = time.monotonic()
    assert await patience.ask(Script(fakes, GONE, "answer"), 1.0, lambda: 1, ["ab"], "ab") == "answer"
    assert time.monotonic() - started < 1.0


@pytest.mark.parametrize("kind", [AuditLogError, StorageError, IntegrityError, RequestRefusedError])
async def test_a_cause_is_raised_although_a_matcher_has_gone(
    patience: Patience, fakes: FakeMatchers, kind: type[VeilmatchError]
) -> None:
    fakes.b.state = "down"
    with pytest.raises(kind):
        await patience.ask(Script(fakes, kind("no")), 5.0, plenty, ["ab"], "ab")
    assert fakes.b.connects == 0


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long it was waited, each time, for nothing but the time."""
    waited: list[float] = []

    async def wait(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr("veilmatch.client.wire.pairs.patience.asyncio.sleep", wait)
    return waited


@pytest.mark.parametrize("kind", [OverloadedError, UnavailableError])
async def test_a_server_that_says_when_to_come_again_is_asked_once_more_after_one_to_two_times_its_wait(
    patience: Patience, fakes: FakeMatchers, kind: type[VeilmatchError], waits: list[float]
) -> None:
    script = Script(fakes, kind("not now", retry_after_s=0.4), "answer")
    assert await patience.ask(script, 5.0, plenty, ["ab"], "ab") == "answer"
    (wait_s,) = waits
    assert 0.4 <= wait_s <= 0.8


@pytest.mark.parametrize("retry_after_s", [None, 5.0, 60.0])
async def test_a_wait_that_does_not_fit_is_the_callers(
    patience: Patience, fakes: FakeMatchers, waits: list[float], retry_after_s: float | None
) -> None:
    with pytest.raises(OverloadedError) as caught:
        await patience.ask(
            Script(fakes, OverloadedError("busy", retry_after_s=retry_after_s)), 5.0, plenty, ["ab"], "ab"
        )
    assert caught.value.retry_after_s == retry_after_s and waits == []


async def test_a_server_that_is_still_busy_is_left_alone(patience: Patience, fakes: FakeMatchers) -> None:
    busy = OverloadedError("busy", retry_after_s=0.01)
    with pytest.raises(OverloadedError):
        await patience.ask(Script(fakes, busy, busy, "answer"), 5.0, plenty, ["ab"], "ab")
