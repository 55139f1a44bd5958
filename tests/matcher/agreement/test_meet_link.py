"""Meetings about verifications over the one link of two matchers: they do not mix, and each ends for itself."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.matcher.agreement.test_pairs import matchers
from veilmatch.crypto.errors import InvalidInputError, ProtocolError, UnavailableError, VeilmatchError
from veilmatch.protos.v1 import matcher_pb2 as pb
from veilmatch.server.matcher.agreement.meetings import Meetings
from veilmatch.server.matcher.agreement.pieces import PIECE_BYTES, InPieces
from veilmatch.server.transport.limits import DEVICE_MESSAGE_BYTES


def commitment(data: bytes) -> dict[str, Any]:
    return {"commitment": pb.Commitment(digest=data)}


async def swapped(meetings: Meetings, subject: bytes, mine: bytes) -> bytes:
    """Send something in a meeting about this, and return what the other side sends."""
    async with meetings.met(subject, "ab", on_link=True) as meeting:
        await meeting.begin()
        await meeting.send(**commitment(mine))
        received: bytes = (await meeting.receive("commitment")).digest
        return received


async def test_meetings_at_the_same_time_share_a_call_and_do_not_mix(tmp_path: Path) -> None:
    async with matchers(tmp_path, "ab") as found:
        subjects = [secrets.token_bytes(32) for _ in range(20)]
        said = await asyncio.gather(
            *(swapped(found[party], s, party.encode() + s) for s in subjects for party in ("a", "b"))
        )
        link = found["b"]._called["matcher-a"].link
        assert link is not None and link._newest == len(subjects)
    assert said == [other + s for s in subjects for other in (b"b", b"a")]


@pytest.mark.parametrize("fails", ["a", "b"])
async def test_why_one_fails_is_told_and_the_others_go_on(tmp_path: Path, fails: str) -> None:
    bad, good = secrets.token_bytes(32), secrets.token_bytes(32)
    async with matchers(tmp_path, "ab") as found:

        async def failing(party: Any) -> VeilmatchError | None:
            try:
                async with found[party].met(bad, "ab", on_link=True) as meeting:
                    await meeting.begin()
                    if party == fails:
                        raise InvalidInputError("too much of it", got=3)
                    await meeting.receive("commitment")
            except VeilmatchError as error:
                return error
            return None

        outcomes = await asyncio.gather(
            failing("a"), failing("b"), swapped(found["a"], good, b"a"), swapped(found["b"], good, b"b")
        )
    assert outcomes[2:] == [b"b", b"a"]
    told = outcomes[0 if fails == "b" else 1]
    assert isinstance(told, InvalidInputError) and told.said_by[-1] == f"matcher-{fails}"


async def test_a_lost_link_ends_meetings_and_is_called_for_again(tmp_path: Path) -> None:
    subject = secrets.token_bytes(32)
    async with matchers(tmp_path, "ab") as found:

        async def waiting(party: Any) -> None:
            async with found[party].met(subject, "ab", on_link=True) as meeting:
                await meeting.begin()
                if party == "b":
                    found["b"]._called["matcher-a"].close()
                await meeting.receive("commitment")

        lost = await asyncio.gather(waiting("a"), waiting("b"), return_exceptions=True)
        assert all(isinstance(error, UnavailableError) for error in lost)
        again = secrets.token_bytes(32)
        assert await asyncio.gather(swapped(found["a"], again, b"1"), swapped(found["b"], again, b"2")) == [b"2", b"1"]


async def test_what_is_too_large_for_a_message_of_a_link_arrives(tmp_path: Path) -> None:
    """As the changes do that one of the two has missed: more than a session has room for before it is met."""
    subject, large = secrets.token_bytes(32), secrets.token_bytes(1 << 20)
    async with matchers(tmp_path, "ab") as found:
        said = await asyncio.gather(swapped(found["a"], subject, large), swapped(found["b"], subject, large[::-1]))
    assert said == [large[::-1], large]


class Kept:
    """A session that keeps what is sent, and gives it back."""

    peer, first = "matcher-a", None

    def __init__(self, *sent: pb.MatcherMessage) -> None:
        self.sent = list(sent)

    async def send(self, message: pb.MatcherMessage) -> None:
        self.sent.append(message)

    async def receive(self) -> pb.MatcherMessage:
        return self.sent.pop(0)


@given(st.integers(0, 3), st.integers(-20, 20))
def test_pieces_make_the_message(pieces: int, more: int) -> None:
    message = pb.MatcherMessage(**commitment(b"x" * max(0, pieces * PIECE_BYTES + more)))
    kept = Kept()
    link = InPieces(kept)  # type: ignore[arg-type]

    async def there_and_back() -> pb.MatcherMessage:
        await link.send(message)
        assert len(kept.sent) == max(1, -(-message.ByteSize() // PIECE_BYTES))
        return await link.receive()

    assert asyncio.run(there_and_back()) == message and not kept.sent


def piece(data: bytes, *, more: bool) -> pb.MatcherMessage:
    return pb.MatcherMessage(piece=pb.MatcherPiece(data=data, more=more))


FULL = piece(bytes(PIECE_BYTES), more=True)


@pytest.mark.parametrize(
    "said",
    [
        [piece(b"x", more=True)],
        [FULL, pb.MatcherMessage(**commitment(b""))],
        [piece(b"\xff", more=False)],
        [FULL] * (DEVICE_MESSAGE_BYTES // PIECE_BYTES + 1),
    ],
    ids=["a short piece", "broken off", "no message", "too much"],
)
async def test_what_are_no_pieces_is_refused(said: list[pb.MatcherMessage]) -> None:
    with pytest.raises(ProtocolError):
        await InPieces(Kept(*said)).receive()  # type: ignore[arg-type]


async def test_nothing_larger_than_a_matcher_takes_is_sent() -> None:
    kept = Kept()
    with pytest.raises(ProtocolError, match="too large to send"):
        await InPieces(kept).send(pb.MatcherMessage(**commitment(bytes(DEVICE_MESSAGE_BYTES))))  # type: ignore[arg-type]
    assert not kept.sent
