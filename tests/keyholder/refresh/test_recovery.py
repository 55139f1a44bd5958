"""`--recover`: two operators bring their key holders back to the epoch before, and no share is lost on the way."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.keyholder.refresh.leaders import USED, DeviatingLeader
from tests.keyholder.refreshables import Refreshables, refreshables
from tests.keyholder.trio import NAMES, ceremony, refused, stocked
from veilmatch.crypto.errors import (
    AuditLogError,
    InvalidInputError,
    KeyMismatchError,
    PartyRefusedError,
    UnavailableError,
    VeilmatchError,
)
from veilmatch.crypto.keys.parties import PARTIES, Party
from veilmatch.protos.v1 import keyholder_pb2 as pb
from veilmatch.protos.v1 import keyholder_pb2_grpc as rpc
from veilmatch.server.keyholder.audit.check import entries_of
from veilmatch.server.keyholder.refresh.recovery import Found, plan
from veilmatch.server.keyholder.refresh.settling import Position, Stage, Word
from veilmatch.server.keyholder.stock.shelf import Shelf


@pytest.fixture
async def three(tmp_path: Path) -> AsyncIterator[Refreshables]:
    async with refreshables(await stocked(tmp_path / "trio")) as made:
        yield made


async def settle(three: Refreshables, *parties: Party) -> None:
    for party in parties:
        with suppress(VeilmatchError):
            await three.refreshers[party].settle()


async def back(three: Refreshables, party: Party, without: Party | None = "a") -> pb.RecoverReport:
    return await three.refreshers[party].recover(without, go=True)


def epochs(three: Refreshables, parties: str = "bc") -> list[int]:
    return [three[party].epoch for party in parties]  # type: ignore[index]


def audited(three: Refreshables, party: Party) -> list[str]:
    return [e.fields["step"] for e in entries_of(three.data_dir(party)) if e.event == "refresh"]


async def left_waiting(three: Refreshables, monkeypatch: pytest.MonkeyPatch) -> DeviatingLeader:
    """b and c have everything but the decision of a, which says nothing any more."""
    assert await three.serves("bc")
    leader = await DeviatingLeader.all_ready(three, monkeypatch)
    await three.stop("a")
    return leader


async def led_where_nobody_deals(three: Refreshables, monkeypatch: pytest.MonkeyPatch) -> None:
    """b and c use their new shares. a, which led them there, says that it is in the old epoch, and then nothing."""
    assert await three.serves("bc")
    leader = await DeviatingLeader.all_ready(three, monkeypatch)
    leader.tells("b", 1, USED, decision=True)
    leader.tells("c", 1, USED, decision=True)
    await settle(three, "b", "c", "b", "c")
    assert three.files("b") == three.files("c") == ["", ".old"] and epochs(three) == [2, 2]
    await three.stop("a")


async def split_by_a_loss(three: Refreshables, monkeypatch: pytest.MonkeyPatch) -> None:
    """b was told the decision and forgot it with its data directory; c was not; a says nothing any more."""
    assert await three.serves("bc")
    leader = await DeviatingLeader.all_ready(three, monkeypatch)
    leader.tells("b", 2, USED, decision=True)
    await settle(three, "b")
    await three.stop("a", "b")
    (three.data_dir("b") / "refresh.db").unlink()
    await three.start("b")
    three.settling["b"].cancel()
    await three.found_again()


# -- what it mends --------------------------------------------------------------------------------------


async def test_both_go_back_to_their_old_shares_and_stock_and_serve(
    three: Refreshables, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = [three[party].key for party in "bc"]
    await led_where_nobody_deals(three, monkeypatch)
    with pytest.raises(UnavailableError):  # b says that the stock has run out, or c that b has left
        await three.serves("bc")
    first = await back(three, "b")
    assert first.state.epoch == 2 and "Not before keyholder-c is asked to go back" in first.will
    assert [(p.party, p.counts) for p in first.peers] == [("keyholder-a", False), ("keyholder-c", True)]
    assert first.peers[1].found == "epoch 2, the share of epoch 1 is kept"
    second = await back(three, "c")
    assert second.state.epoch == 1 and "is going back" in second.peers[1].found and "Not before" not in second.will
    await settle(three, "b")
    assert [three[party].key for party in "bc"] == old
    assert await three.serves("bc")
    # The newer shares are kept until the third one has said that it does not use its own.
    assert three.files("b") == three.files("c") == ["", ".next"]
    assert audited(three, "b") == audited(three, "c") == ["prepared", "used", "recover", "back"]
    (asked,) = (e.fields for e in entries_of(three.data_dir("b")) if e.fields.get("step") == "recover")
    assert (asked["epoch"], asked["caller"], asked["without"]) == (2, "keyholder-a", "keyholder-a")


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[Any, ...], list[tuple[int, int]]]:
    """What was handed out of each stock, by holder, name and kind."""
    found: dict[tuple[Any, ...], list[tuple[int, int]]] = {}
    reserve = Shelf.reserve

    async def noted(shelf: Shelf, wanted: Any) -> Any:
        reserved = await reserve(shelf, wanted)
        where = (shelf._is_plus, shelf._name.pair, shelf._name.epoch, shelf._name.stock, shelf._name.kind)
        found.setdefault(where, []).append((reserved.start, reserved.start + wanted.count))
        return reserved

    monkeypatch.setattr(Shelf, "reserve", noted)
    return found


def nothing_twice(taken: dict[tuple[Any, ...], list[tuple[int, int]]]) -> bool:
    return all(x[1] <= y[0] for ranges in taken.values() for x, y in pairwise(sorted(ranges)))


async def test_nothing_of_the_old_stock_is_handed_out_again(
    three: Refreshables, monkeypatch: pytest.MonkeyPatch, taken: dict[tuple[Any, ...], list[tuple[int, int]]]
) -> None:
    await led_where_nobody_deals(three, monkeypatch)
    await back(three, "b")
    await back(three, "c")
    await settle(three, "b")
    assert await three.serves("bc")
    assert {where[1:3] for where in taken} == {("bc", 1)} and all(len(ranges) > 1 for ranges in taken.values())
    assert nothing_twice(taken)


async def test_an_epoch_that_was_gone_back_from_is_made_again_with_other_shares_and_stock(
    three: Refreshables, monkeypatch: pytest.MonkeyPatch, taken: dict[tuple[Any, ...], list[tuple[int, int]]]
) -> None:
    def stored(party: Party) -> Counter[int]:
        with sqlite3.connect(three.data_dir(party) / "stock.db") as connection:
            return Counter(dict(connection.execute("SELECT epoch, COUNT(*) FROM checked_blocks GROUP BY epoch")))

    assert await three.serves()
    leader = await DeviatingLeader.all_ready(three, monkeypatch)
    await leader.uses()
    three.says.clear()
    leader.tells("b", 1, USED, decision=True)
    leader.tells("c", 1, USED, decision=True)
    await settle(three, "b", "c")
    assert epochs(three, "abc") == [2, 2, 2] and await three.serves()
    first = {party: three[party].key for party in PARTIES}
    assert set(stored("b")) == set(stored("c")) == {1, 2}
    await back(three, "b")
    await back(three, "c")
    await settle(three, "b")
    await back(three, "a", None)
    three.says.clear()
    await settle(three, *PARTIES, *PARTIES)
    assert epochs(three, "abc") == [1, 1, 1] and [three.files(party) for party in PARTIES] == [[""]] * 3
    assert set(stored("b")) == set(stored("c")) == {1}
    assert await three.serves()
    assert await three.refresh("c") == 2
    await settle(three, *PARTIES, *PARTIES)
    assert all(three[party].epoch == 2 and three[party].key != first[party] for party in PARTIES)
    assert set(stored("b")) | set(stored("c")) <= {2}
    assert await three.serves()
    assert {where[2] for where in taken} == {1, 2} and nothing_twice(taken)


async def test_what_a_machine_forgot_splits_the_pair_and_both_going_back_mends_it(
    three: Refreshables, monkeypatch: pytest.MonkeyPatch
) -> None:
    await split_by_a_loss(three, monkeypatch)
    for _ in range(3):
        await settle(three, "b", "c")
    assert epochs(three) == [2, 1]
    with pytest.raises(VeilmatchError):
        await three.serves("bc")
    await back(three, "c")
    await back(three, "b")
    assert epochs(three) == [1, 1] and await three.serves("bc")


async def test_who_waits_for_a_decision_does_not_follow_it_any_more_once_it_has_gone_back(
    three: Refreshables, monkeypatch: pytest.MonkeyPatch
) -> None:
    leader = await left_waiting(three, monkeypatch)
    for party in ("b", "c"):
        report = await back(three, party)  # type: ignore[arg-type]
        assert "stays in epoch 1" in report.will and report.state.epoch == 1
    await three.start("a")
    await three.found_again()
    three.settling["a"].cancel()
    leader.tells("b", 2, USED, decision=True)
    leader.tells("c", 2, USED, decision=True)
    await settle(three, "b", "c", "b", "c")
    assert epochs(three) == [1, 1] and await three.serves("bc")
    assert three.files("b") == three.files("c") == ["", ".next"]


async def test_the_third_one_comes_back_too_and_all_three_begin_afresh(
    three: Refreshables, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is honest after all: it had decided, and was down before it could say so."""
    leader = await DeviatingLeader.all_ready(three, monkeypatch)
    await leader.uses()
    await three.stop("a")
    for party in ("b", "c"):
        await back(three, party)  # type: ignore[arg-type]
    await three.start("a")
    await three.found_again()
    await settle(three, *PARTIES)
    assert epochs(three, "abc") == [2, 1, 1]
    with pytest.raises(UnavailableError):
        await three.refresh("b")
    assert (await back(three, "a", None)).state.epoch == 1
    await settle(three, *PARTIES, *PARTIES)
    assert [three.files(party) for party in PARTIES] == [[""]] * 3
    assert await three.serves()
    assert await three.refresh("b") == 2
    await settle(three, *PARTIES, *PARTIES)
    assert epochs(three, "abc") == [2, 2, 2] and await three.serves()


