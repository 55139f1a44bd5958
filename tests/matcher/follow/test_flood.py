"""A peer that asks for far more than it can use: it is refused, and nobody else waits for it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import grpc
import pytest
import structlog

from tests.matcher.follow.matchers import NAME, History, Matcher, served
from tests.matcher.galleries import KEY_ID
from veilmatch.crypto.errors import OverloadedError, ProtocolError
from veilmatch.protos.v1 import matcher_pb2 as pb
from veilmatch.server.matcher.agreement.certificates import Statement
from veilmatch.server.matcher.follow import serving
from veilmatch.server.matcher.follow.serving import CALL_PLACES, CHANGES_AT_ONCE, WATCHES_AT_ONCE, AtOnce
from veilmatch.server.transport.status import from_rpc


@pytest.fixture
async def c(tmp_path: Path) -> Matcher:
    matcher = Matcher("c", tmp_path / "c")
    History(matcher.store).add((0, 0, "one"))
    return await matcher.load()


def asking(c: Matcher, places: Iterable[tuple[int, int]], packs: Iterable[int] = ()) -> pb.ChangesRequest:
    state = c.gallery.state
    return pb.ChangesRequest(
        gallery=pb.WatchedGallery(gallery=NAME, key_id=KEY_ID),
        sequence=state.sequence,
        chain=state.chain,
        packs=packs,
        templates=[pb.GalleryPlace(pack=pack, slot=slot) for pack, slot in places],
    )


async def answer(call: Any) -> list[pb.ChangePart]:
    """Return what a call gives; raise what it ends with."""
    try:
        return [part async for part in call]
    except grpc.aio.AioRpcError as error:
        raise from_rpc(error, "matcher-c") from None


async def test_questions_about_nothing_leave_threads_for_others(c: Matcher) -> None:
    """Each place is a read of its own, and there are calls without end: the gallery is read as if nobody asked."""
    request = asking(c, [(5 + number, 3) for number in range(CALL_PLACES)])
    async with served(c) as stub:
        calls = [stub.Changes(request) for _ in range(40)]
        reading = [asyncio.ensure_future(answer(call)) for call in calls]
        longest = 0.0
        for _ in range(20):
            await asyncio.sleep(0.02)
            started = time.monotonic()
            await asyncio.to_thread(c.store.state, NAME)  # what every request of a device needs, many times
            longest = max(longest, time.monotonic() - started)
        answers = await asyncio.gather(*reading, return_exceptions=True)
    assert longest < 1
    refused = [one for one in answers if isinstance(one, OverloadedError)]
    assert refused[0].retry_after_s
    assert len(refused) >= 40 - 2 * CHANGES_AT_ONCE
    assert sum(isinstance(one, list) for one in answers) == 40 - len(refused)


async def test_a_place_is_free_again_after_a_call_however_it_ends(c: Matcher) -> None:
    async with served(c) as stub:
        for _ in range(3):
            for _ in range(CHANGES_AT_ONCE):
                with pytest.raises(ProtocolError):
                    await answer(stub.Changes(asking(c, [(0, 0), (0, 0)])))
            dropped = [stub.Changes(asking(c, [(5 + number, 3) for number in range(CALL_PLACES)])) for _ in range(2)]
            await asyncio.sleep(0.05)
            for call in dropped:
                call.cancel()
            await asyncio.sleep(0.5)
            assert len(await answer(stub.Changes(asking(c, [(0, 0)], [0])))) == 3


@pytest.mark.parametrize(
    ("packs", "places"),
    [
        ([], [(0, 0), (0, 0)]),
        ([], [(5 + number % 2, 3) for number in range(1000)]),
        ([], [(0, 1), (0, 0)]),
        ([1, 0], []),
        ([0, 0], []),
        ([], [(0, number) for number in range(300_000)]),
        (range(300_000), []),
    ],
)
async def test_places_out_of_order_or_too_many_are_refused(
    c: Matcher, packs: Iterable[int], places: list[tuple[int, int]]
) -> None:
    """It is the one who asks that deviates: it is named, and no damage of this database is looked for."""
    async with served(c) as stub:
        with structlog.testing.capture_logs() as logs, pytest.raises(ProtocolError):
            await answer(stub.Changes(asking(c, places, packs)))
    assert {entry["failed"] for entry in logs if entry["event"] == "call refused"} == {"a peer without a name"}


def test_what_is_asked_for_at_once_is_bounded_by_bytes_and_by_number(c: Matcher) -> None:
    assert AtOnce.of(c.parameters) == (CALL_PLACES, CALL_PLACES)
    assert AtOnce.of(c.parameters, 0) == (1, 1)


async def test_the_newest_watches_of_a_peer_go_on_and_older_ones_end(c: Matcher) -> None:
    """A peer that was restarted again and again, whose dead calls are still there, hears; so does another peer."""
    request = pb.WatchRequest(galleries=[pb.WatchedGallery(gallery=NAME, key_id=KEY_ID)])
    async with served(c) as stub:
        calls = []
        for _ in range(3 * WATCHES_AT_ONCE):
            calls.append(stub.Watch(request))
            await calls[-1].read()
        old, new = calls[:-WATCHES_AT_ONCE], calls[-WATCHES_AT_ONCE:]
        for call in old:
            with pytest.raises(grpc.aio.AioRpcError) as ended:
                async with asyncio.timeout(2):
                    while await call.read() is not grpc.aio.EOF:
                        """What was stated before."""
            error = from_rpc(ended.value, "matcher-c")
            assert isinstance(error, OverloadedError) and "a peer without a name watches" in error.message
            assert error.retry_after_s
        history = History(c.store)
        history._number = 1
        history.add((0, 1, "two"))
        c.gallery.state = c.store.state(NAME)
        for call in new:
            async with asyncio.timeout(2):
                news = await call.read()
            assert Statement.decode(news.statement).state.sequence == 2
            assert not call.done()
            call.cancel()
        # Its places are free again: what begins now is among the last.
        call = stub.Watch(request)
        async with asyncio.timeout(2):
            assert (await call.read()).gallery.gallery == NAME


async def test_calls_of_watch_without_end_leave_threads_for_others(c: Matcher, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is stated takes a thread, and here long: calls of one peer take one thread together."""
    at_once = most = 0
    honest, lock = serving._news, threading.Lock()

    def slow(*args: Any) -> pb.GalleryNews:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.02)
        with lock:
            at_once -= 1
        return honest(*args)

    monkeypatch.setattr(serving, "_news", slow)
    request = pb.WatchRequest(galleries=[pb.WatchedGallery(gallery=NAME, key_id=KEY_ID)])
    async with served(c) as stub:
        calls = [stub.Watch(request) for _ in range(40)]
        heard = await asyncio.gather(*(call.read() for call in calls), return_exceptions=True)
        for call in calls:
            call.cancel()
    assert most == 1
    assert sum(isinstance(one, pb.GalleryNews) for one in heard) >= WATCHES_AT_ONCE
