"""Organisation b tries to keep a gallery of c locked: by silence, by next to nothing, by what is made up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.matcher.agreement.organisations import Line, Organisation, agreed, nth, three
from tests.matcher.galleries import ORGANISATIONS
from veilmatch.crypto.errors import UnavailableError, VeilmatchError
from veilmatch.protos.v1 import matcher_pb2 as pb
from veilmatch.server.matcher.agreement.acceptor import Accepted, GalleryState
from veilmatch.server.matcher.agreement.ballots import Ballot
from veilmatch.server.matcher.agreement.certificates import Statement
from veilmatch.server.matcher.agreement.lending import Lending
from veilmatch.server.matcher.agreement.meeting import Meeting


class Liar:
    """b leads meetings with c, and says that it has accepted what nobody made."""

    def __init__(self, b: Organisation, c: Organisation) -> None:
        self._b, self._c = b, c
        self._line = Line()
        self.link = self._line.end(0)
        #: c holds its gallery alone.
        self.held = asyncio.Event()

    async def begin(self) -> None:
        """Come as far as that: through the meeting that reads, and into the one that settles."""
        state, scope = self._b.gallery.state, self._b.gallery.scope
        ballot = Ballot(state.promised.round, "bc")
        lie = GalleryState(state.sequence, state.chain, ballot, Accepted(ballot, b"?" * 32))
        for _ in range(2):
            await self.link.send(
                pb.MatcherMessage(
                    begin=pb.GalleryMeeting(
                        gallery="staff", key_id=self._b.gallery.key_id,
                        statement=Statement("b", lie).signed(scope, ORGANISATIONS["b"]).encode(),
                        certificate=self._b.gallery.head.encode() if self._b.gallery.head else b"",
                    )
                )
            )  # fmt: skip
            await self.link.receive()
        self.held.set()

    async def honest(self) -> VeilmatchError | None:
        """c, which reads; return what that came to."""
        meeting = Meeting(
            self._line.end(1), pb.MatcherMessage(), leads=False, party="matcher-c", peer="matcher-b", timeout_s=0.2
        )
        try:
            async with self._c.agreement.reading(meeting, self._c.gallery):
                return None
        except VeilmatchError as error:
            self._line.put(1, None)
            return error


async def level(folder: Path) -> dict[str, Organisation]:
    orgs = await three(folder)
    await agreed(orgs["a"], orgs["b"], nth(1))
    await agreed(orgs["b"], orgs["c"])
    await agreed(orgs["a"], orgs["c"])
    return orgs


async def trickle(liar: Liar) -> None:
    while True:
        await liar.link.send(pb.MatcherMessage(changes=pb.ChangesChunk()))
        await asyncio.sleep(0.5)


async def pour(liar: Liar) -> None:
    """As fast as an honest one: what is made up, without end."""
    chunk = pb.ChangesChunk()
    chunk.changes.add(sequence=2, body=b"made up", certificate=bytes(178))
    while True:
        chunk.contents.add(data=bytes(1 << 17))
        await liar.link.send(pb.MatcherMessage(changes=chunk))
        chunk = pb.ChangesChunk()
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("lies", [trickle, pour])
async def test_what_is_sent_in_a_meeting_does_not_hold_the_gallery_for_others(
    tmp_path: Path, lies: Callable[[Liar], Awaitable[None]]
) -> None:
    orgs = await level(tmp_path)
    liar = Liar(orgs["b"], orgs["c"])

    async def playing() -> None:
        await liar.begin()
        await lies(liar)

    tasks = [asyncio.ensure_future(playing()), asyncio.ensure_future(liar.honest())]
    await liar.held.wait()
    try:
        # timeout_s is 0.2: 25 of them.
        await asyncio.wait_for(agreed(orgs["a"], orgs["c"]), 5.0)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_many_meetings_in_which_one_is_silent_hold_the_gallery_once(tmp_path: Path) -> None:
    """Each would hold it for 2.8 s, one after the other, and before whatever a and c do."""
    orgs = await level(tmp_path)
    # What is excused is used up.
    orgs["c"].agreement._lendings[orgs["c"].gallery].was_late("b", 60.0)
    liars = [Liar(orgs["b"], orgs["c"]) for _ in range(6)]
    playing = [asyncio.ensure_future(liar.begin()) for liar in liars]
    serving = [asyncio.ensure_future(liar.honest()) for liar in liars]
    clock = asyncio.get_running_loop().time
    await asyncio.wait([asyncio.ensure_future(liar.held.wait()) for liar in liars], return_when="FIRST_COMPLETED")
    started = clock()
    await asyncio.wait_for(agreed(orgs["a"], orgs["c"], nth(2)), 10.0)
    outcomes = await asyncio.gather(*serving)
    assert clock() - started < 8.0
    refused = [one for one in outcomes if isinstance(one, UnavailableError) and "waited for too long" in one.message]
    assert len(refused) == 5 and {one.party for one in refused} == {"matcher-b"}
    assert all(one.retry_after_s and one.retry_after_s > 1 for one in refused)
    # c does not refuse a, and b is heard again when a is not there.
    await agreed(orgs["a"], orgs["c"])
    for task in playing:
        task.cancel()
    await asyncio.gather(*playing, return_exceptions=True)


def test_who_was_late_is_refused_for_a_while_unless_nobody_else_is_there() -> None:
    now = 100.0
    lending = Lending(lambda: now)
    lending.met("b")
    lending.met("c")
    lending.was_late("b", 3.0)
    assert not lending.refused_s("b")  # once, and nothing more for 30 s
    lending.was_late("b", 2.0)
    assert lending.refused_s("b") == 20.0 and not lending.refused_s("c")
    now = 119.0
    assert lending.refused_s("b") == 1.0
    lending.was_late("b", 1.0)
    assert lending.refused_s("b") == 11.0
    now = 130.5
    lending.met("c")
    lending.was_late("b", 1.0)
    assert not lending.refused_s("b")  # once more, now
    lending.was_late("b", 1.0)
    assert lending.refused_s("b") == 10.0
    now = 200.0
    lending.was_late("b", 1.0)
    lending.was_late("b", 1.0)
    assert not lending.refused_s("b")  # c was not met for long
