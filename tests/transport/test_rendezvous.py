"""A call and a request find each other or give up in time; nothing is left of either, whatever went wrong."""

from __future__ import annotations

import asyncio
import secrets
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

from tests.transport.meetings import ALTERNATIVES, CALLED, DIALS, Meetings, PeerLink, meeting, message
from tests.transport.parties import tls_of
from veilmatch.crypto.errors import ProtocolError, UnavailableError
from veilmatch.protos.v1.keyholder_pb2 import PairMessage
from veilmatch.server.transport.channels import channel_to
from veilmatch.server.transport.links import AcceptedLink, Rendezvous

ROOT = Path(__file__).parents[2]
SUBJECT = b"a request"


@pytest.fixture
async def meetings(tmp_path: Path) -> AsyncIterator[Meetings]:
    async with meeting(tmp_path) as made:
        yield made
        assert await made.settled()


async def offered(meetings: Meetings, count: int = 1) -> None:
    """Wait until that many are waiting in the rendezvous."""
    async with asyncio.timeout(15):
        while len(meetings.rendezvous._links) < count:
            await asyncio.sleep(0.01)


# -- waiting ---------------------------------------------------------------------------------------


async def test_a_peer_that_never_calls_is_unavailable(meetings: Meetings) -> None:
    with pytest.raises(UnavailableError, match="did not call") as caught:
        async with meetings.take(SUBJECT, 0.05):
            pytest.fail("nobody called")
    assert (caught.value.party, caught.value.needed) == (DIALS, DIALS)
    assert caught.value.alternatives == ALTERNATIVES
    assert meetings.rendezvous._links == {}


async def test_the_rendezvous_has_a_timeout_of_its_own() -> None:
    rendezvous: Rendezvous[AcceptedLink[PairMessage]] = Rendezvous(0.05)
    with pytest.raises(UnavailableError):
        async with rendezvous.take(SUBJECT, DIALS):
            pytest.fail("nobody called")


async def test_a_call_that_nobody_takes_is_ended_for_the_caller(tmp_path: Path) -> None:
    async with meeting(tmp_path, timeout_s=0.05) as meetings:
        with pytest.raises(UnavailableError, match="not brought"):
            async with meetings.dial(SUBJECT) as link:
                await link.receive()
        assert await meetings.settled()


async def test_a_call_about_another_request_is_not_taken(tmp_path: Path) -> None:
    async with meeting(tmp_path, timeout_s=0.2) as meetings:
        with pytest.raises(UnavailableError, match="not brought"):
            async with meetings.dial(b"another request") as link:
                with pytest.raises(UnavailableError, match="did not call"):
                    async with meetings.take(SUBJECT, 0.05):
                        pytest.fail("nobody called about this")
                await link.receive()
        assert await meetings.settled()


async def test_a_late_call_does_not_find_the_request_that_gave_up(tmp_path: Path) -> None:
    async with meeting(tmp_path, timeout_s=0.05) as meetings:
        with pytest.raises(UnavailableError):
            async with meetings.take(SUBJECT):
                pytest.fail("nobody called")
        with pytest.raises(UnavailableError, match="not brought"):
            async with meetings.dial(SUBJECT) as link:
                await link.receive()
        assert await meetings.settled()


# -- whose call it is ------------------------------------------------------------------------------


async def test_a_second_call_about_a_request_is_refused_and_the_first_goes_on(meetings: Meetings) -> None:
    async with meetings.dial(SUBJECT) as link:
        await offered(meetings)
        with pytest.raises(ProtocolError, match="second call"):
            async with meetings.dial(SUBJECT) as second:
                await second.receive()
        async with meetings.take(SUBJECT) as other:
            await link.send(message(1))
            assert await other.receive() == message(1)


@pytest.mark.parametrize("first", [message(1), PairMessage()], ids=["another message", "empty"])
async def test_a_call_that_does_not_begin_with_a_rendezvous_is_refused(first: PairMessage, meetings: Meetings) -> None:
    call = meetings.call()
    await call.write(first)
    await call.done_writing()
    assert "another message" in await call.details()
    assert meetings.rendezvous._links == {}


async def test_a_call_that_ends_before_its_rendezvous_was_given_up_and_is_no_deviation(meetings: Meetings) -> None:
    call = meetings.call()
    await call.done_writing()
    assert await call.code() is grpc.StatusCode.UNAVAILABLE
    assert f"{DIALS} left" in await call.details()
    assert meetings.rendezvous._links == {}


async def test_the_same_request_can_be_met_about_again_when_it_is_over(meetings: Meetings) -> None:
    for number in range(3):
        async with meetings.dial(SUBJECT) as link, meetings.take(SUBJECT) as other:
            await link.send(message(number))
            assert await other.receive() == message(number)


