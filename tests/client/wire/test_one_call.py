"""One call: a deviation is reported whatever the other matcher says first, and requests have a bound."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import pytest

from tests.client.conftest import face
from tests.client.fakes import FakeMatchers, body_of
from veilmatch import AsyncClient, DeviceSettings
from veilmatch.client.results import Verification
from veilmatch.client.wire import exchange
from veilmatch.client.wire.connection import request_id
from veilmatch.client.wire.pairs import patience
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
LOGGER = "veilmatch.client.wire.pairs.one_call"


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "GRACE_S", (0.0, 0.0, 0.02, 0.02, 0.02, 0.05))
    monkeypatch.setattr(patience, "FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr(patience, "LONGEST_PAUSE_S", 0.04)


@pytest.fixture
async def client(settings: DeviceSettings, fakes: FakeMatchers) -> AsyncIterator[AsyncClient]:
    """A client that both matchers have answered before."""
    fakes.templates, fakes.looks_like = ["ada"], {"ada"}
    async with AsyncClient(settings, matchers=fakes.all) as made:
        await made.subjects()
        forget(fakes)
        yield made


async def verify(client: AsyncClient, timeout_s: float | None = None) -> Verification:
    return await client.verify_embedding("ada", face(1), model="toy", timeout_s=timeout_s)


def requests(fakes: FakeMatchers) -> list[tuple[str, bytes]]:
    """Return the pair and the body of each request that a matcher got, in the order in which they were made."""
    found = {request.body: body_of(request) for m in (fakes.a, fakes.b, fakes.c) for request in m.requests}
    return [(one.pair, body) for body, one in sorted(found.items(), key=lambda item: item[1].issued_at_ms)]


def forget(fakes: FakeMatchers) -> None:
    for matcher in (fakes.a, fakes.b, fakes.c):
        matcher.requests.clear()


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
    client: AsyncClient, fakes: FakeMatchers, liar: str, excuse: Callable[[Any], Any], kind: type[VeilmatchError]
) -> None:
    lying, honest = (fakes.a, fakes.b) if liar == "a" else (fakes.b, fakes.a)
    at_first(lying, excuse(lying))
    at_first(honest, says_after(0.8, kind("opened other values", party="keyholder-b")), lambda: asyncio.sleep(60))
    fakes.c.before = lambda kind, request: asyncio.sleep(60)
    with pytest.raises(kind) as caught:
        await verify(client)
    assert caught.value.request_id == request_id(honest.requests[0]) and len(requests(fakes)) == 2
    assert honest.cancelled + fakes.c.cancelled >= 1, "nobody works for a call that has ended"


async def test_a_deviation_that_is_found_after_the_next_answer_is_logged_and_counts_against_its_pair(
    client: AsyncClient, fakes: FakeMatchers, caplog: pytest.LogCaptureFixture
) -> None:
    at_first(fakes.b, says(UnavailableError("soon", party="keyholder-b", alternatives=("ac",), retry_after_s=0.01)))
    at_first(fakes.a, says_after(0.3, KeySafetyError("opened other values", party="keyholder-b")))
    with caplog.at_level(logging.WARNING, LOGGER):
        assert (await verify(client)).pair == "ac"
        assert caplog.records == [] and fakes.a.cancelled == 0
        await asyncio.sleep(0.4)
    (record,) = caplog.records
    assert record.levelname == "WARNING" and request_id(fakes.a.requests[0]) in record.getMessage()
    assert "pair ab" in record.getMessage() and "matcher-a says: opened other values" in record.getMessage()
    assert [(await verify(client)).pair for _ in range(3)] == ["ac"] * 3


async def test_a_deviation_is_logged_although_every_pair_was_excused_before_it_was_found(
    settings: DeviceSettings, fakes: FakeMatchers, caplog: pytest.LogCaptureFixture
) -> None:
    fakes.templates = ["ada"]
    every = says(UnavailableError("no", party="keyholder-b", alternatives=("ab", "ac", "bc")))
    at_first(fakes.b, every, every)
    at_first(fakes.a, says_after(0.4, KeySafetyError("opened other values")))
    fakes.c.before = lambda kind, request: asyncio.sleep(60)
    async with AsyncClient(settings.model_copy(update={"pairs": ["ab", "bc"]}), matchers=fakes.all) as client:
        with pytest.raises(UnavailableError):
            await verify(client)
        await asyncio.sleep(0.6)
    assert "opened other values" in caplog.text
    assert fakes.c.cancelled == 1, "the last request was given up for no other one"


async def test_other_ends_of_a_request_that_was_given_up_are_nobodys_business(
    client: AsyncClient, fakes: FakeMatchers, caplog: pytest.LogCaptureFixture
) -> None:
    left, unforeseen = UnavailableError("keyholder-b left"), IntegrityError("the server failed", got="ValueError")
    for late in (says_after(0.1, left), says_after(0.1, unforeseen), lambda: asyncio.sleep(0.1)):
        client._connection._health._suspected.clear()
        at_first(fakes.b, says(ELSEWHERE))
        at_first(fakes.a, late)
        assert (await verify(client)).pair == "ac"
        await asyncio.sleep(0.15)
    assert caplog.records == []


async def test_what_is_heard_ends_with_the_time_of_the_call(client: AsyncClient, fakes: FakeMatchers) -> None:
    at_first(fakes.b, says(ELSEWHERE))
    at_first(fakes.a, lambda: asyncio.sleep(60))
    started = time.monotonic()
    await verify(client, timeout_s=0.5)
    assert fakes.a.cancelled == 0
    await asyncio.sleep(0.55 - (time.monotonic() - started))
    assert fakes.a.cancelled == 1


async def test_what_is_heard_ends_with_the_client(settings: DeviceSettings, fakes: FakeMatchers) -> None:
    fakes.templates = ["ada"]
    at_first(fakes.b, says(ELSEWHERE))
    at_first(fakes.a, lambda: asyncio.sleep(60))
    async with AsyncClient(settings, matchers=fakes.all) as client:
        await verify(client)
        assert fakes.a.cancelled == 0
    assert fakes.a.cancelled == 1 and fakes.a.closed
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []


async def test_who_cancels_a_call_cancels_all_of_it(client: AsyncClient, fakes: FakeMatchers) -> None:
    at_first(fakes.b, says(ELSEWHERE), lambda: asyncio.sleep(60))
    at_first(fakes.a, lambda: asyncio.sleep(60), lambda: asyncio.sleep(60))
    fakes.c.before = lambda kind, request: asyncio.sleep(60)
    task = asyncio.ensure_future(verify(client))
    while len(fakes.a.requests) < 2:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (fakes.a.cancelled, fakes.b.cancelled, fakes.c.cancelled) == (2, 0, 1)


# -- how many requests ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("pairs", [["ab"], ["ab", "ac"], ["ab", "ac", "bc"]])
@pytest.mark.parametrize("drops", ["never", "once", "always"])
@pytest.mark.parametrize("party", ["keyholder-b", "matcher-a", "matcher-b"])
@pytest.mark.parametrize("alternatives", [(), ("ab", "ac", "bc")])
async def test_a_matcher_that_lies_gets_one_request_more_than_there_are_pairs_at_most(
    settings: DeviceSettings, fakes: FakeMatchers, pairs: Any, drops: str, party: str, alternatives: Any
) -> None:
    fakes.templates = ["ada"]

    def lie() -> None:
        if drops == "always":
            fakes.a.state = "down"
        raise UnavailableError("no", party=party, alternatives=alternatives)

    async with AsyncClient(settings.model_copy(update={"pairs": pairs}), matchers=fakes.all) as client:
        await client.subjects()
        first = lose(fakes.a, UnavailableError("no", alternatives=alternatives))
        at_first(fakes.a, first if drops == "once" else lie, lie)
        forget(fakes)
        with suppress(UnavailableError):
            assert (await verify(client)).pair == "bc", "it is in all other pairs"
    assert len(requests(fakes)) <= len(pairs) + (drops != "never")


async def test_a_busy_server_and_lies_before_and_after_share_the_bound(
    client: AsyncClient, fakes: FakeMatchers
) -> None:
    def lie(kind: str, request: Any) -> None:
        if body_of(request).pair == "bc":
            raise OverloadedError("busy", retry_after_s=0.0)
        raise UnavailableError("no", party="keyholder-b", alternatives=("ab", "ac", "bc"))

    fakes.a.before = fakes.b.before = fakes.c.before = lie
    with pytest.raises(VeilmatchError):
        await verify(client)
    assert [pair for pair, _ in requests(fakes)][:3] == ["ab", "ac", "bc"]
    assert len(requests(fakes)) == 4


async def test_the_next_call_may_make_as_many_requests_again(client: AsyncClient, fakes: FakeMatchers) -> None:
    every = says(UnavailableError("no", alternatives=("ab", "ac", "bc")))
    for matcher in (fakes.a, fakes.b, fakes.c):
        at_first(matcher, every, every)
    for count in (3, 6):
        with pytest.raises(UnavailableError):
            await verify(client)
        assert len(requests(fakes)) == count
