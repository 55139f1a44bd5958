"""Organisation b lies in a meeting; a and c are honest, refuse it by name, and go on."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from tests.matcher.agreement.organisations import Line, agreed, nth, sit, three
from tests.matcher.galleries import ORGANISATIONS
from veilmatch.crypto.errors import ProtocolError
from veilmatch.protos.v1 import matcher_pb2 as pb
from veilmatch.server.matcher.agreement.acceptor import Accepted, GalleryState
from veilmatch.server.matcher.agreement.ballots import Ballot
from veilmatch.server.matcher.agreement.certificates import Scope, Statement

NOW_S = 1_000_000.0
#: The highest round that is heard at that time.
BOUND = (1_000_000 + 3600) * 1_000_000


def states(scope: Scope, state: GalleryState, **more: Any) -> Any:
    """Return what alters every statement of b (side 1)."""

    def change(side: int, message: pb.MatcherMessage) -> pb.MatcherMessage:
        if side == 1 and message.WhichOneof("content") == "begin":
            message.begin.statement = Statement("b", state).signed(scope, ORGANISATIONS["b"]).encode()
            for name, value in more.items():
                setattr(message.begin, name, value)
        return message

    return change


@pytest.mark.parametrize("where", ["promised", "accepted", "known"])
@pytest.mark.parametrize("high", [2**64 - 1, 2**64 - 2, BOUND + 1])
async def test_a_huge_round_does_not_stop_the_honest_pair(tmp_path: Path, where: str, high: int) -> None:
    orgs = await three(tmp_path)
    a, b, c = orgs["a"], orgs["b"], orgs["c"]
    a.agreement.clock = lambda: NOW_S
    await agreed(a, b, nth(1))
    state, before, ballot = b.gallery.state, a.store.state("staff"), Ballot(high, "bc")
    promised = ballot if where == "promised" else state.promised
    accepted = Accepted(ballot._replace(pair="ab"), b"?" * 32) if where == "accepted" else None
    lie = GalleryState(state.sequence, state.chain, promised, accepted)
    known = {"known_ballot": ballot.encode()} if where == "known" else {}
    outcome, _ = await sit(a, b, nth(2), Line(change=states(a.gallery.scope, lie, **known)))
    assert isinstance(outcome, ProtocolError)
    assert (outcome.party, "round" in outcome.message) == ("matcher-b", True)
    assert a.store.state("staff") == a.gallery.state == before
    await agreed(a, c, nth(2))


@pytest.mark.parametrize("mine", [True, False])
async def test_a_claimed_acceptance_in_a_ballot_of_another_pair_is_refused(tmp_path: Path, mine: bool) -> None:
    """b claims to have accepted what a accepted with c, in their ballot; or anything in it, while a has nothing."""
    orgs = await three(tmp_path)
    a, b, c = orgs["a"], orgs["b"], orgs["c"]
    await agreed(a, b, nth(1))
    await agreed(a, c)
    lost = 0
    while mine and a.gallery.state.accepted is None:
        await sit(a, c, nth(2), Line(lost))
        lost += 1
    accepted = a.gallery.state.accepted or Accepted(Ballot(7, "ac"), b"?" * 32)
    state, before = b.gallery.state, a.store.state("staff")
    lie = GalleryState(state.sequence, state.chain, accepted.ballot, accepted)
    outcome, _ = await sit(a, b, nth(2), Line(change=states(a.gallery.scope, lie)))
    assert isinstance(outcome, ProtocolError)
    assert (outcome.party, "no part in" in outcome.message) == ("matcher-b", True)
    assert a.store.state("staff") == before
    await agreed(a, c, nth(2))


async def test_who_was_pushed_to_the_bound_goes_on_as_time_passes(tmp_path: Path) -> None:
    orgs = await three(tmp_path)
    a, b, c = orgs["a"], orgs["b"], orgs["c"]
    a.agreement.clock = c.agreement.clock = lambda: NOW_S
    await agreed(a, b, nth(1))
    state = b.gallery.state
    lie = GalleryState(state.sequence, state.chain, Ballot(BOUND, "bc"))
    await sit(a, b, nth(2), Line(change=states(a.gallery.scope, lie)))
    assert a.gallery.state.promised == Ballot(BOUND + 1, "ab")
    a.agreement.clock = c.agreement.clock = lambda: NOW_S + 0.001
    await agreed(a, c, nth(2))


async def test_pushing_one_to_the_bound_parts_it_from_nobody_whose_clock_is_behind(tmp_path: Path) -> None:
    """b can do it again in every moment: a change that begins is enough. a and c must not need its silence."""
    orgs = await three(tmp_path)
    a, b, c = orgs["a"], orgs["b"], orgs["c"]
    a.agreement.clock, c.agreement.clock = lambda: time.time() + 0.6, time.time
    await agreed(a, b, nth(1))
    await agreed(a, c)
    for number in (2, 3):
        state, bound = b.gallery.state, int((time.time() + 0.6 + 3600) * 1e6)
        lie = GalleryState(state.sequence, state.chain, Ballot(bound, "bc"))
        # Cut off when both have promised, so that nothing is changed: b never comes to the end of its lies.
        line = Line(lost=4, change=states(a.gallery.scope, lie))
        await sit(a, b, nth(number), line)
        assert a.gallery.state.promised >= Ballot(bound, "bc")
        await agreed(a, c)  # to read: at once
        await agreed(a, c, nth(number))
        await agreed(b, c)


async def test_who_is_hours_ahead_is_not_waited_for(tmp_path: Path) -> None:
    orgs = await three(tmp_path)
    a, b = orgs["a"], orgs["b"]
    await agreed(a, b, nth(1))
    state = b.gallery.state
    lie = GalleryState(state.sequence, state.chain, Ballot(int((time.time() + 3700) * 1e6), "bc"))
    async with asyncio.timeout(15):
        outcome, _ = await sit(a, b, nth(2), Line(change=states(a.gallery.scope, lie)))
    assert isinstance(outcome, ProtocolError)


def test_a_round_that_does_not_fit_is_a_typed_error() -> None:
    with pytest.raises(ProtocolError, match="cannot be encoded"):
        Ballot(2**64, "ab").encode()
