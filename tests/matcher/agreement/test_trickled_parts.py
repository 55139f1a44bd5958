"""The other matcher sends next to nothing, again and again, while a gallery is held: that has an end, in its name."""

from __future__ import annotations

import asyncio

import pytest

from tests.matcher.agreement.organisations import Line
from tests.matcher.swapping import swapped
from veilmatch.crypto.errors import ProtocolError, UnavailableError, VeilmatchError
from veilmatch.protos.v1 import matcher_pb2 as pb
from veilmatch.server.matcher.agreement.handing_over import take_over
from veilmatch.server.matcher.agreement.meeting import Meeting

SESSION = b"s" * 32


LITTLE = pb.ChangesChunk()
LITTLE.changes.add(sequence=1, body=b"x", more=True)
#: Parts with nothing in them, and with next to nothing.
PARTS = {
    "column": (pb.ColumnChunk(), pb.ColumnChunk(ciphertexts=b"x")),
    "results": (pb.ResultChunk(session_id=SESSION), pb.ResultChunk(session_id=SESSION, results=b"x")),
    "changes": (pb.ChangesChunk(), LITTLE),
}


@pytest.mark.parametrize(("kind", "error"), [(0, ProtocolError), (1, UnavailableError)])
@pytest.mark.parametrize("what", PARTS)
async def test_parts_do_not_go_on_for_ever(what: str, kind: int, error: type[VeilmatchError]) -> None:
    line = Line()
    link = line.end(1)

    async def liar() -> None:
        if what == "column":
            await link.send(pb.MatcherMessage(commitment=pb.Commitment(session_id=SESSION, digest=b"?" * 32)))
        while True:
            await link.send(pb.MatcherMessage(**{what: PARTS[what][kind]}))
            await asyncio.sleep(0.05)

    meeting = Meeting(line.end(0), pb.MatcherMessage(), leads=True, party="a", peer="b", timeout_s=0.1)
    playing = asyncio.ensure_future(liar())
    receiving = {
        "column": lambda: meeting.swap_columns(SESSION, b"x" * 1000),
        "results": lambda: swapped(meeting, SESSION, [b"x" * 1000]),
        "changes": lambda: take_over(meeting, 1, lambda _: []),
    }
    try:
        with pytest.raises(error) as caught:
            await asyncio.wait_for(receiving[what](), 5.0)
        assert caught.value.party == "b"
    finally:
        playing.cancel()


async def test_what_comes_fast_enough_has_more_time() -> None:
    line = Line()
    link = line.end(1)

    async def sender() -> None:
        for number in range(8):
            await asyncio.sleep(0.1)
            await link.send(pb.MatcherMessage(column=pb.ColumnChunk(ciphertexts=bytes(1 << 18), last=number == 7)))

    meeting = Meeting(line.end(0), pb.MatcherMessage(), leads=True, party="a", peer="b", timeout_s=0.2)
    sending = asyncio.ensure_future(sender())
    async with asyncio.timeout(15):
        got = [len(part.ciphertexts) async for part in meeting.parts("column")]  # 0.8 s of them; one message has 0.4
    assert got == [1 << 18] * 8
    await sending
