"""Streams between servers that somebody begins and does not go on with: they hold little, and they end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.matcher.swapping import swapped
from tests.transport.meetings import CALLED, DIALS, Meetings, meeting, message
from tests.transport.parties import METHOD, bytes_of, serving, tls_of
from veilmatch.crypto.errors import OverloadedError, UnavailableError
from veilmatch.protos.v1 import matcher_pb2 as pb
from veilmatch.protos.v1.keyholder_pb2 import PairMessage
from veilmatch.server.matcher.agreement.meeting import Meeting
from veilmatch.server.transport import links, streams
from veilmatch.server.transport.channels import channel_to
from veilmatch.server.transport.limits import INBOX_BYTES, INBOX_MESSAGES, MIB
from veilmatch.server.transport.links import AcceptedLink, Link, Rendezvous, dialled
from veilmatch.server.transport.status import from_rpc, unary
from veilmatch.server.transport.streams import next_message

SUBJECT = b"a request"


@pytest.fixture
async def meetings(tmp_path: Path) -> AsyncIterator[Meetings]:
    async with meeting(tmp_path) as made:
        yield made
        assert await made.settled()


# -- silence ---------------------------------------------------------------------------------------


@unary
async def count(_self: object, _requests: object, context: Any) -> bytes:
    received = 0
    while await next_message(context, DIALS) is not None:
        received += 1
    return str(received).encode()


@pytest.mark.parametrize("sent", [0, 2])
async def test_a_caller_that_falls_silent_is_told_so_and_the_call_ends(
    sent: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "SILENCE_S", 0.3)
    async with (
        serving("stream_unary", count, tls_of(tmp_path, CALLED), PairMessage) as address,
        channel_to(address, CALLED, tls_of(tmp_path, DIALS)) as channel,
    ):
        call = channel.stream_unary(METHOD, request_serializer=bytes_of)(timeout=10)
        for number in range(sent):
            await call.write(message(number))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
    error = from_rpc(caught.value, CALLED)
    assert type(error) is UnavailableError
    assert DIALS in error.message and error.needed == "a message within 0.3 s"


async def test_a_caller_that_goes_on_slowly_is_served_to_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "SILENCE_S", 1.0)
    async with (
        serving("stream_unary", count, tls_of(tmp_path, CALLED), PairMessage) as address,
        channel_to(address, CALLED, tls_of(tmp_path, DIALS)) as channel,
    ):
        call = channel.stream_unary(METHOD, request_serializer=bytes_of)(timeout=10)
        for number in range(8):
            await asyncio.sleep(0.2)
            await call.write(message(number))
        await call.done_writing()
        assert await call == b"8"


# -- what a link reads ahead -----------------------------------------------------------------------


async def sent_without_end(link: Link[PairMessage], size: int, most: int) -> int:
    """Send messages of that size until the other end makes this one wait; return how many went."""
    for number in range(most):
        try:
            await asyncio.wait_for(link.send(message(number, bytes(size))), 1.0)
        except TimeoutError:
            return number
    return most


def held(link: Link[PairMessage]) -> list[int]:
    """The sizes of the messages in memory at the called end."""
    assert isinstance(link, AcceptedLink)
    return [one.ByteSize() for one in link._inbox._queue if one is not None]  # type: ignore[attr-defined]


@pytest.mark.parametrize("size", [1, 4 * MIB])
async def test_a_peer_that_sends_more_than_is_asked_for_is_made_to_wait(size: int, tmp_path: Path) -> None:
    most = 20_000 if size == 1 else 40
    async with meeting(tmp_path) as meetings:
        with pytest.raises(UnavailableError):
            async with meetings.dial(SUBJECT) as link, meetings.take(SUBJECT) as other:
                sending = asyncio.ensure_future(sent_without_end(link, size, most))
                assert (await other.receive()).number == 0
                await asyncio.sleep(2)
                sizes = held(other)
                assert 1 <= len(sizes) <= INBOX_MESSAGES and sum(sizes) < INBOX_BYTES + 5 * MIB
                sending.cancel()
                raise UnavailableError("enough")
        assert await meetings.settled()


async def test_all_that_a_peer_sends_arrives_in_order_however_slowly_it_is_asked_for(meetings: Meetings) -> None:
    numbers = range(5 * INBOX_MESSAGES)
    async with meetings.dial(SUBJECT) as link, meetings.take(SUBJECT) as other:

        async def send() -> None:
            for number in numbers:
                await link.send(message(number, bytes(100_000)))

        sending = asyncio.ensure_future(send())
        await asyncio.sleep(0.5)
        assert [(await other.receive()).number for _ in numbers] == list(numbers)
        await sending


async def test_nothing_of_a_link_that_nobody_takes_is_read(tmp_path: Path) -> None:
    async with meeting(tmp_path, timeout_s=1.0) as meetings:
        with pytest.raises(UnavailableError, match="not brought"):
            async with meetings.dial(SUBJECT) as link:
                for number in range(3):
                    await link.send(message(number, b"s"))
                await asyncio.sleep(0.3)
                (place,) = meetings.rendezvous._links.values()
                assert held(place.result()) == []
                await link.receive()
        assert await meetings.settled()


async def test_a_link_that_has_ended_holds_nothing(tmp_path: Path) -> None:
    """Neither what its peer had sent ahead, nor the link itself until a time-out of the rendezvous."""
    async with meeting(tmp_path, timeout_s=60.0) as meetings:

        async def dial() -> None:
            async with meetings.dial(SUBJECT) as link:
                for number in range(3):
                    await link.send(message(number, bytes(MIB)))
                await link.receive()

        dialling = asyncio.ensure_future(dial())
        with pytest.raises(OverloadedError):
            async with meetings.take(SUBJECT) as link:
                await link.receive()
                await asyncio.sleep(0.3)
                assert held(link)
                raise OverloadedError("enough")
        with pytest.raises(OverloadedError):
            await dialling
        assert await meetings.settled()
        assert held(link) == [] and not meetings.rendezvous._expiries


async def test_a_session_still_reads_what_came_before_its_call_was_cut_off(meetings: Meetings) -> None:
    async def dial() -> None:
        async with meetings.dial(SUBJECT) as link:
            for number in range(3):
                await link.send(message(number))
            await link.receive()

    dialling = asyncio.ensure_future(dial())
    with pytest.raises(UnavailableError, match="left"):
        async with meetings.take(SUBJECT) as link:
            await asyncio.sleep(0.2)
            dialling.cancel()
            await asyncio.sleep(0.2)
            assert [(await link.receive()).number for _ in range(3)] == [0, 1, 2]
            await link.receive()


async def test_two_matchers_swap_more_results_than_either_reads_ahead(tmp_path: Path) -> None:
    """Both send first: each must read the other's while it sends."""
    session, results = b"session", [bytes([i % 251]) * 1024 for i in range(64 * 1024)]
    done: asyncio.Future[list[bytes]] = asyncio.get_running_loop().create_future()

    @unary
    async def exchange(_self: object, _requests: object, context: Any) -> None:
        link: AcceptedLink[pb.MatcherMessage] = AcceptedLink(context, DIALS)
        feeding = asyncio.ensure_future(link.feed())
        follows = Meeting(link, pb.MatcherMessage(), leads=False, party="matcher-b", peer="matcher-a", timeout_s=5.0)
        try:
            await link.receive()
            done.set_result(await swapped(follows, session, results, 1000))
        except Exception as error:
            done.set_exception(error)
        link.end(None)
        await feeding

    async with (
        asyncio.timeout(30),
        serving("stream_stream", exchange, tls_of(tmp_path, CALLED), pb.MatcherMessage) as address,
        channel_to(address, CALLED, tls_of(tmp_path, DIALS)) as channel,
    ):
        method = channel.stream_stream(
            METHOD, request_serializer=bytes_of, response_deserializer=pb.MatcherMessage.FromString
        )
        hello = pb.MatcherMessage(rendezvous=pb.Rendezvous(request_digest=SUBJECT))
        async with dialled(method(timeout=30), hello, CALLED) as link:
            leads = Meeting(link, hello, leads=True, party="matcher-a", peer="matcher-b", timeout_s=5.0)
            assert await swapped(leads, session, results, 1700) == results
            assert await done == results


# -- links that wait -------------------------------------------------------------------------------


class Silent:
    """The context of a call on which nothing comes."""

    async def read(self) -> None:
        await asyncio.sleep(60)


async def test_a_peer_has_a_bounded_number_of_links_that_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "WAITING_LINKS", 3)
    rendezvous: Rendezvous[AcceptedLink[PairMessage]] = Rendezvous(7.0)

    def bring(number: int, peer: str) -> None:
        rendezvous.bring(bytes([number]), AcceptedLink(Silent(), peer))

    for number in range(3):
        bring(number, DIALS)
    with pytest.raises(OverloadedError, match=DIALS) as caught:
        bring(3, DIALS)
    assert caught.value.retry_after_s == 7.0
    assert bytes([3]) not in rendezvous._links
    bring(4, "keyholder-c")
    async with rendezvous.take(bytes([0]), DIALS):
        bring(5, DIALS)
