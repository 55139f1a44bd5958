"""A key is on all three disks or on none, wherever one of them is killed; and what people are told to do then.

The end of a ceremony alone, with a key that was made before: the session itself is test_joining.py's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.ceremony.three import all_join, prepared, settings_of
from tests.installation.making import ceremony
from veilmatch.crypto.ceremony.joint.steps import JointKey
from veilmatch.crypto.digests import digest
from veilmatch.crypto.errors import IntegrityError, ProtocolError, UnavailableError, VeilmatchError
from veilmatch.crypto.keys.parties import PARTIES, Party
from veilmatch.server.ceremony import joining
from veilmatch.server.ceremony.joining import Joined
from veilmatch.server.ceremony.keeping import Decision, Keeper, decide
from veilmatch.server.ceremony.links import Links
from veilmatch.server.ceremony.meeting import Greeting, Standing
from veilmatch.server.ceremony.record import FILE, CeremonyRecord
from veilmatch.server.ceremony.settings import CeremonySettings


class Killed(BaseException):
    """As by kill -9: nothing that would clean up runs on the disk after it."""


@pytest.fixture
def made_before(monkeypatch: pytest.MonkeyPatch) -> list[Party]:
    """No session is held: all three get the keys of a dealer. Returns who has begun one."""
    held: list[Party] = []

    def session(party: Party, *_: object) -> Any:
        number = held.count(party)
        return SimpleNamespace(party=party, name=digest("name", number), told=digest("told", number))

    async def hold(session: Any, *_: object) -> JointKey:
        held.append(session.party)
        key = ceremony().keys[PARTIES.index(session.party)]
        return JointKey(ceremony().public_key, key)

    monkeypatch.setattr(joining, "CeremonySession", session)
    monkeypatch.setattr(joining, "hold", hold)
    return held


#: Where a key holder may be killed, from the moment that it has a key: before and after each word and each write.
PLACES = (
    "before made", "after made", "before write_pending", "after write_pending", "before stored", "after stored",
    "before keep", "after keep", "before kept", "after kept",
)  # fmt: skip


def kill_at(monkeypatch: pytest.MonkeyPatch, who: Party, place: str) -> None:
    """Have one key holder killed there, once."""
    when, what = place.split()

    def killing(original: Callable[..., Any], is_at: Callable[..., bool]) -> Callable[..., Any]:
        if asyncio.iscoroutinefunction(original):

            async def said(self: Any, *words: Any, **more: Any) -> Any:
                here = is_at(self, *words)
                if here and when == "before":
                    raise Killed
                found = await original(self, *words, **more)
                if here:
                    raise Killed
                return found

            return said

        def written(self: Any, *words: Any) -> Any:
            here = is_at(self, *words)
            if here and when == "before":
                raise Killed
            found = original(self, *words)
            if here:
                raise Killed
            return found

        return written

    if what in ("write_pending", "keep"):
        at: Callable[..., bool] = lambda keeper, *_: keeper.installation.parent.name == who  # noqa: E731
        monkeypatch.setattr(Keeper, what, killing(getattr(Keeper, what), at))
    else:
        of = lambda links, content, *_: content == what and set(links.peers) == set(PARTIES) - {who}  # noqa: E731
        monkeypatch.setattr(Links, "swapped", killing(Links.swapped, of))


def found(settings: CeremonySettings) -> tuple[Standing, bytes]:
    greeting = Keeper(settings.installation, settings.pending).greeting(b"")
    return greeting.standing, greeting.session


@pytest.mark.parametrize("place", PLACES)
async def test_killed_anywhere_all_have_the_same_key_after_beginning_again(
    place: str, made_before: list[Party], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(prepared(tmp_path, patience_s=20.0))
    who = PARTIES[PLACES.index(place) % 3]
    with monkeypatch.context() as killed:
        kill_at(killed, who, place)
        outcomes = await all_join(settings)
    assert isinstance(outcomes[who], Killed), outcomes
    left = {party: found(one) for party, one in settings.items()}
    standings = {standing for standing, _ in left.values()}
    # If one has kept it, all have it.
    assert Standing.KEPT not in standings or Standing.NOTHING not in standings
    for party, outcome in outcomes.items():
        if party == who:
            continue
        if left[party][0] is Standing.PENDING:
            assert isinstance(outcome, VeilmatchError) and "run the same command again" in (outcome.hint or "")
        elif left[party][0] is Standing.KEPT:
            assert isinstance(outcome, Joined)
        else:
            assert isinstance(outcome, UnavailableError)
    sessions = made_before.count("a")
    again = await all_join(settings)
    assert all(isinstance(one, Joined) and not one.unconfirmed for one in again.values()), again
    records = {CeremonyRecord.read(one.installation / FILE).encode() for one in settings.values()}
    assert len(records) == 1 and not any(one.pending.exists() for one in settings.values())
    # What all three had is finished, and what not all three had was made anew.
    assert made_before.count("a") == sessions + (Standing.NOTHING in standings)


async def test_a_write_that_was_cut_off_leaves_nothing_that_is_taken_for_a_key(
    made_before: list[Party], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(prepared(tmp_path, patience_s=20.0))
    left = settings["b"].pending.with_name(f".{settings['b'].pending.name}.abc")
    (left / "organisation-b").mkdir(parents=True)
    assert found(settings["b"])[0] is Standing.NOTHING
    outcomes = await all_join(settings)
    assert all(isinstance(one, Joined) for one in outcomes.values())
    assert not left.exists()


# -- what is decided -----------------------------------------------------------------------------------------


def test_every_state_that_can_be_is_decided_alike_and_no_kept_key_is_lost() -> None:
    states = [(Standing.NOTHING, b"")] + [(s, x) for s in (Standing.PENDING, Standing.KEPT) for x in (b"1", b"2")]
    counts = {Decision.HOLD: 0, Decision.FINISH: 0, None: 0}
    for three in product(states, repeat=3):
        greetings = {party: Greeting(b"", *state) for party, state in zip(PARTIES, three, strict=True)}
        kept = {session for standing, session in three if standing is Standing.KEPT}
        try:
            decision = decide(greetings)
        except IntegrityError as error:
            counts[None] += 1
            assert kept and error.hint
            continue
        counts[decision] += 1
        if decision is Decision.FINISH:
            assert len({session for _, session in three}) == 1 and three[0][1]
        else:
            assert not kept
    assert all(counts.values()) and sum(counts.values()) == 125


async def test_who_tells_two_that_it_has_different_things_is_found_out(
    made_before: list[Party], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(prepared(tmp_path))
    honest = Greeting.to_wire

    def told(self: Greeting) -> Any:
        message = honest(self)
        lies[0] += 1
        if lies[0] == 1:
            message.greeting.standing, message.greeting.session = Standing.PENDING.value, bytes(32)
        return message

    lies = [0]
    monkeypatch.setattr(Greeting, "to_wire", told)
    outcomes = await all_join(settings)
    assert any(isinstance(one, ProtocolError) for one in outcomes.values())
    assert not any(isinstance(one, Joined) for one in outcomes.values()) and made_before == []


def test_a_lost_installation_is_said(tmp_path: Path) -> None:
    greetings = {
        party: Greeting(b"", Standing.KEPT, b"1") if party != "b" else Greeting(b"", Standing.NOTHING)
        for party in PARTIES
    }
    with pytest.raises(IntegrityError, match="keyholder-a has kept a key that keyholder-b does not have"):
        decide(greetings)
