"""New shares are in use at all three or at none, wherever one of them is killed; and what is decided then."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from tests.crypto.ceremony.test_renewal import RenewalTable
from tests.installation.making import PASSPHRASE, ceremony
from tests.recovery.three import Three
from veilmatch.crypto.ceremony.joint.renewal import Renewal
from veilmatch.crypto.digests import digest
from veilmatch.crypto.errors import ConfigurationError, IntegrityError, KeyMismatchError, StorageError, UnavailableError
from veilmatch.crypto.keys.parties import PAIRS, PARTIES, Pair, Party, other_party
from veilmatch.crypto.keys.shares import KeyHolderKey
from veilmatch.crypto.secret_access import SECRET_ACCESS
from veilmatch.server.ceremony.links import Links
from veilmatch.server.ceremony.meeting import Standing
from veilmatch.server.commands import keyholder as commands
from veilmatch.server.installation.plan import config_of
from veilmatch.server.installation.sealed import reseal, unfinished_files
from veilmatch.server.recovery import recovering
from veilmatch.server.recovery.greeting import Decision, RecoveryGreeting, calls_of, decide
from veilmatch.server.recovery.keeping import Keeper
from veilmatch.server.recovery.recovering import Recovered, keeper_of


class Killed(BaseException):
    """As by kill -9: nothing that would clean up runs on the disk after it."""


@pytest.fixture
def renewed(monkeypatch: pytest.MonkeyPatch) -> list[Party]:
    """No session is held between processes: new shares are made at one table. Returns who has begun one."""
    held: list[Party] = []
    made: dict[tuple[int, int], dict[Party, KeyHolderKey]] = {}
    before = dict(zip(PARTIES, ceremony().keys, strict=True))

    def session(party: Party, renewal: Renewal, key: KeyHolderKey | None, reached: Callable[[str, int], None]) -> Any:
        number = held.count(party)
        held.append(party)
        at = number, renewal.epoch
        if at not in made:
            keys = {**before} if renewal.epoch == 3 else made[number - 1, renewal.epoch - 2]
            made[at] = Tables(ceremony().public_key.parameters, lost=renewal.lost, before=keys).run().made
        assert (key is None) == (party == renewal.lost)
        name = digest("name", *at)
        return SimpleNamespace(party=party, name=name, told=digest("told", name), result=made[at][party])

    async def hold(session: Any, *_: object) -> KeyHolderKey:
        await asyncio.sleep(0)
        return session.result  # type: ignore[no-any-return]

    monkeypatch.setattr(recovering, "RenewalSession", session)
    monkeypatch.setattr(recovering, "hold", hold)
    return held


class Tables(RenewalTable):
    """Of the key of these installations."""

    def __post_init__(self) -> None:
        from veilmatch.crypto.ceremony.joint.renewal import RenewalSession, renewed_epoch

        renewal = Renewal(ceremony().public_key, renewed_epoch(self.before["a"].epoch), self.lost, bytes(32))
        self.sessions = {p: RenewalSession(p, renewal, None if p == self.lost else self.before[p]) for p in PARTIES}


#: Where a key holder may be killed: before and after each word and each change of its files.
PLACES = (
    "before made", "after made", "before write_pending", "after write_pending", "before stored", "after stored",
    "before keep", "after _take_into_use", "after keep", "before kept", "after kept", "after settle",
)  # fmt: skip


def kill_at(monkeypatch: pytest.MonkeyPatch, who: Party, place: str) -> None:
    """Have one key holder killed there."""
    when, what = place.split()
    if hasattr(Keeper, what):
        original: Any = getattr(Keeper, what)

        def written(self: Keeper, *words: Any) -> Any:
            if self._party == who and when == "before":
                raise Killed
            found = original(self, *words)
            if self._party == who:
                raise Killed
            return found

        monkeypatch.setattr(Keeper, what, written)
        return
    swapped = Links.swapped

    async def said(self: Links, content: str, *words: Any) -> Any:
        here = content == what and set(self.peers) == set(PARTIES) - {who}
        if here and when == "before":
            raise Killed
        found = await swapped(self, content, *words)
        if here:
            raise Killed
        return found

    monkeypatch.setattr(Links, "swapped", said)


def fits(plus: KeyHolderKey, minus: KeyHolderKey, pair: Pair) -> bool:
    """Whether two keys are shares of the installation's o."""

    def exponent(key: KeyHolderKey) -> int:
        return int(key.share(pair).stored_exponent(SECRET_ACCESS))

    first, second = ceremony().keys[:2]
    return exponent(plus) - exponent(minus) == int(first.share("ab").stored_exponent(SECRET_ACCESS)) - int(
        second.share("ab").stored_exponent(SECRET_ACCESS)
    )


