"""The stream between two servers: both ways, in order, and every end of it is told to whoever is left."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from tests.transport.meetings import ALTERNATIVES, CALLED, DIALS, Meetings, PeerLink, meeting, message
from tests.transport.parties import tls_of
from veilmatch.crypto.errors import (
    IntegrityError,
    KeyMismatchError,
    ProtocolError,
    UnavailableError,
    VeilmatchError,
)
from veilmatch.protos.v1.keyholder_pb2 import PairMessage
from veilmatch.server.transport.channels import channel_to
from veilmatch.server.transport.links import dialled

SUBJECT = b"a request"


@pytest.fixture
async def meetings(tmp_path: Path) -> AsyncIterator[Meetings]:
    async with meeting(tmp_path) as made:
        yield made
        assert await made.settled()


def absent(error: BaseException, party: str, alternatives: tuple[str, ...] = ()) -> bool:
    """Whether this is the error that says that the party is not there."""
    assert isinstance(error, UnavailableError)
    return (error.party, error.needed, error.alternatives) == (party, party, alternatives)


async def test_messages_go_both_ways_in_order(meetings: Meetings) -> None:
    numbers = range(200)

    async def swap(link: PeerLink, session: bytes) -> list[tuple[int, bytes]]:
        for number in numbers:
            await link.send(message(number, session))
        received = [await link.receive() for _ in numbers]
        return [(one.number, one.session_id) for one in received]

    async def dial() -> list[tuple[int, bytes]]:
        async with meetings.dial(SUBJECT) as link:
            return await swap(link, b"plus")

    async def take() -> list[tuple[int, bytes]]:
        async with meetings.take(SUBJECT) as link:
            return await swap(link, b"minus")

    from_called, from_dialling = await asyncio.gather(dial(), take())
    assert from_called == [(number, b"minus") for number in numbers]
    assert from_dialling == [(number, b"plus") for number in numbers]


@pytest.mark.parametrize("order", ["the caller first", "the request first"])
async def test_either_may_come_first(order: str, meetings: Meetings) -> None:
    async def dial() -> PairMessage:
        async with meetings.dial(SUBJECT) as link:
            return await link.receive()

    async def take() -> None:
        async with meetings.take(SUBJECT) as link:
            await link.send(message(7))

    first, second = (dial, take) if order == "the caller first" else (take, dial)
    begun = asyncio.ensure_future(first())
    async with asyncio.timeout(15):
        while not meetings.rendezvous._links:
            await asyncio.sleep(0.01)
    results = await asyncio.gather(begun, second())
    assert message(7) in results


async def test_sessions_at_the_same_time_do_not_mix(meetings: Meetings) -> None:
    subjects = [secrets.token_bytes(32) for _ in range(20)]

    async def echo(subject: bytes) -> None:
        async with meetings.take(subject) as link:
            for _ in range(10):
                received = await link.receive()
                await link.send(message(received.number, received.session_id + subject))

    async def talk(subject: bytes) -> None:
        async with meetings.dial(subject) as link:
            for number in range(10):
                await link.send(message(number, subject))
                assert await link.receive() == message(number, subject * 2)

    await asyncio.gather(*(talk(subject) for subject in subjects), *(echo(subject) for subject in subjects))


# -- ends ------------------------------------------------------------------------------------------

ENDS: list[VeilmatchError] = [
    KeyMismatchError("another stock", got=1, expected=2),
    ProtocolError("a message too many"),
    UnavailableError("the dealer is down", party="keyholder-c", needed="keyholder-c", alternatives=("ab",)),
]


async def taken_and_failed(meetings: Meetings, error: VeilmatchError) -> None:
    """Take the call and end it with the error."""
    with pytest.raises(type(error)):
        async with meetings.take(SUBJECT):
            raise error


@pytest.mark.parametrize("error", ENDS, ids=lambda error: error.code)
async def test_the_called_partys_error_is_raised_at_the_caller(error: VeilmatchError, meetings: Meetings) -> None:
    with pytest.raises(type(error)) as caught:
        async with asyncio.timeout(15), meetings.dial(SUBJECT) as link:
            await taken_and_failed(meetings, error)
            with pytest.raises(type(error)) as received:
                await link.receive()
            assert received.value.fields() == error.fields() | {"said_by": [CALLED]}
            await link.send(message(1))
    assert caught.value.fields() == error.fields() | {"said_by": [CALLED]}


async def test_a_message_that_is_sent_as_the_peer_fails_finds_out_that_it_has_ended(meetings: Meetings) -> None:
    error = KeyMismatchError("another stock")
    for _ in range(20):
        with pytest.raises((KeyMismatchError, UnavailableError)) as caught:
            async with asyncio.timeout(15), meetings.dial(SUBJECT) as link:
                failing = asyncio.ensure_future(taken_and_failed(meetings, error))
                while True:
                    await link.send(message(1))
        await failing
        assert isinstance(caught.value, KeyMismatchError) or absent(caught.value, CALLED, ALTERNATIVES)


async def test_an_unforeseen_error_of_the_called_party_says_that_it_left(meetings: Meetings) -> None:
    async def take() -> None:
        async with meetings.take(SUBJECT):
            raise ValueError("text that stays here")

    async with meetings.dial(SUBJECT) as link:
        with pytest.raises(ValueError, match="stays"):
            await take()
        with pytest.raises(UnavailableError) as caught:
            await link.receive()
    assert "text" not in str(caught.value)


async def test_a_called_party_that_is_ready_ends_the_stream(meetings: Meetings) -> None:
    async with meetings.dial(SUBJECT) as link:
        async with meetings.take(SUBJECT) as other:
            await other.send(message(1))
        assert await link.receive() == message(1)
        for _ in range(2):
            with pytest.raises(UnavailableError, match="ended the request") as caught:
                await link.receive()
            assert absent(caught.value, CALLED, ALTERNATIVES)


async def test_a_caller_that_is_ready_ends_the_stream(meetings: Meetings) -> None:
    dialling = meetings.dial(SUBJECT)
    other = await dialling.__aenter__()
    async with meetings.take(SUBJECT) as link, asyncio.timeout(15):
        await other.send(message(1))
        await dialling.__aexit__(None, None, None)
        assert await link.receive() == message(1)
        for _ in range(3):
            with pytest.raises(UnavailableError, match="left") as caught:
                await link.receive()
            assert absent(caught.value, DIALS, ALTERNATIVES)


@pytest.mark.parametrize("failure", [ValueError("unforeseen"), asyncio.CancelledError()])
@pytest.mark.parametrize("waiting", ["receive", "send"])
async def test_a_caller_that_fails_ends_the_call(failure: BaseException, waiting: str, meetings: Meetings) -> None:
    dialling = meetings.dial(SUBJECT)
    await dialling.__aenter__()
    async with meetings.take(SUBJECT) as link, asyncio.timeout(15):
        assert not await dialling.__aexit__(type(failure), failure, None)
        with pytest.raises(UnavailableError) as caught:
            while True:
                await (link.receive() if waiting == "receive" else link.send(message(1)))
                await asyncio.sleep(0.001)
        assert absent(caught.value, DIALS, ALTERNATIVES)


async def test_what_a_caller_failed_in_before_it_was_taken_is_heard(meetings: Meetings) -> None:
    with pytest.raises(ProtocolError):
        async with meetings.dial(SUBJECT):
            async with asyncio.timeout(15):
                while not meetings.rendezvous._links:
                    await asyncio.sleep(0.01)
            raise ProtocolError("wrong")
    with pytest.raises(ProtocolError, match="wrong"):
        async with asyncio.timeout(15), meetings.take(SUBJECT) as link:
            await link.receive()


# -- nobody there ----------------------------------------------------------------------------------


async def test_dialling_nobody_is_unavailable_with_the_alternatives(tmp_path: Path) -> None:
    async with channel_to("127.0.0.1:1", CALLED, tls_of(tmp_path, DIALS)) as channel:
        nobody = Meetings(rendezvous=None, channel=channel)  # type: ignore[arg-type]
        with pytest.raises(UnavailableError) as caught:
            async with nobody.dial(SUBJECT):
                pytest.fail("nobody is there")
    assert absent(caught.value, CALLED, ALTERNATIVES)


async def test_a_call_after_its_deadline_is_unavailable(meetings: Meetings) -> None:
    call = meetings.channel.stream_stream("/test.Service/Method", request_serializer=PairMessage.SerializeToString)
    first = PairMessage()
    first.rendezvous.subject_matter.append(SUBJECT)
    with pytest.raises(UnavailableError) as caught:
        async with dialled(call(timeout=0.1), first, CALLED) as link:
            await link.receive()
    assert absent(caught.value, CALLED)
    meetings.rendezvous._links.clear()


async def test_a_peer_that_does_not_know_the_call_is_no_absent_one(meetings: Meetings) -> None:
    call = meetings.channel.stream_stream("/test.Service/Another", request_serializer=PairMessage.SerializeToString)
    with pytest.raises(IntegrityError, match=CALLED) as caught:
        async with dialled(call(timeout=5), message(1), CALLED) as link:
            await link.receive()
    assert caught.value.got == grpc.StatusCode.UNIMPLEMENTED.name
