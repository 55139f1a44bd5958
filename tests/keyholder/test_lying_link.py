"""A peer that lies on a link: it opens without end, says what is large once it is read, or does not read itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from resource import getpagesize

import pytest

from tests.keyholder.test_service_failures import query
from tests.keyholder.test_standing_link import Pair, rendezvous, said, settled
from tests.keyholder.trio import Trio
from veilmatch.crypto.errors import ProtocolError, UnavailableError
from veilmatch.protos.v1 import keyholder_pb2 as pb
from veilmatch.protos.v1 import keyholder_pb2_grpc as rpc
from veilmatch.server.transport.limits import WINDOW_BYTES
from veilmatch.server.transport.standing import link as standing_link
from veilmatch.server.transport.standing.link import SESSIONS, TOGETHER_FRAMES
from veilmatch.server.transport.standing.strand import Strand

#: Wire bytes of one that is parsed into many objects: each of these has two bytes.
BOMB_BYTES = 30 << 10
BOMB = pb.PairMessage(then=[pb.PairMessage()] * (BOMB_BYTES // 2))


@pytest.fixture
async def liar() -> AsyncIterator[Pair]:
    """The honest plus holder, and whatever is written as the minus holder."""
    made = Pair()
    made.carrying["minus"].cancel()
    yield made
    await made.close()


def opened_at_once(first: int, count: int = TOGETHER_FRAMES, *more: pb.PairMessage) -> pb.PairFrames:
    """Open sessions, and say more on each, all in one message."""
    return pb.PairFrames(
        frame=[
            pb.PairFrame(session=number, message=message)
            for number in range(first, first + count)
            for message in (rendezvous(number), *more)
        ]
    )


async def opens(liar: Pair, first: int, count: int = TOGETHER_FRAMES, *more: pb.PairMessage) -> None:
    await liar.from_minus.write(opened_at_once(first, count, *more))


def refuse(_strand: Strand) -> None:
    raise ProtocolError("a second call about the same request")


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * getpagesize()


async def test_refusals_that_a_peer_does_not_read_do_not_pile_up(liar: Pair) -> None:
    liar.plus._offer = refuse
    liar.from_plus.open.clear()
    messages = 100
    for number in range(messages):
        await opens(liar, 1 + number * TOGETHER_FRAMES)
    await settled()
    unsent = len(liar.plus._ready)
    assert SESSIONS < unsent <= 2 * SESSIONS + TOGETHER_FRAMES
    liar.from_plus.open.set()
    async with asyncio.timeout(15):
        while sum(len(message.frame) for message in liar.from_plus.gone) < messages * TOGETHER_FRAMES:
            await asyncio.sleep(0.01)
    assert not liar.plus._ready and not liar.carrying["plus"].done(), "who reads after all is heard again"


async def test_a_peer_that_does_not_read_loses_the_link(liar: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standing_link, "SILENCE_S", 0.05)
    liar.from_plus.open.clear()
    await opens(liar, 1, 1)
    await settled()
    liar.offered[0].put(said(1))
    with pytest.raises(UnavailableError, match="keyholder-b does not read") as caught:
        async with asyncio.timeout(15):
            await liar.carrying["plus"]
    assert (caught.value.party, caught.value.alternatives) == ("keyholder-b", ("ac",))


async def test_no_more_sessions_are_opened_at_a_peer_that_does_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standing_link, "_UNSENT", 3)
    made = Pair()
    made.from_minus.open.clear()
    for number in range(10):
        strand = made.minus.open(rendezvous(number))
        await settled()
        strand.abandon()
    with pytest.raises(UnavailableError, match="keyholder-a does not read"):
        made.minus.open(rendezvous()).at_hand()
    # One is being sent.
    assert len(made.minus._ready) <= 5
    made.from_minus.open.set()
    await settled()
    assert made.minus.open(rendezvous()).at_hand() is None
    await made.close()


async def test_a_message_with_more_frames_than_any_ends_the_link(liar: Pair) -> None:
    """A link would do nothing else for seconds: in one message of gRPC there is room for hundreds of thousands."""
    await opens(liar, 1, TOGETHER_FRAMES + 1)
    with pytest.raises(ProtocolError, match="not a message of a link"):
        async with asyncio.timeout(15):
            await liar.carrying["plus"]
    assert not liar.offered


async def test_what_many_sessions_have_to_say_goes_in_messages_that_a_link_takes() -> None:
    made = Pair()
    opened = [made.minus.open(rendezvous(number)) for number in range(3 * TOGETHER_FRAMES)]
    for strand in opened:
        strand.abandon()
    async with asyncio.timeout(15):
        while len(made.offered) < len(opened) or made.minus._ready:
            await asyncio.sleep(0)
    await settled()
    assert max(len(message.frame) for message in made.from_minus.gone) == TOGETHER_FRAMES
    assert not made.carrying["plus"].done()
    await made.close()


async def test_what_waits_takes_no_more_memory_than_it_counts_for(liar: Pair) -> None:
    """Parsed it would: fifty times as much, of each of a thousand sessions that nobody has taken."""
    sessions = 64
    before = resident_bytes()
    for number in range(1, sessions + 1):
        await opens(liar, number, 1, BOMB, BOMB)
        await settled()
        liar.from_minus.gone.clear()
    assert len(liar.offered) == sessions and not liar.carrying["plus"].done()
    assert all(strand._held_bytes > WINDOW_BYTES - 2 * (WINDOW_BYTES - BOMB_BYTES) for strand in liar.offered)
    assert resident_bytes() - before < 8 * sessions * WINDOW_BYTES
    assert liar.offered[0].at_hand() == BOMB


async def test_a_session_begins_with_nothing_beside_what_it_is_about(liar: Pair) -> None:
    first = rendezvous()
    first.then.add()
    await liar.from_minus.write(pb.PairFrames(frame=[pb.PairFrame(session=1, message=first)]))
    with pytest.raises(ProtocolError, match="more than a session begins with"):
        async with asyncio.timeout(15):
            await liar.carrying["plus"]
    assert not liar.offered


async def test_a_liar_holds_up_no_session_of_the_honest_pair(trio: Trio, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over real connections: keyholder-b opens sessions at keyholder-a as fast as it can, and reads nothing."""
    monkeypatch.setattr(standing_link, "SESSIONS", 64)
    monkeypatch.setattr(standing_link, "_UNSENT", 128)
    await query(trio, "ac")
    call = rpc.KeyHolderPeerStub(trio.channel("keyholder-b", "a")).Pair(timeout=180.0)

    async def flood() -> None:
        for number in range(1, 1 << 20, TOGETHER_FRAMES):
            await call.write(opened_at_once(number))

    flooding = asyncio.ensure_future(flood())
    async with asyncio.timeout(60):
        while (link := trio["a"].links._called["b"].link) is None or len(link._ready) <= 128:
            await asyncio.sleep(0.01)
    for _ in range(3):
        await query(trio, "ac")
    assert not flooding.done() and len(link._ready) <= 128 + TOGETHER_FRAMES and len(link._strands) <= 64
    # A newer link of the same peer takes its place, as it has all of them.
    await query(trio, "ab")
    assert link.is_lost and trio["a"].links._called["b"].link is not link
    flooding.cancel()
    await asyncio.gather(flooding, return_exceptions=True)
    call.cancel()