def both_can_serve(three: Three, pair: Pair) -> bool:
    """Whether the two have, on their disks, shares of one epoch that fit."""
    plus, minus = (next(p for p in PARTIES if p == letter) for letter in pair)
    keys = [
        {key.epoch: key for suffix in ("", ".recovered", ".replaced") if (key := three.key(party, suffix))}
        for party in (plus, minus)
    ]
    return any(fits(keys[0][epoch], keys[1][epoch], pair) for epoch in keys[0].keys() & keys[1].keys())


@pytest.mark.parametrize("place", PLACES)
async def test_killed_anywhere_all_three_have_new_shares_after_beginning_again(
    place: str, renewed: list[Party], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    three = Three.installed(tmp_path / "installation", "c")
    who = PARTIES[PLACES.index(place) % 3]
    with monkeypatch.context() as killed:
        kill_at(killed, who, place)
        outcomes = await three.recover()
    assert isinstance(outcomes[who], Killed), outcomes
    standings = {party: keeper_of(three.settings(party), three.public).seen for party in PARTIES}
    in_use = {party for party, one in standings.items() if one in (Standing.KEPT, Standing.SETTLED)}
    # If one uses its new share, all three have theirs; and those that are left can serve whatever happens.
    assert not in_use or Standing.NOTHING not in standings.values()
    assert both_can_serve(three, "ab")
    for party, outcome in outcomes.items():
        assert party == who or isinstance(outcome, Recovered) == (party in in_use), (party, outcome)
    sessions = renewed.count("a")
    again = await three.recover()
    assert all(isinstance(one, Recovered) and not one.unconfirmed for one in again.values()), again
    settled = set(standings.values()) == {Standing.SETTLED}
    three.require_renewed(5 if settled else 3)
    # What all three had is finished, and what not all three had was made anew.
    assert renewed.count("a") == sessions + (Standing.NOTHING in standings.values() or settled)


async def test_a_fresh_machine_that_is_lost_again_is_recovered_by_the_two_that_are_left(
    renewed: list[Party], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    three = Three.installed(tmp_path / "installation", "c")
    with monkeypatch.context() as killed:
        kill_at(killed, "b", "before keep")
        await three.recover()
    assert keeper_of(three.settings("a"), three.public).seen is Standing.KEPT
    three.fresh_machine()
    outcomes = await three.recover()
    assert all(isinstance(one, UnavailableError) for one in outcomes.values()), outcomes
    assert all(one.party == "keyholder-c" and "again" in (one.hint or "") for one in outcomes.values())  # type: ignore[union-attr]
    assert {three.key(party).epoch for party in ("a", "b")} == {3} and both_can_serve(three, "ab")  # type: ignore[union-attr]
    outcomes = await three.recover()
    assert all(isinstance(one, Recovered) for one in outcomes.values()), outcomes
    three.require_renewed(5)


# -- files ------------------------------------------------------------------------------------------------------


def run(three: Three, party: Party, *words: str) -> Result:
    app = typer.Typer()
    app.callback()(lambda: None)
    commands.register(app)
    config = ["--config", str(config_of(three.directory, f"keyholder-{party}"))]
    return CliRunner().invoke(app, ["keyholder", "recover", *words, *config], env={"VEILMATCH_PASSPHRASE": PASSPHRASE})


async def test_who_uses_its_new_share_can_go_back_while_the_old_one_is_there(
    renewed: list[Party], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    three = Three.installed(tmp_path / "installation", "c")
    with monkeypatch.context() as killed:
        kill_at(killed, "b", "before keep")
        await three.recover()
    assert "share of before is kept" in run(three, "a", "--status").output
    assert "share of before is in use" in run(three, "b", "--status").output
    assert isinstance(run(three, "b", "--back").exception, StorageError)
    # While it is not finished, no file is sealed again and no backup made of it.
    path = three.settings("a").key_file
    assert [one.suffix for one in unfinished_files(path)] == [".replaced"]
    with pytest.raises(ConfigurationError, match="not finished"):
        reseal(path, "a", three.public, PASSPHRASE, "another")
    assert run(three, "a", "--back", "--json").exit_code == 0
    assert three.key("a") == three.old_keys["a"] and three.files("a") == ["share.key"]
    assert isinstance(run(three, "a", "--back").exception, StorageError)
    for words in ([], ["keyholder-c", "--renew"], ["--status", "--back"]):
        assert run(three, "a", *words).exit_code == 2
    assert run(three, "a", "keyholder-c", "--json").exit_code == 2


def test_what_is_pending_is_given_up_when_the_shares_were_refreshed(tmp_path: Path) -> None:
    three = Three.installed(tmp_path / "installation", None)
    settings = three.settings("a")
    keeper = keeper_of(settings, three.public)
    name = settings.key_file.with_name
    name("share.key.recovered").write_bytes(settings.key_file.read_bytes())
    assert keeper.standing() == (Standing.NOTHING, b"") and three.files("a") == ["share.key"]
    name("recovery.json.pending").write_text("{}")
    with pytest.raises(IntegrityError, match="not the record"):
        keeper.standing()


# -- what is decided --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lost", ["c", None])
def test_every_state_is_decided_and_no_share_that_is_used_is_lost(lost: Party | None) -> None:
    states = [(Standing.NOTHING, b"")] + [
        (one, name) for one in (Standing.PENDING, Standing.KEPT, Standing.SETTLED) for name in (b"1", b"2")
    ]
    counts = dict.fromkeys((*Decision, None), 0)
    for three in product(states, repeat=3):
        greetings = {p: RecoveryGreeting(b"", *state, epoch=1) for p, state in zip(PARTIES, three, strict=True)}
        open_ = {name for one, name in three if one in (Standing.PENDING, Standing.KEPT)}
        used = {name for one, name in three if one in (Standing.KEPT, Standing.SETTLED)}
        try:
            decision = decide(greetings, lost)
        except IntegrityError as error:
            assert used & open_ and "keyholder-" in (error.party or "")
            decision = None
        counts[decision] += 1
        names = {p: name for p, (_, name) in zip(PARTIES, three, strict=True)}
        if decision is Decision.FINISH:
            assert len(set(names.values())) == 1 and open_
        if decision is Decision.FINISH_WITHOUT:
            assert lost == "c" and names["a"] == names["b"] != names["c"] and used & {names["a"]}
        if decision is Decision.HOLD:
            # Nobody uses what another one has not finished.
            assert not used & open_
    assert all(counts[one] for one in (Decision.HOLD, Decision.FINISH, None))
    assert bool(counts[Decision.FINISH_WITHOUT]) == (lost is not None)


def test_those_who_have_shares_have_to_be_in_one_epoch() -> None:
    epochs = {"a": 3, "b": 3, "c": 9}
    greetings = {p: RecoveryGreeting(b"", Standing.NOTHING, epoch=epochs[p]) for p in PARTIES}
    assert decide(greetings, "c") is Decision.HOLD
    for lost in ("a", "b", None):
        with pytest.raises(KeyMismatchError, match="different epochs"):
            decide(greetings, lost)  # type: ignore[arg-type]


@pytest.mark.parametrize("lost", [*PARTIES, None])
def test_each_two_call_once_and_a_fresh_machine_calls_both(lost: Party | None) -> None:
    calls = [frozenset((party, peer)) for party in PARTIES for peer in calls_of(party, lost)]
    assert sorted(map(sorted, calls)) == [list(pair) for pair in PAIRS]
    if lost:
        assert set(calls_of(lost, lost)) == {other_party(pair, lost) for pair in PAIRS if lost in pair}
