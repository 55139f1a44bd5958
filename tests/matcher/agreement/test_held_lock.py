"""Organisation b tries to keep a gallery of an honest one locked by sending nothing, again and again."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.matcher.agreement.organisations import Line, agreed, nth, three
from tests.matcher.galleries import ORGANISATIONS
from veilmatch.protos.v1 import matcher_pb2 as pb
from veilmatch.server.matcher.agreement.acceptor import Accepted, GalleryState
from veilmatch.server.matcher.agreement.ballots import Ballot
from veilmatch.server.matcher.agreement.certificates import Statement
from veilmatch.server.matcher.agreement.meeting import Meeting


async def test_who_trickles_in_a_meeting_does_not_hold_the_gallery_for_others(tmp_path: Path) -> None:
    orgs = await three(tmp_path)
    a, b, c = orgs["a"], orgs["b"], orgs["c"]
    await agreed(a, b, nth(1))
    await agreed(b, c)
    state = b.gallery.state
    ballot = Ballot(state.promised.round, "bc")
    lie = GalleryState(state.sequence, state.chain, ballot, Accepted(ballot, b"?" * 32))
    line = Line()
    link = line.end(0)
    held = asyncio.Event()

    async def liar() -> None:  # b leads; what it says that it has accepted nobody made
        for _ in range(2):  # the meeting that reads, and the one that settles
            await link.send(
                pb.MatcherMessage(
                    begin=pb.GalleryMeeting(
                        gallery="staff", key_id=b.gallery.key_id,
                        statement=Statement("b", lie).signed(b.gallery.scope, ORGANISATIONS["b"]).encode(),
                        certificate=b.gallery.head.encode() if b.gallery.head else b"",
                    )
                )
            )  # fmt: skip
            await link.receive()
        held.set()
        while True:
            await link.send(pb.MatcherMessage(changes=pb.ChangesChunk()))
            await asyncio.sleep(0.5)

    async def honest() -> None:
        meeting = Meeting(
            line.end(1), pb.MatcherMessage(), leads=False, party="matcher-c", peer="matcher-b", timeout_s=0.2
        )
        async with c.agreement.reading(meeting, c.gallery):
            pass

    playing, serving = asyncio.ensure_future(liar()), asyncio.ensure_future(honest())
    await held.wait()
    try:
        # timeout_s is 0.2: 25 of them.
        await asyncio.wait_for(agreed(a, c), 5.0)
    finally:
        playing.cancel()
        serving.cancel()
        await asyncio.gather(playing, serving, return_exceptions=True)
