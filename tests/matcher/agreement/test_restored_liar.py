"""Organisation b only says that it was restored: what it has signed before stays, forks are found, and it is logged."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.matcher.agreement.organisations import Line, Organisation, agreed, nth, sit, three
from tests.matcher.galleries import ORGANISATIONS
from veilmatch.crypto.errors import GalleryMismatchError
from veilmatch.protos.v1 import matcher_pb2 as pb
from veilmatch.server.matcher.agreement import stating
from veilmatch.server.matcher.agreement.acceptor import Accepted, GalleryState
from veilmatch.server.matcher.agreement.ballots import Ballot
from veilmatch.server.matcher.agreement.certificates import Statement


async def say(a: Organisation, b: Organisation, said: GalleryState, *, restored: bool) -> Any:
    """Let b state this to a; return what that came to at a."""

    def change(side: int, message: pb.MatcherMessage) -> pb.MatcherMessage:
        if side == 1 and message.WhichOneof("content") == "begin":
            message.begin.statement = Statement("b", said).signed(a.gallery.scope, ORGANISATIONS["b"]).encode()
            message.begin.restored = restored
        return message

    return (await sit(a, b, nth(2), Line(change=change)))[0]


async def test_restored_takes_back_no_promise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """b promises (9, bc), is heard with it by a, and says "restored" (unsigned)."""
    orgs = await three(tmp_path)
    a, b = orgs["a"], orgs["b"]
    await agreed(a, b, nth(1))
    state = b.gallery.state
    alerts: list[str] = []
    monkeypatch.setattr(stating, "alert", lambda error, *_, **__: alerts.append(error.message))
    await say(a, b, GalleryState(state.sequence, state.chain, Ballot(9, "bc")), restored=False)
    assert a.gallery.heard["b"].state.promised == Ballot(9, "bc")
    await say(a, b, state, restored=True)
    assert any("restored" in message for message in alerts)
    assert a.gallery.heard["b"].state.promised == Ballot(9, "bc") == a.store.heard("staff")["b"].state.promised
    assert isinstance(await say(a, b, state, restored=False), GalleryMismatchError)


async def test_restored_excuses_no_fork(tmp_path: Path) -> None:
    orgs = await three(tmp_path)
    a, b = orgs["a"], orgs["b"]
    await agreed(a, b, nth(1))
    state, ballot = b.gallery.state, Ballot(9, "bc")
    first, second = (GalleryState(state.sequence, state.chain, ballot, Accepted(ballot, c * 32)) for c in (b"1", b"2"))
    await a.gallery.hear_again(Statement("b", first).signed(a.gallery.scope, ORGANISATIONS["b"]))
    outcome = await say(a, b, second, restored=True)
    assert isinstance(outcome, GalleryMismatchError)
    assert [(proof.party, proof.what) for proof in a.store.proofs("staff")] == [("b", "fork")]


async def test_who_was_restored_without_what_it_accepted_does_not_lie(tmp_path: Path) -> None:
    orgs = await three(tmp_path)
    a, b = orgs["a"], orgs["b"]
    await agreed(a, b, nth(1))
    state, ballot = b.gallery.state, Ballot(9, "bc")
    before = GalleryState(state.sequence, state.chain, ballot, Accepted(ballot, b"1" * 32))
    await a.gallery.hear_again(Statement("b", before).signed(a.gallery.scope, ORGANISATIONS["b"]))
    after = GalleryState(state.sequence, state.chain, Ballot(10, "bc"))
    await say(a, b, after, restored=True)
    assert a.gallery.heard["b"].state == after
    assert not a.store.proofs("staff")


async def test_nobody_makes_one_that_was_restored_a_liar(tmp_path: Path) -> None:
    """a brings it to a high promise while it is at an old change, before it meets c, which has its later votes."""
    orgs = await three(tmp_path)
    a, b, c = orgs["a"], orgs["b"], orgs["c"]
    await agreed(a, b, nth(1))
    b.store.close()
    shutil.copytree(b.folder, tmp_path / "copy")
    await b.start()
    await agreed(b, c, nth(2))
    await agreed(b, c, nth(3))
    b.store.close()
    shutil.rmtree(b.folder)
    shutil.copytree(tmp_path / "copy", b.folder)
    await b.start()
    b.store.mark_restored("staff", ("a", "c"))
    b.store.promise("staff", Ballot(10**12, "ab"))
    await b.restart()
    await sit(a, b)
    assert b.store.unmet("staff") == {"c"}
    for _ in range(2):
        await sit(b, c)
    assert b.store.unmet("staff") == set()
    await agreed(b, c, nth(4))
    assert not c.store.proofs("staff") and not b.store.proofs("staff")
