"""Who is late, and who is not: a server that stands still itself blames nobody, nor one that says it is overloaded."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from veilmatch.crypto.errors import OverloadedError
from veilmatch.protos.v1 import matcher_pb2 as pb
from veilmatch.server.ground.stalls import Stalls
from veilmatch.server.matcher.agreement import meeting as meetings
from veilmatch.server.matcher.agreement.lending import Lending
from veilmatch.server.matcher.agreement.meeting import Meeting

PROMPT_S = 0.2


class Line:
    """What the other matcher says, after so long."""

    def __init__(self, after_s: float, error: Exception | None = None) -> None:
        self._after_s, self._error = after_s, error

    async def send(self, _message: Any) -> None:
        """It is read at once."""

    async def receive(self) -> pb.MatcherMessage:
        await asyncio.sleep(self._after_s)
        if self._error is not None:
            raise self._error
        return pb.MatcherMessage(accepted=pb.GalleryVote())


def meeting(line: Line, stalls: Stalls | None = None) -> Meeting:
    stalled_s = stalls.total_s if stalls is not None else lambda: 0.0
    return Meeting(
        line, pb.MatcherMessage(), leads=True, party="matcher-a", peer="matcher-b", timeout_s=5.0, stalled_s=stalled_s
    )


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meetings, "_PROMPT_S", PROMPT_S)


async def test_who_answers_late_is_late_by_that_and_is_not_lent_the_gallery_again_at_once() -> None:
    met, lending = meeting(Line(3 * PROMPT_S)), Lending()
    await met.receive("accepted")
    assert met.late_s == pytest.approx(2 * PROMPT_S, abs=PROMPT_S)
    lending.met("c")
    for _ in range(2):  # the first is excused
        lending.was_late("b", met.late_s)
    assert lending.refused_s("b") > PROMPT_S


async def test_who_says_at_once_that_it_has_too_much_to_do_is_not_late_however_often() -> None:
    lending = Lending()
    lending.met("c")
    for _ in range(20):
        met = meeting(Line(0.0, OverloadedError("busy", party="matcher-b", retry_after_s=1.0)))
        with pytest.raises(OverloadedError):
            await met.receive("accepted")
        lending.was_late("b", met.late_s)
    assert lending.refused_s("b") == 0.0


async def test_a_server_that_stood_still_blames_nobody_for_it() -> None:
    stalls = Stalls()
    watching = asyncio.create_task(stalls.watch())
    await asyncio.sleep(0.05)
    met = meeting(Line(0.05), stalls)
    asyncio.get_running_loop().call_later(0.01, time.sleep, 5 * PROMPT_S)
    await met.receive("accepted")
    assert met.late_s == 0.0 and stalls.total_s() > 2 * PROMPT_S
    slow = meeting(Line(4 * PROMPT_S), stalls)
    await slow.receive("accepted")
    assert slow.late_s > 0.0, "this one was late by itself"
    watching.cancel()


def test_a_loop_that_runs_has_not_stood_still() -> None:
    now = [10.0]
    stalls = Stalls(lambda: now[0])
    assert stalls.total_s() == 0.0
    stalls._due_s = 10.25
    now[0] = 10.28
    assert stalls.total_s() == 0.0
    now[0] = 11.25
    assert stalls.total_s() == pytest.approx(1.0)
