"""A leader that tells its peers different states of one refresh: the honest pair ends in one epoch, and serves.

Every order of everything, without daemons: test_settling.py.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from tests.keyholder.refresh.leaders import NONE, READY, USED, DeviatingLeader
from tests.keyholder.refresh.test_refresh import ALL_STEPS
from tests.keyholder.refreshables import Refreshables, refreshables
from tests.keyholder.trio import stocked
from veilmatch.crypto.errors import KeyMismatchError, UnavailableError, VeilmatchError
from veilmatch.crypto.keys.parties import PARTIES, Party
from veilmatch.protos.v1 import keyholder_pb2 as pb
from veilmatch.server.keyholder.audit.check import entries_of
from veilmatch.server.keyholder.refresh import refresh as refresh_module
from veilmatch.server.keyholder.refresh.settling import Position, Stage, Step, Word, next_step

LIES = (NONE, READY, USED, pb.REFRESH_STAGE_PREPARING, pb.REFRESH_STAGE_WITHDRAWN)


@pytest.fixture
async def three(tmp_path: Path) -> AsyncIterator[Refreshables]:
    async with refreshables(await stocked(tmp_path / "trio")) as made:
        yield made


async def settle(three: Refreshables, *parties: Party) -> None:
    for party in parties:
        await three.refreshers[party].settle()


def audited(three: Refreshables, party: Party) -> list[str]:
    return [e.fields["step"] for e in entries_of(three.data_dir(party)) if e.event == "refresh"]


async def tell_one_that_it_was_given_up_and_the_other_that_it_was_used(
    three: Refreshables, leader: DeviatingLeader
) -> None:
    leader.tells("b", 1, READY)
    leader.tells("c", 1, NONE)
    await settle(three, "c")
    leader.tells("b", 2, USED, decision=True)
    await settle(three, "b")


async def test_a_leader_that_tells_its_peers_different_states_does_not_split_them(
    three: Refreshables, monkeypatch: pytest.MonkeyPatch
) -> None:
    leader = await DeviatingLeader.all_ready(three, monkeypatch)
    await leader.uses()
    await tell_one_that_it_was_given_up_and_the_other_that_it_was_used(three, leader)
    assert three.files("b") == ["", ".old"] and three.files("c") == ["", ".next"]
    await settle(three, "c")
    assert {three[party].epoch for party in "bc"} == {2}
    assert await three.serves("bc")
    assert audited(three, "c") == ["prepared", "contradicted", "used"] and audited(three, "b") == ["prepared", "used"]
    # And for good: whatever it says now, and over a restart of both.
    for said in ((1, NONE), (1, READY), (2, NONE)):
        leader.tells("b", *said)
        leader.tells("c", *said)
        await settle(three, "b", "c")
    await three.stop("b", "c")
    await three.start("b", "c")
    await three.found_again()
    assert {three[party].epoch for party in "bc"} == {2} and await three.serves("bc")


async def test_the_one_that_was_told_the_decision_may_die_before_it_tells_the_other(
    three: Refreshables, monkeypatch: pytest.MonkeyPatch
) -> None:
    leader = await DeviatingLeader.all_ready(three, monkeypatch)
    await leader.uses()
    await tell_one_that_it_was_given_up_and_the_other_that_it_was_used(three, leader)
    await three.stop("b")
    await settle(three, "c")
    assert three.files("c") == ["", ".next"]
    await three.start("b")
    await three.found_again()
    await settle(three, "c")
    assert {three[party].epoch for party in "bc"} == {2} and await three.serves("bc")


async def test_the_word_of_the_leader_without_its_decision_brings_no_key_into_use(
    three: Refreshables, monkeypatch: pytest.MonkeyPatch
) -> None:
    leader = await DeviatingLeader.all_ready(three, monkeypatch)
    leader.decision = bytes(32)
    leader.tells("b", 2, USED, decision=True)
    leader.tells("c", 2, USED)
    await settle(three, "b", "c")
    assert three.files("b") == three.files("c") == ["", ".next"]
    assert await three.serves("bc")


async def test_both_told_that_it_was_given_up_stay_in_the_old_epoch_whatever_comes_later(
    three: Refreshables, monkeypatch: pytest.MonkeyPatch
) -> None:
    leader = await DeviatingLeader.all_ready(three, monkeypatch)
    leader.tells("b", 1, NONE)
    leader.tells("c", 1, NONE)
    await settle(three, "b", "c")
    leader.tells("b", 2, USED, decision=True)
    leader.tells("c", 2, USED, decision=True)
    for _ in range(3):
        await settle(three, "b", "c")
    assert three.files("b") == three.files("c") == [""]
    assert {three[party].epoch for party in "bc"} == {1} and await three.serves("bc")
    assert "contradicted" in audited(three, "b") or "contradicted" in audited(three, "c")


async def test_a_leader_that_is_silent_for_ever_does_not_hold_up_the_others(
    three: Refreshables, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await three.serves("bc")
    await DeviatingLeader.all_ready(three, monkeypatch)
    await three.stop("a")
    await settle(three, "b", "c")
    assert three.files("b") == three.files("c") == ["", ".next"]
    assert await three.serves("bc")


@pytest.mark.parametrize("seed", range(6))
async def test_random_lies_and_deaths_end_in_one_epoch_with_shares_that_fit(
    three: Refreshables, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def difference() -> int:
        b, c = (three[party].key.share("bc") for party in PARTIES[1:])
        return int(b._exponent - c._exponent)

    async def settle_or_die(party: Party) -> None:
        with suppress(asyncio.CancelledError, VeilmatchError):
            await settle(three, party)

    rng, before = random.Random(seed), difference()
    leader = await DeviatingLeader.all_ready(three, monkeypatch)
    for _ in range(10):
        for party in ("b", "c"):
            if rng.random() < 0.7:
                leader.tells(party, rng.choice((1, 1, 2)), rng.choice(LIES), decision=rng.random() < 0.3)
        deadly = {(rng.choice("bc"), rng.choice(ALL_STEPS)) for _ in range(2)}

        def strike(who: Party, step: str, deadly: set[tuple[str, str]] = deadly) -> None:
            if (who, step) in deadly and who not in three.dead:
                three.die(who)

        three.hook = strike
        await asyncio.gather(settle_or_die("b"), settle_or_die("c"))
        three.hook = lambda who, what: None
        if three.dead:
            await three.revive()
            for party in ("b", "c"):
                three.settling[party].cancel()
    await settle(three, "b", "c", "b", "c")
    assert three["b"].epoch == three["c"].epoch and difference() == before


def as_it_was_before(me: Party, at: Position, words: Mapping[Party, Word | None]) -> Step:
    """A next key is used once a peer says that it uses its own, and deleted once both deny that and lead nothing."""
    said = [words.get(peer) for peer in PARTIES if peer != me]
    if at.stage not in (Stage.READY, Stage.WITHDRAWN):
        return next_step(me, at, words)
    if any(word is not None and word.is_new for word in said):
        return Step.USE
    leads = words.get(at.leader) if at.leader else None
    complete = all(word is not None for word in said) and (leads is None or leads.stands)
    return Step.DISCARD if complete else Step.WAIT


async def test_without_that_rule_they_are_split_and_going_back_mends_it(
    three: Refreshables, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await three.serves("bc")
    monkeypatch.setattr(refresh_module, "next_step", as_it_was_before)
    leader = await DeviatingLeader.all_ready(three, monkeypatch)
    await leader.uses()
    await tell_one_that_it_was_given_up_and_the_other_that_it_was_used(three, leader)
    for _ in range(3):
        await settle(three, "b", "c")
    assert (three.files("b"), three.files("c")) == (["", ".old"], [""])
    with pytest.raises((UnavailableError, KeyMismatchError)):
        await three.serves("bc")
    monkeypatch.setattr(refresh_module, "next_step", next_step)
    await settle(three, "b", "c")
    assert {three[party].epoch for party in "bc"} == {1, 2}
    report = await three.refreshers["b"].recover("a", go=True)
    assert report.state.epoch == 1 and three.files("b") == ["", ".next"]
    # On the stock that they had: the leader deals nothing any more.
    await three.stop("a")
    assert await three.serves("bc")
