"""All sessions of a pair over one stream: they do not mix, hold each other up, or end with each other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from structlog.testing import capture_logs

from veilmatch.crypto.claims import CLAIM_BYTES, NOBODY, written
from veilmatch.crypto.errors import (
    IntegrityError,
    KeyMismatchError,
    OverloadedError,
    ProtocolError,
    UnavailableError,
    VeilmatchError,
)
from veilmatch.protos.v1 import keyholder_pb2 as pb
from veilmatch.server.monitoring import meters
from veilmatch.server.transport.limits import INBOX_BYTES, WINDOW_BYTES
from veilmatch.server.transport.standing import link as standing_link
from veilmatch.server.transport.standing import strand
from veilmatch.server.transport.standing.kinds import PAIR
from veilmatch.server.transport.standing.link import StandingLink
from veilmatch.server.transport.standing.strand import MESSAGE_BYTES, OtherEnd, Strand

MINUS, PLUS = OtherEnd("keyholder-b", ("ac",), NOBODY), OtherEnd("keyholder-a", ("bc",), NOBODY)
LARGE = pb.PairMessage(openings=bytes(MESSAGE_BYTES - 16))


class End:
    """A stream as gRPC gives it to one end. gone: what was written."""

    def __init__(self, to: asyncio.Queue[Any], of: asyncio.Queue[Any]) -> None:
        self._to, self._of = to, of
        self.gone: list[pb.PairFrames] = []
        self.open = asyncio.Event()
        self.open.set()

    async def read(self) -> Any:
        return await self._of.get()

    async def write(self, message: pb.PairFrames) -> None:
        await self.open.wait()
        self.gone.append(message)
        self._to.put_nowait(pb.PairFrames.FromString(message.SerializeToString()))


class Pair:
    """Both ends of a link, and what the plus holder was offered."""

    def __init__(self) -> None:
        there: asyncio.Queue[Any] = asyncio.Queue()
        back: asyncio.Queue[Any] = asyncio.Queue()
        self.from_minus, self.from_plus = End(there, back), End(back, there)
        self.offered: list[Strand] = []
        self.minus = StandingLink(PAIR, "keyholder-b", PLUS)
        self.plus = StandingLink(PAIR, "keyholder-a", MINUS, self.offered.append)
        self.carrying = {
            "minus": asyncio.ensure_future(self.minus.carry(self.from_minus)),
            "plus": asyncio.ensure_future(self.plus.carry(self.from_plus)),
        }

    async def opened(self, number: int = 1) -> tuple[Strand, Strand]:
        """A session as each end has it."""
        here = self.minus.open(rendezvous(number))
        while not any(there.number == here.number for there in self.offered):
            await asyncio.sleep(0)
        return here, next(there for there in self.offered if there.number == here.number)

    async def close(self) -> None:
        for task in self.carrying.values():
            task.cancel()
        await asyncio.gather(*self.carrying.values(), return_exceptions=True)


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    made = Pair()
    yield made
    await made.close()


def rendezvous(number: int = 1) -> pb.PairMessage:
    return pb.PairMessage(rendezvous=pb.PairRendezvous(subject_matter=[number.to_bytes(32)]))


def said(number: int, session: bytes = b"") -> pb.PairMessage:
    return pb.PairMessage(number=number, session_id=session)


async def settled() -> None:
    """Everything that can go has gone."""
    for _ in range(50):
        await asyncio.sleep(0)


async def sent_at_once(session: Strand, message: pb.PairMessage, most: int = 10_000) -> int:
    """Send for as long as there is room; how often there was."""
    for number in range(most):
        if not session.put(message):
            return number
        await settled()
    return most


async def test_sessions_at_the_same_time_do_not_mix_and_keep_their_order(pair: Pair) -> None:
    both = [await pair.opened(number) for number in range(20)]

    async def echo(there: Strand) -> None:
        there.read_ahead()
        for _ in range(10):
            received = await there.receive()
            await there.send(said(received.number, received.session_id * 2))

    async def talk(here: Strand) -> None:
        name = bytes([here.number])
        for number in range(10):
            await here.send(said(number, name))
            assert await here.receive() == said(number, name * 2)

    async with asyncio.timeout(15):
        await asyncio.gather(*(talk(here) for here, _ in both), *(echo(there) for _, there in both))


async def test_what_is_ready_together_goes_in_one_message(pair: Pair) -> None:
    both = [await pair.opened(number) for number in range(10)]
    before = len(pair.from_minus.gone)
    for here, _ in both:
        assert here.put(said(1)) and here.put(said(2))
    await settled()
    (message,) = pair.from_minus.gone[before:]
    assert len(message.frame) == 20
    assert [there.at_hand() for _, there in both] == [said(1)] * 10


async def test_a_session_with_much_to_say_takes_turns_with_the_others(pair: Pair) -> None:
    large, _ = await pair.opened(1)
    (small, there) = await pair.opened(2)
    pair.offered[0].read_ahead()
    large.put(LARGE)
    await settled()
    await sent_at_once(large, LARGE, 4)
    pair.from_minus.open.clear()
    large.put(said(0))
    await settled()  # a message is under way
    queued = sum(large.put(LARGE) for _ in range(100))
    assert small.put(said(1))
    before = len(pair.from_minus.gone)
    pair.from_minus.open.set()
    async with asyncio.timeout(15):
        assert await there.receive() == said(1)
    order = [frame.session for message in pair.from_minus.gone[before + 1 :] for frame in message.frame]
    assert order.index(small.number) <= 1, "one message of the other is before it"
    assert queued * len(LARGE.openings) <= 2 * strand._QUEUED_BYTES, "little waits to be sent"


# -- how much --------------------------------------------------------------------------------------


async def test_of_a_session_that_nobody_takes_little_comes_and_the_others_go_on(pair: Pair) -> None:
    waits, _ = await pair.opened(1)
    goes_on, there = await pair.opened(2)
    assert (await sent_at_once(waits, LARGE) + 1) * MESSAGE_BYTES <= WINDOW_BYTES + MESSAGE_BYTES
    there.read_ahead()
    for number in range(200):
        await goes_on.send(LARGE)
        assert await there.receive() == LARGE, number


async def test_of_empty_messages_little_comes_as_well(pair: Pair) -> None:
    waits, _ = await pair.opened()
    assert await sent_at_once(waits, pb.PairMessage()) <= WINDOW_BYTES // 1024


async def test_a_session_that_is_taken_makes_room_as_it_reads_and_no_more(pair: Pair) -> None:
    here, there = await pair.opened()
    there.read_ahead()
    there_are = await sent_at_once(here, LARGE)
    assert INBOX_BYTES - 4 * MESSAGE_BYTES < there_are * MESSAGE_BYTES <= INBOX_BYTES + MESSAGE_BYTES
    for _ in range(there_are):
        assert there.at_hand() == LARGE
        await settled()
    assert there.at_hand() is None
    assert await sent_at_once(here, LARGE, there_are // 2) == there_are // 2


async def test_whoever_sends_without_end_waits_for_room(pair: Pair) -> None:
    here, there = await pair.opened()
    there.read_ahead()
    count = 3 * INBOX_BYTES // MESSAGE_BYTES

    async def send() -> None:
        for _ in range(count):
            await here.send(LARGE)

    sending = asyncio.ensure_future(send())
    async with asyncio.timeout(15):
        for _ in range(count):
            assert await there.receive() == LARGE
    await sending


async def test_a_message_too_large_for_a_session_is_not_sent(pair: Pair) -> None:
    here, _ = await pair.opened()
    with pytest.raises(ProtocolError, match="too large"):
        here.put(pb.PairMessage(openings=bytes(MESSAGE_BYTES)))


async def test_whoever_says_more_than_there_is_room_for_loses_the_link(pair: Pair) -> None:
    here, _ = await pair.opened()
    here._may_send_bytes = INBOX_BYTES
    await sent_at_once(here, LARGE, 4)
    with pytest.raises(ProtocolError, match="keyholder-b says more of a session than there is room for"):
        await pair.carrying["plus"]


# -- ends ------------------------------------------------------------------------------------------

ENDS: list[VeilmatchError] = [
    KeyMismatchError("another stock", got=1, expected=2),
    ProtocolError("a message too many"),
    UnavailableError("no stock", party="keyholder-a", needed="keyholder-a", alternatives=("bc",)),
]


@pytest.mark.parametrize("error", ENDS, ids=lambda error: error.code)
async def test_a_session_that_fails_fails_alone_and_the_other_end_hears_why(error: VeilmatchError, pair: Pair) -> None:
    here, there = await pair.opened(1)
    other, other_there = await pair.opened(2)
    there.read_ahead()
    there.put(said(1))
    there.end(error)
    await settled()
    assert await here.receive() == said(1), "what was said before is heard before"
    for _ in range(2):
        with pytest.raises(type(error)) as caught:
            await here.receive()
        assert caught.value.fields() == error.fields() | {"said_by": ["keyholder-a"]}
    with pytest.raises(type(error)):
        here.put(said(2))
    assert other.put(said(3)) and await other_there.receive() == said(3)


async def test_each_hears_an_error_of_its_own(pair: Pair) -> None:
    """An error is given the id of the request that it is about."""
    both = [await pair.opened(number) for number in range(2)]
    pair.minus.lose(partial(UnavailableError, "lost"))
    errors = []
    for here, _ in both:
        with pytest.raises(UnavailableError) as caught:
            here.at_hand()
        errors.append(caught.value)
    assert errors[0] is not errors[1]


async def test_a_session_that_fails_before_it_is_taken_is_heard_by_whoever_takes_it(pair: Pair) -> None:
    here, there = await pair.opened()
    here.end(KeyMismatchError("another key"))
    await settled()
    there.read_ahead()
    with pytest.raises(KeyMismatchError, match="another key"):
        await there.receive()


async def test_an_abandoned_session_was_left(pair: Pair) -> None:
    here, there = await pair.opened()
    waiting = asyncio.ensure_future(there.receive())
    await settled()
    here.abandon()
    with pytest.raises(UnavailableError, match="keyholder-b left the request") as caught:
        async with asyncio.timeout(0.5):
            await waiting
    assert (caught.value.party, caught.value.alternatives) == ("keyholder-b", ("ac",))


async def test_a_session_that_went_well_is_over_at_the_other_end_as_well(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standing_link, "_LATEST_S", 0.05)
    here, there = await pair.opened()
    here.put(said(1))
    here.end(None)
    assert await there.receive() == said(1)
    with pytest.raises(UnavailableError, match="left"):
        async with asyncio.timeout(15):
            await there.receive()
    assert not pair.minus._strands


async def test_a_lost_link_ends_exactly_its_sessions_and_at_once(pair: Pair) -> None:
    here, there = await pair.opened()
    another = Pair()
    elsewhere, _ = await another.opened()
    waiting = [asyncio.ensure_future(one.receive()) for one in (here, there, elsewhere)]
    await settled()
    pair.minus.lose(partial(UnavailableError, "keyholder-a cannot be reached", party="keyholder-a"))
    pair.plus.lose(MINUS.left)
    await settled()
    assert [one.done() for one in waiting] == [True, True, False]
    assert [type(one.exception()) for one in waiting[:2]] == [UnavailableError] * 2
    late = pair.minus.open(rendezvous(2))
    with pytest.raises(UnavailableError, match="cannot be reached"):
        late.at_hand()
    waiting[2].cancel()
    await another.close()


async def test_what_comes_for_a_session_that_has_ended_here_is_ignored(pair: Pair) -> None:
    here, there = await pair.opened()
    there.end(None)
    assert here.put(said(1))
    await settled()
    assert not pair.carrying["plus"].done()


async def test_an_end_longer_than_any_is_one_that_cannot_be_read(pair: Pair) -> None:
    here, there = await pair.opened()
    there.read_ahead()
    monstrous = pb.PairMessage(ended=written(ProtocolError("x")) + b" " * CLAIM_BYTES)
    there._say(strand._Outgoing(monstrous, over=True))
    await settled()
    with pytest.raises(IntegrityError, match="cannot be read"):
        here.at_hand()


def refusals(method: str, code: str) -> float:
    return meters.REGISTRY.get_sample_value("veilmatch_calls_total", {"method": method, "code": code}) or 0.0


# -- how many --------------------------------------------------------------------------------------


async def test_sessions_beyond_the_most_are_refused_and_the_others_stand(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standing_link, "SESSIONS", 2)
    (first, there), _ = await pair.opened(1), await pair.opened(2)
    before = refusals("Pair", "overloaded")
    refused = pair.minus.open(rendezvous(3))
    with pytest.raises(OverloadedError, match="takes no more sessions of keyholder-b at once"):
        async with asyncio.timeout(15):
            await refused.receive()
    assert refusals("Pair", "overloaded") == before + 1
    assert len(pair.offered) == 2 and first.put(said(1)) and await there.receive() == said(1)
    there.end(None)
    await pair.opened(4)


async def test_a_session_that_is_not_taken_in_is_refused_alone_and_counted() -> None:
    made = Pair()
    before = refusals("Pair", "protocol")

    def offer(session: Strand) -> None:
        if session.number == 1:
            raise ProtocolError("a second call about the same request")

    made.plus._offer = offer
    refused, stands = made.minus.open(rendezvous(1)), made.minus.open(rendezvous(2))
    with pytest.raises(ProtocolError, match="a second call"):
        async with asyncio.timeout(15):
            await refused.receive()
    assert stands.at_hand() is None
    assert refusals("Pair", "protocol") == before + 1
    await made.close()


@pytest.mark.parametrize(
    "frames",
    [
        pb.PairFrames(),
        pb.PairFrames(frame=[pb.PairFrame(session=5, message=rendezvous())]),
        pb.PairFrames(frame=[pb.PairFrame(session=1, message=said(1))]),
        pb.PairFrames(frame=[pb.PairFrame(session=1, over=True)]),
    ],
)
async def test_what_no_link_says_ends_it(pair: Pair, frames: pb.PairFrames) -> None:
    await pair.from_minus.write(frames)
    with pytest.raises(ProtocolError):
        await pair.carrying["plus"]
    assert not pair.offered


async def test_only_the_calling_end_opens_sessions(pair: Pair) -> None:
    await pair.from_plus.write(pb.PairFrames(frame=[pb.PairFrame(session=1, message=rendezvous())]))
    with pytest.raises(ProtocolError, match="nobody opened"):
        await pair.carrying["minus"]


# -- stopping --------------------------------------------------------------------------------------


async def test_a_holder_that_stops_takes_nothing_new_and_lets_the_others_end(pair: Pair) -> None:
    here, there = await pair.opened()
    pair.plus.stop()
    late = pair.minus.open(rendezvous(2))
    with pytest.raises(UnavailableError, match="keyholder-a is stopping") as caught:
        async with asyncio.timeout(15):
            await late.receive()
    assert caught.value.party == "keyholder-a"
    assert here.put(said(1)) and await there.receive() == said(1)
    assert there.put(said(2))
    there.end(None)
    async with asyncio.timeout(15):
        await pair.carrying["plus"]
    assert await here.receive() == said(2)


async def test_a_holder_that_stops_without_sessions_is_done_at_once(pair: Pair) -> None:
    await pair.opened()
    pair.offered[0].end(None)
    pair.plus.stop()
    async with asyncio.timeout(15):
        await pair.carrying["plus"]


async def test_a_link_that_cannot_be_written_to_is_done(pair: Pair) -> None:
    async def fails(_message: pb.PairFrames) -> None:
        raise RuntimeError("closed")

    pair.from_minus.write = fails  # type: ignore[method-assign]
    pair.minus.open(rendezvous())
    with suppress(asyncio.CancelledError):
        async with asyncio.timeout(15):
            await pair.carrying["minus"]
    assert pair.carrying["minus"].done()


@pytest.mark.parametrize("error", [OverloadedError("later", retry_after_s=1.0), ProtocolError("no digest")])
async def test_refused_sessions_do_not_fill_the_log(error: VeilmatchError, pair: Pair) -> None:
    """Sixty-four of them go in one message, of a few bytes each."""
    with capture_logs() as logged:
        for number in range(200):
            _, there = await pair.opened(number)
            there.end(error)
    lines = [(line["log_level"], line["caller"]) for line in logged if line["event"] == "call refused"]
    # The log of a daemon leaves debug out; a slow machine may take some seconds for all.
    assert len(lines) == 200 and 1 <= lines.count(("info", "keyholder-b")) + lines.count(("error", "keyholder-b")) < 50