STEPS = [f"{when} {step}" for step in ("ask back", "go back") for when in ("before", "after")]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("party", ["b", "c"])
async def test_killed_in_the_middle_of_it_both_still_end_in_the_old_epoch(
    three: Refreshables, party: Party, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await led_where_nobody_deals(three, monkeypatch)
    three.hook = lambda who, what: three.die(party) if (who, what) == (party, step) else None
    for asked in ("b", "c"):
        with suppress(asyncio.CancelledError, UnavailableError):
            await back(three, asked)  # type: ignore[arg-type]
    if party not in three.dead:
        with suppress(asyncio.CancelledError):
            await settle(three, party)
    assert three.dead == {party}
    three.hook = lambda who, what: None
    await three.revive()
    # Whoever had not noted it yet is asked again; once both have, it is finished by itself.
    for asked in ("b", "c"):
        if not three.hands[asked].position.going_back:  # type: ignore[index]
            await back(three, asked)  # type: ignore[arg-type]
    await settle(three, "b", "c", "b")
    assert epochs(three) == [1, 1] and await three.serves("bc")
    assert three.files("b") == three.files("c") == ["", ".next"]


# -- what it refuses ------------------------------------------------------------------------------------


async def test_a_look_changes_nothing(three: Refreshables, monkeypatch: pytest.MonkeyPatch) -> None:
    await led_where_nobody_deals(three, monkeypatch)
    before = audited(three, "b")
    report = await three.refreshers["b"].recover("a", go=False)
    assert "goes back from epoch 2 to epoch 1" in report.will and not report.refused
    assert not report.state.going_back and audited(three, "b") == before
    refused_one = await three.refreshers["b"].recover(None, go=False)
    assert not refused_one.will and "keyholder-a cannot be reached" in refused_one.refused
    assert refused_one.peers[0].counts


async def test_it_is_refused_while_a_peer_that_counts_cannot_be_reached(
    three: Refreshables, monkeypatch: pytest.MonkeyPatch
) -> None:
    await led_where_nobody_deals(three, monkeypatch)
    with pytest.raises(UnavailableError, match="keyholder-a cannot be reached") as caught:
        await back(three, "b", None)
    assert caught.value.needed == "its word, or --without keyholder-a"
    with pytest.raises(UnavailableError, match="keyholder-a cannot be reached"):
        await back(three, "b", "c")


async def test_it_is_refused_where_nothing_is_unfinished(three: Refreshables) -> None:
    for party in PARTIES:
        with pytest.raises(KeyMismatchError, match="nothing to go back from"):
            await back(three, party, None)
    assert await three.refresh() == 2 and await three.settled() == {2}
    with pytest.raises(KeyMismatchError, match="nothing to go back from"):
        await back(three, "b", None)


async def test_it_is_refused_where_it_would_lose_the_share_that_a_peer_works_with(
    three: Refreshables, monkeypatch: pytest.MonkeyPatch
) -> None:
    """c has deleted its old share. That b still has one is no reason to leave c alone."""
    leader = await DeviatingLeader.all_ready(three, monkeypatch)
    await leader.uses()
    three.says.clear()
    await settle(three, "b", "c", "c")
    assert (three.files("b"), three.files("c")) == (["", ".old"], [""])
    for without in (None, "a"):
        with pytest.raises(KeyMismatchError, match=r"could lose the only share that works: .* has deleted its old one"):
            await back(three, "b", without)  # type: ignore[arg-type]
    assert not three.hands["b"].position.going_back
    await settle(three, "b", "a")
    assert three.files("b") == [""] and await three.serves()


async def test_what_cannot_be_noted_is_not_done(three: Refreshables, monkeypatch: pytest.MonkeyPatch) -> None:
    await led_where_nobody_deals(three, monkeypatch)

    def full(*_: Any) -> None:
        raise AuditLogError("the audit log cannot be written, so nothing is served", party="keyholder-b")

    monkeypatch.setattr(three["b"].auditor, "refresh", full)
    with pytest.raises(AuditLogError):
        await back(three, "b")
    assert not three.hands["b"].position.going_back


@pytest.mark.parametrize("caller", NAMES)
async def test_a_key_holder_goes_back_for_its_own_operator_alone(three: Refreshables, caller: str) -> None:
    asked = rpc.KeyHolderRefreshStub(three.channel(caller, "b"))
    request = pb.RecoverRequest(key_id=ceremony().public_key.key_id, go=True)
    error = await refused(asked.Recover(request, timeout=20.0), "b")
    assert isinstance(error, KeyMismatchError if caller == "keyholder-b" else PartyRefusedError)
    if caller == "keyholder-b":
        request.without = "keyholder-b"
        assert isinstance(await refused(asked.Recover(request, timeout=20.0), "b"), InvalidInputError)


OLD, NEW = Word(is_new=False, stage=Stage.NONE), Word(is_new=True, stage=Stage.USED)
LEADS, GONE = Word(is_new=False, stage=Stage.READY), Word(is_new=True, stage=Stage.NONE)
USES, WAITS = Position(Stage.USED, "a", decided=True), Position(Stage.READY, "a")


@pytest.mark.parametrize(
    ("at", "a", "c", "without", "says"),
    [
        (USES, Found(1, OLD), Found(1, OLD), None, "goes back"),
        (USES, Found(1, OLD), Found(2, NEW), None, "goes back"),
        (USES, Found(2, NEW), Found(2, NEW), None, "nothing to go back from: the others are in its epoch"),
        (USES, Found(2, NEW), Found(2, NEW), "a", "goes back"),
        (USES, Found(2, GONE), Found(1, OLD), None, "could lose"),
        (USES, Found(2, GONE), Found(1, OLD), "a", "goes back"),
        (USES, Found(7, None), Found(1, OLD), None, "keyholder-a has shares of another epoch"),
        (USES, Found(None, None, "down"), Found(1, OLD), None, "keyholder-a cannot be reached"),
        (WAITS, Found(1, LEADS), Found(1, LEADS), None, "under way"),
        (WAITS, Found(1, LEADS), Found(1, LEADS), "a", "stays in epoch 1"),
        (WAITS, Found(2, NEW), Found(1, LEADS), None, "stays in epoch 1"),
        (WAITS, Found(2, GONE), Found(1, LEADS), None, "could lose"),
        (Position(Stage.PREPARING, "a", under_way=True), Found(1, LEADS), Found(1, OLD), "a", "under way"),
        (Position(Stage.NONE), Found(2, NEW), Found(1, OLD), None, "expected the command at keyholder-a"),
    ],
)
def test_what_is_done_follows_from_what_is_found(
    at: Position, a: Found, c: Found, without: Party | None, says: str
) -> None:
    try:
        said = plan("b", at, 2, {"a": a, "c": c}, without)
    except VeilmatchError as error:
        said = str(error)
    assert says in said