# -- nothing is left -------------------------------------------------------------------------------


@pytest.mark.parametrize("failure", [ProtocolError("wrong"), ValueError("unforeseen"), asyncio.CancelledError(), None])
async def test_nothing_is_left_of_a_session_however_it_ends(failure: BaseException | None, meetings: Meetings) -> None:
    async def take(subject: bytes) -> None:
        async with meetings.take(subject) as link:
            await link.receive()
            if failure is not None:
                raise failure

    async def dial(subject: bytes) -> None:
        async with meetings.dial(subject) as link:
            await link.send(message(1))
            await link.receive()

    subjects = [secrets.token_bytes(32) for _ in range(10)]
    await asyncio.gather(*map(dial, subjects), *map(take, subjects), return_exceptions=True)
    assert await meetings.settled()


async def test_nothing_is_left_of_a_wait_that_is_cancelled(meetings: Meetings) -> None:
    async def take() -> None:
        async with meetings.take(SUBJECT):
            pytest.fail("nobody called")

    waiting = asyncio.ensure_future(take())
    await offered(meetings)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert meetings.rendezvous._links == {}


class Unused:
    """The context of a call on which nothing comes."""

    async def read(self) -> None:
        await asyncio.sleep(60)


async def test_a_call_that_comes_as_the_wait_is_cancelled_is_ended_at_once() -> None:
    rendezvous: Rendezvous[AcceptedLink[PairMessage]] = Rendezvous(60)
    link: AcceptedLink[PairMessage] = AcceptedLink(Unused(), DIALS)

    async def take() -> None:
        async with rendezvous.take(SUBJECT, DIALS):
            pytest.fail("the wait was cancelled")

    taking, feeding = asyncio.ensure_future(take()), asyncio.ensure_future(link.feed())
    await asyncio.sleep(0)
    rendezvous.bring(SUBJECT, link)
    taking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await taking
    with pytest.raises(UnavailableError, match="abandoned"):
        await asyncio.wait_for(feeding, 5)
    assert rendezvous._links == {}


async def test_a_link_whose_handler_is_cancelled_does_not_keep_its_session_waiting() -> None:
    link: AcceptedLink[PairMessage] = AcceptedLink(Unused(), DIALS)
    feeding, receiving = asyncio.ensure_future(link.feed()), asyncio.ensure_future(link.receive())
    await asyncio.sleep(0)
    feeding.cancel()
    with pytest.raises(UnavailableError, match=DIALS):
        await asyncio.wait_for(receiving, 5)


# -- a peer that dies ------------------------------------------------------------------------------


@asynccontextmanager
async def peer(*arguments: str) -> AsyncIterator[Process]:
    """The other party in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.transport.peer_loop", *arguments, stdout=PIPE, cwd=ROOT
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def killed_in_the_middle(link: PeerLink, process: Process) -> UnavailableError:
    """Go half through the session of `peer_loop`, kill the peer and return what is raised here."""
    assert process.stdout is not None
    assert await link.receive() == message(1)
    await link.send(message(2))
    assert await process.stdout.readline() == b"in session\n"
    process.kill()
    with pytest.raises(UnavailableError) as caught:
        await link.receive()
    with pytest.raises(UnavailableError):
        while True:
            await link.send(message(3))
            await asyncio.sleep(0.001)
    assert await process.wait() == -signal.SIGKILL
    return caught.value


async def test_a_caller_that_is_killed_is_unavailable(tmp_path: Path) -> None:
    async with asyncio.timeout(90), meeting(tmp_path, timeout_s=60.0) as meetings:  # a process has to start meanwhile
        async with peer("dials", str(tmp_path), meetings.address) as process, meetings.take(SUBJECT) as link:
            error = await killed_in_the_middle(link, process)
        assert await meetings.settled()
    assert (error.party, error.needed) == (DIALS, DIALS)


async def test_a_called_party_that_is_killed_is_unavailable(tmp_path: Path) -> None:
    own = tls_of(tmp_path, DIALS)
    tls_of(tmp_path, CALLED)
    async with asyncio.timeout(90), peer("called", str(tmp_path)) as process:
        assert process.stdout is not None
        address = (await process.stdout.readline()).decode().strip()
        async with channel_to(address, CALLED, own) as channel:
            with pytest.raises(UnavailableError):
                async with Meetings(rendezvous=None, channel=channel).dial(SUBJECT) as link:  # type: ignore[arg-type]
                    error = await killed_in_the_middle(link, process)
                    await link.receive()
    assert (error.party, error.needed, error.alternatives) == (CALLED, CALLED, ALTERNATIVES)
