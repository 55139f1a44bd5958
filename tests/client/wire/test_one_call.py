"""One call: a deviation is reported whatever the other matcher says first, and requests have a bound."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.client.conftest import face
from tests.client.fakes import FakePair, body_of
from veilmatch import AsyncClient, DeviceSettings
from veilmatch.client.results import Verification
from veilmatch.client.wire import exchange, patience
from veilmatch.client.wire.connection import request_id
from veilmatch.crypto.errors import (
    IntegrityError,
    KeySafetyError,
    OverloadedError,
    RequestRefusedError,
    ServerDeviationError,
    UnavailableError,
    VeilmatchError,
)

ELSEWHERE = UnavailableError("keyholder-b does not answer", party="keyholder-b", alternatives=("ac",))
LOGGER = "veilmatch.client.wire.one_call"


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "GRACE_S", (0.0, 0.0, 0.02, 0.02, 0.02, 0.05))
    monkeypatch.setattr(patience, "FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr(patience, "LONGEST_PAUSE_S", 0.04)


@pytest.fixture
async def client(settings: DeviceSettings, pair: FakePair) -> AsyncIterator[AsyncClient]:
    """A client that both matchers have answered before."""
    pair.templates, pair.looks_like = ["ada"], {"ada"}
    async with AsyncClient(settings, matchers=pair.both) as made:
        await made.subjects()
        pair.a.requests.clear()
        pair.b.requests.clear()
        yield made


async def verify(client: AsyncClient, timeout_s: float | None = None) -> Verification:
    return await client.verify_embedding("ada", face(1), model="toy", timeout_s=timeout_s)


def at_first(matcher: Any, first: Callable[[], Any], later: Callable[[], Any] = lambda: None) -> None:
    """Let a matcher do something at the first request from now on, and something else at later ones."""
    seen: list[Any] = []

    def before(kind: str, request: Any) -> Any:
        seen.append(request)
        return first() if len(seen) == 1 else later()

    matcher.before = before


def says(error: VeilmatchError) -> Callable[[], Any]:
    def say() -> None:
        raise VeilmatchError.from_fields(error.fields())

    return say


def says_after(seconds: float, error: VeilmatchError) -> Callable[[], Any]:
    async def wait() -> None:
        await asyncio.sleep(seconds)
        raise error

    return wait


def lose(matcher: Any, error: VeilmatchError) -> Callable[[], Any]:
    def drop() -> None:
        matcher.state = "down"
        raise error

    return drop


# -- deviations --------------------------------------------------------------------------------------------

#: What a server that was found out can say first, to be asked again.
EXCUSES = [
    lambda matcher: says(ELSEWHERE),
    lambda matcher: says(RequestRefusedError("of its own", party="keyholder-b", alternatives=("ac", "bc"))),
    lambda matcher: says(OverloadedError("busy", retry_after_s=0.3)),
    lambda matcher: says(UnavailableError("the shares are being refreshed", retry_after_s=0.3)),
    lambda matcher: lose(matcher, UnavailableError("cannot be reached", party=matcher.party, needed=matcher.party)),
]


@pytest.mark.parametrize("excuse", EXCUSES)
@pytest.mark.parametrize(("liar", "kind"), [("a", KeySafetyError), ("b", ServerDeviationError)])
async def test_no_excuse_of_one_matcher_hides_the_deviation_that_the_other_finds_before_the_next_answer(
    client: AsyncClient, pair: FakePair, liar: str, excuse: Callable[[Any], Any], kind: type[VeilmatchError]
) -> None:
    lying, honest = (pair.a, pair.b) if liar == "a" else (pair.b, pair.a)
    at_first(lying, excuse(lying))
    at_first(honest, says_after(0.8, kind("opened other values", party="keyholder-b")), lambda: asyncio.sleep(60))
    with pytest.raises(kind) as caught:
        await verify(client)
    assert caught.value.request_id == request_id(honest.requests[0]) and len(honest.requests) == 2
    assert honest.cancelled == 1, "nobody works for a call that has ended"


async def test_a_deviation_that_is_found_after_the_next_answer_is_logged_and_counts_against_its_pair(
    client: AsyncClient, pair: FakePair, caplog: pytest.LogCaptureFixture
) -> None:
    at_first(pair.b, says(UnavailableError("soon", party="keyholder-b", alternatives=("ac",), retry_after_s=0.01)))
    at_first(pair.a, says_after(0.3, KeySafetyError("opened other values", party="keyholder-b")))
    with caplog.at_level(logging.WARNING, LOGGER):
        assert (await verify(client)).pair == "ac"
        assert caplog.records == [] and pair.a.cancelled == 0
        await asyncio.sleep(0.4)
    (record,) = caplog.records
    assert record.levelname == "WARNING" and request_id(pair.a.requests[0]) in record.getMessage()
    assert "pair ab" in record.getMessage() and "matcher-a says: opened other values" in record.getMessage()
    assert [(await verify(client)).pair for _ in range(3)] == ["ac"] * 3


async def test_a_deviation_is_logged_although_every_pair_was_excused_before_it_was_found(
    client: AsyncClient, pair: FakePair, caplog: pytest.LogCaptureFixture
) -> None:
    every = says(UnavailableError("no", party="keyholder-b", alternatives=("ab", "ac", "bc")))
    at_first(pair.b, every, every)
    at_first(pair.a, says_after(0.4, KeySafetyError("opened other values")), lambda: asyncio.sleep(60))
    with pytest.raises(UnavailableError):
        await verify(client)
    await asyncio.sleep(0.6)
    assert "opened other values" in caplog.text
    assert pair.a.cancelled == 1, "the last request was given up for no other one"


async def test_other_ends_of_a_request_that_was_given_up_are_nobodys_business(
    client: AsyncClient, pair: FakePair, caplog: pytest.LogCaptureFixture
) -> None:
    left, unforeseen = UnavailableError("keyholder-b left"), IntegrityError("the server failed", got="ValueError")
    for late in (says_after(0.1, left), says_after(0.1, unforeseen), lambda: asyncio.sleep(0.1)):
        client._connection._health._suspected.clear()
        at_first(pair.b, says(ELSEWHERE))
        at_first(pair.a, late)
        assert (await verify(client)).pair == "ac"
        await asyncio.sleep(0.15)
    assert caplog.records == []


async def test_what_is_heard_ends_with_the_time_of_the_call(client: AsyncClient, pair: FakePair) -> None:
    at_first(pair.b, says(ELSEWHERE))
    at_first(pair.a, lambda: asyncio.sleep(60))
    started = time.monotonic()
    await verify(client, timeout_s=0.5)
    assert pair.a.cancelled == 0
    await asyncio.sleep(0.55 - (time.monotonic() - started))
    assert pair.a.cancelled == 1


async def test_what_is_heard_ends_with_the_client(settings: DeviceSettings, pair: FakePair) -> None:
    pair.templates = ["ada"]
    at_first(pair.b, says(ELSEWHERE))
    at_first(pair.a, lambda: asyncio.sleep(60))
    async with AsyncClient(settings, matchers=pair.both) as client:
        await verify(client)
        assert pair.a.cancelled == 0
    assert pair.a.cancelled == 1 and pair.a.closed
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []


async def test_who_cancels_a_call_cancels_all_of_it(client: AsyncClient, pair: FakePair) -> None:
    at_first(pair.b, says(ELSEWHERE), lambda: asyncio.sleep(60))
    at_first(pair.a, lambda: asyncio.sleep(60), lambda: asyncio.sleep(60))
    task = asyncio.ensure_future(verify(client))
    while len(pair.a.requests) < 2:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (pair.a.cancelled, pair.b.cancelled) == (2, 1)


# -- how many requests ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("pairs", [["ab"], ["ab", "ac"], ["ab", "ac", "bc"]])
@pytest.mark.parametrize("drops", ["never", "once", "always"])
@pytest.mark.parametrize("party", ["keyholder-b", "matcher-a", "matcher-b"])
@pytest.mark.parametrize("alternatives", [(), ("ab", "ac", "bc")])
async def test_a_matcher_that_lies_gets_one_request_more_than_there_are_pairs_at_most(
    settings: DeviceSettings, pair: FakePair, pairs: Any, drops: str, party: str, alternatives: Any
) -> None:
    pair.templates = ["ada"]

    def lie() -> None:
        if drops == "always":
            pair.a.state = "down"
        raise UnavailableError("no", party=party, alternatives=alternatives)

    async with AsyncClient(settings.model_copy(update={"pairs": pairs}), matchers=pair.both) as client:
        await client.subjects()
        first = lose(pair.a, UnavailableError("no", alternatives=alternatives))
        at_first(pair.a, first if drops == "once" else lie, lie)
        pair.b.requests.clear()
        with pytest.raises(UnavailableError):
            await verify(client)
    assert len(pair.b.requests) <= len(pairs) + (drops != "never")


async def test_a_busy_server_and_lies_before_and_after_share_the_bound(client: AsyncClient, pair: FakePair) -> None:
    def lie(kind: str, request: Any) -> None:
        if body_of(request).pair == "bc":
            raise OverloadedError("busy", retry_after_s=0.0)
        raise UnavailableError("no", party="keyholder-b", alternatives=("ab", "ac", "bc"))

    pair.a.before = lie
    with pytest.raises(VeilmatchError):
        await verify(client)
    assert [body_of(request).pair for request in pair.b.requests][:3] == ["ab", "ac", "bc"]
    assert len(pair.b.requests) == 4


async def test_the_next_call_may_make_as_many_requests_again(client: AsyncClient, pair: FakePair) -> None:
    every = says(UnavailableError("no", alternatives=("ab", "ac", "bc")))
    at_first(pair.a, every, every)
    for count in (3, 6):
        with pytest.raises(UnavailableError):
            await verify(client)
        assert len(pair.b.requests) == count
