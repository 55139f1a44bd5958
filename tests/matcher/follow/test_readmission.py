"""A matcher that was restored from an old copy takes part again by itself, and not before it has met both others."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.matcher.follow.connected import Network
from tests.matcher.follow.matchers import NAME, History, Matcher, until
from tests.matcher.galleries import KEY_ID, Model, accept, mutation, signers
from veilmatch.crypto.errors import UnavailableError, VeilmatchError
from veilmatch.crypto.keys.parties import PARTIES, Party
from veilmatch.server.config import MatcherSettings
from veilmatch.server.matcher.agreement import sitting
from veilmatch.server.matcher.agreement.acceptor import Accepted, GalleryState
from veilmatch.server.matcher.agreement.ballots import Ballot
from veilmatch.server.matcher.follow.readmission import is_to_meet
from veilmatch.server.matcher.follow.standing import BEHIND, Standing, _ask, _own

ADA = mutation(1, added=[(0, 0, "ada")])


async def made(tmp_path: Path, restored: Party, filled: str = "ab") -> dict[Party, Matcher]:
    """Return three matchers, one of which was restored, empty, while the others hold two changes."""
    found: dict[Party, Matcher] = {}
    for party in PARTIES:
        found[party] = matcher = Matcher(party, tmp_path / party)
        if party == restored:
            matcher.store.mark_restored(NAME, [one for one in PARTIES if one != party])
        elif party in filled:
            history = History(matcher.store)
            history.add((0, 0, "ada"))
            history.add((0, 1, "bela"))
        await matcher.load()
    return found


def are_level(one: Matcher, other: Matcher) -> bool:
    """And done with taking in what was missed: until then a change is refused, and may be asked for again."""
    settled = not (one.gallery.lock.is_preparing or other.gallery.lock.is_preparing)
    return settled and one.gallery.state.sequence == other.gallery.state.sequence


def no_errors(outcomes: list[bytes | VeilmatchError]) -> bool:
    return not any(isinstance(outcome, VeilmatchError) for outcome in outcomes)


@pytest.mark.parametrize("restored", PARTIES)
async def test_it_takes_part_again_within_seconds(tmp_path: Path, restored: Party) -> None:
    """And it has promised whatever the others know that it has: c, the one of "ab" that goes on, knows most."""
    all_three = await made(tmp_path, restored, "".join(one for one in PARTIES if one != restored))
    others = [all_three[party] for party in PARTIES if party != restored]
    high = Ballot(7, "".join(sorted(restored + others[1].party)))
    others[1].store.promise(NAME, high)
    await others[1].load()
    network, one = Network(tmp_path), all_three[restored]
    async with AsyncExitStack() as stack:
        for matcher in all_three.values():
            await stack.enter_async_context(network.up(matcher))
        await until(lambda: not one.gallery.unmet, 20.0)
        assert one.store.unmet(NAME) == set()
        assert one.gallery.state.promised == one.store.state(NAME).promised >= high
        for number, other in enumerate(others):
            await until(lambda other=other: are_level(one, other))  # type: ignore[misc]
            assert no_errors(await network.change(one, other, mutation(10 + number, added=[(0, 5 + number, "new")])))


async def test_with_one_other_up_it_stays_out_and_says_so(tmp_path: Path) -> None:
    all_three = await made(tmp_path, "c")
    a, b, c = all_three.values()
    network = Network(tmp_path)
    async with network.up(c), network.up(a):
        await until(lambda: c.gallery.unmet == {"b"}, 8.0)
        await asyncio.sleep(1.5)
        assert c.gallery.unmet == c.store.unmet(NAME) == {"b"}
        for outcome in await network.change(a, c, mutation(10, added=[(0, 5, "new")])):
            assert isinstance(outcome, UnavailableError) and outcome.party == "matcher-c", outcome
        assert a.gallery.state.sequence == c.gallery.state.sequence == 2
        # At c itself, and as a hears it.
        settings = MatcherSettings.model_construct(tls=network.tls["a"], peer_timeout_s=5.0)
        heard = await _ask("c", f"127.0.0.1:{network.ports['c']}", settings, {KEY_ID: signers}, [(NAME, KEY_ID)])
        assert not isinstance(heard, VeilmatchError)
        for stated in (_own(c.data_dir, NAME, KEY_ID), heard[NAME, KEY_ID]):
            assert not isinstance(stated, VeilmatchError)
            assert (stated.restored, list(stated.unmet)) == (True, ["b"])
            standing = Standing(NAME, KEY_ID, {"c": stated})
            assert standing.status == BEHIND
            assert standing.document()["matchers"]["c"]["unmet"] == ["b"]
        # It was restored again meanwhile, say: b comes back, and it goes on from there.
        async with network.up(b):
            await until(lambda: not c.gallery.unmet, 8.0)
            assert no_errors(await network.change(a, c, mutation(10, added=[(0, 5, "new")])))


async def test_it_finishes_nothing_before_it_has_met_both(tmp_path: Path) -> None:
    """a has accepted bela in an early ballot, b has committed cora with c in a later one, of which c has forgotten."""
    a, b, c = (Matcher(party, tmp_path / party) for party in PARTIES)
    bela, cora = mutation(2, added=[(0, 1, "bela")]), mutation(3, added=[(0, 1, "cora")])
    for matcher in (a, b):
        History(matcher.store).add((0, 0, "ada"))
    accept(a.store, NAME, bela, Ballot(2, "ac"))
    later = History(b.store)
    later.model.commit(ADA)
    accept(b.store, NAME, cora, Ballot(3, "bc"))
    c.store.mark_restored(NAME, ["a", "b"])
    for matcher in (a, b, c):
        await matcher.load()
    network = Network(tmp_path)
    async with network.up(a), network.up(c):
        await until(lambda: c.gallery.state.sequence == 1)
        for outcome in await network.change(a, c, mutation(10, added=[(0, 5, "new")])):
            assert isinstance(outcome, UnavailableError) and outcome.party == "matcher-c", outcome
        await asyncio.sleep(1.0)
        assert c.store.state(NAME).accepted is None and c.gallery.state.sequence == 1
        assert c.gallery.unmet == {"a", "b"}
        async with network.up(b):
            # a and b finish what was open, between them, and no device has asked for it.
            await until(lambda: not c.gallery.unmet, 15.0)
            await until(lambda: {one.gallery.state.sequence for one in (a, b, c)} == {2})
    expected = Model(NAME)
    expected.commit(ADA)
    expected.commit(cora)
    for matcher in (a, b, c):
        expected.check(matcher.store)


async def test_one_that_says_it_was_restored_for_ever_holds_no_gallery_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """b answers nothing in any meeting: a holds its gallery for that once, and not again and again."""
    all_three = await made(tmp_path, "b", "ac")
    a, b, _ = all_three.values()
    network, held = Network(tmp_path), []

    async def silent(self: sitting.Sitting, wire: object, *, alone: bool = True) -> None:
        held.append(self.me)
        await asyncio.sleep(0.5)
        raise UnavailableError("nothing came", party="matcher-b")

    monkeypatch.setattr(sitting.Sitting, "hear", silent)
    async with network.up(a), network.up(b):
        await until(lambda: "a" in held, 8.0)
        await asyncio.sleep(5.0)
    assert held.count("a") == 1


def test_who_meets_whom() -> None:
    """Unless one of the three was restored nobody; two honest ones if that keeps something open from being settled."""
    level = GalleryState(3, bytes(32))
    behind, is_open = GalleryState(2, bytes(32)), GalleryState(3, bytes(32), accepted=Accepted(Ballot(1, "ab"), b"x"))

    def meets(state: GalleryState, heard: Any, unmet: Any, mine: set[str] | None = None) -> bool:
        return is_to_meet(SimpleNamespace(state=state, unmet=mine or set()), "a", "b", heard, unmet)  # type: ignore[arg-type]

    assert not meets(level, {"b": level}, {"b": set(), "c": set()})
    assert not meets(level, {"b": is_open}, {"b": set(), "c": set()})
    assert meets(level, {"b": level}, {"b": {"a"}})
    assert not meets(level, {"b": level}, {"b": {"c"}})
    assert not meets(level, {"b": behind}, {"b": {"a"}})
    assert meets(level, {"b": level}, {}, {"b"})
    assert not meets(level, {"b": level}, {}, {"c"})
    assert not meets(level, {}, {}, {"b"})
    assert meets(level, {"b": is_open}, {"b": set(), "c": {"a", "b"}})
    assert meets(is_open, {"b": level}, {"c": {"a", "b"}})
    assert not meets(is_open, {"b": level}, {"b": {"c"}, "c": {"a", "b"}})
