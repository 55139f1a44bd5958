"""New shares between three key holders: what each has then, who may take the place of a lost one, what ends one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.ceremony.three import Heard
from tests.installation.making import PASSPHRASE, organisation_keys, public_file
from tests.recovery.three import Three
from veilmatch.crypto.ceremony.session import Session
from veilmatch.crypto.errors import (
    ConfigurationError,
    IntegrityError,
    InvalidInputError,
    KeyFileError,
    KeyMismatchError,
    PartyRefusedError,
    ProtocolError,
    UnavailableError,
    VeilmatchError,
)
from veilmatch.crypto.keys.parties import PARTIES, Party
from veilmatch.crypto.secret_access import SECRET_ACCESS
from veilmatch.server.ceremony.links import Links
from veilmatch.server.recovery import recovering
from veilmatch.server.recovery.fingerprint import read_out
from veilmatch.server.recovery.record import RecoveryRecord
from veilmatch.server.recovery.recovering import Recovered, recover
from veilmatch.server.transport.daemon import sole_owner


@pytest.mark.parametrize("lost", ["a", "c", None])
async def test_all_three_have_new_shares_and_nothing_of_before(lost: Party | None, tmp_path: Path) -> None:
    three = Three.installed(tmp_path / "installation", lost)
    heard = {party: Heard() for party in PARTIES}
    outcomes = await three.recover(heard)
    assert all(isinstance(one, Recovered) and not one.unconfirmed for one in outcomes.values()), outcomes
    three.require_renewed(3)
    keys = three.keys()
    for party in PARTIES:
        stays = keys[party].storage_seed(SECRET_ACCESS) == three.old_keys[party].storage_seed(SECRET_ACCESS)
        assert stays == (party != lost)
        assert heard[party].parts == ["new shares", "writing"]
    # 18 rounds; the numbers of a key of 512 bits.
    assert all(one.sent_bytes < 20_000 for one in outcomes.values())  # type: ignore[union-attr]


async def test_a_machine_whose_fingerprint_was_not_read_out_takes_nobodys_place(tmp_path: Path) -> None:
    """Whoever has a certificate in the name of keyholder-c, of the right authority, and c's other files."""
    three = Three.installed(tmp_path / "installation", "c")
    heard = {party: Heard() for party in PARTIES}
    three.typed = dict.fromkeys(("a", "b"), "0123 4567 89ab cdef" * 2)
    outcomes = await three.recover(heard, wait_s=3.0)
    assert isinstance(outcomes["c"], PartyRefusedError) and "read out" in str(outcomes["c"])
    assert all(isinstance(outcomes[p], UnavailableError) for p in ("a", "b")), outcomes
    assert any("c" in heard[p].waited for p in ("a", "b"))
    three.require_untouched()


async def test_one_organisation_alone_cannot_have_its_machine_take_the_place_of_another(tmp_path: Path) -> None:
    # a has typed what its own machine shows; b has heard c's people.
    three = Three.installed(tmp_path / "installation", "c")
    three.typed = {"b": "0123 4567 89ab cdef" * 2}
    outcomes = await three.recover(wait_s=5.0)
    assert not any(isinstance(one, Recovered) for one in outcomes.values())
    assert any(isinstance(one, KeyMismatchError | PartyRefusedError) for one in outcomes.values()), outcomes
    three.require_untouched()


@pytest.mark.parametrize("deviates", PARTIES)
@pytest.mark.parametrize("number", [2, 4, 9, 13])
async def test_a_session_that_fails_changes_nothing(
    deviates: Party, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of the three alters what it says in one round: typed errors, and all as before."""
    three = Three.installed(tmp_path / "installation", "c")
    exchanged = Links.exchanged

    async def altered(self, messages, awaited, name, at):  # type: ignore[no-untyped-def]
        if set(self.peers) == set(PARTIES) - {deviates} and at >= number:
            messages = {peer: replace(x, payload=bytes(len(x.payload))) for peer, x in messages.items()}
        return await exchanged(self, messages, awaited, name, at)

    monkeypatch.setattr(Links, "exchanged", altered)
    outcomes = await three.recover()
    assert all(isinstance(one, VeilmatchError) for one in outcomes.values()), outcomes
    assert any(isinstance(outcomes[p], IntegrityError) for p in PARTIES if p != deviates), outcomes
    three.require_untouched()


@pytest.mark.parametrize("content", ["standings", "made", "stored"])
async def test_who_says_something_else_at_the_end_is_named(
    content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    three = Three.installed(tmp_path / "installation", "c")
    swapped = Links.swapped

    async def lying(self, what, said, patience_s=None):  # type: ignore[no-untyped-def]
        if what == content and set(self.peers) == {"a", "c"}:
            said = bytes(len(said))
        return await swapped(self, what, said, patience_s)

    with monkeypatch.context() as patched:
        patched.setattr(Links, "swapped", lying)
        outcomes = await three.recover()
    assert {type(outcomes[p]) for p in ("a", "c")} <= {ProtocolError, IntegrityError}, outcomes
    assert all(outcomes[p].party == "keyholder-b" for p in ("a", "c"))  # type: ignore[union-attr]
    if content == "standings":
        three.require_untouched()
        return
    # New shares are there, at the liar at least, and no honest one uses its own.
    assert three.key("a") == three.old_keys["a"] and three.key("c") is None
    if content == "stored":
        assert "again at all three" in (outcomes["a"].hint or "")  # type: ignore[union-attr]
    outcomes = await three.recover()
    assert all(isinstance(one, Recovered) for one in outcomes.values()), outcomes
    three.require_renewed(3)


async def test_a_key_that_does_not_fit_is_never_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is left has another key in its file than it had: its shares make no key, and all three say so."""
    three = Three.installed(tmp_path / "installation", "c")

    def wrong(party, renewal, key, reached):  # type: ignore[no-untyped-def]
        return honest(party, renewal, three.old_keys["a"].of_epoch(
            1, three.old_keys["a"]._shares[::-1], three.old_keys["a"]._safety, bytes(32), SECRET_ACCESS
        ) if party == "a" else key, reached)  # fmt: skip

    honest = recovering.RenewalSession
    monkeypatch.setattr(recovering, "RenewalSession", wrong)
    monkeypatch.setattr(type(three.old_keys["a"]), "_place", lambda self, pair: int(self.party == "b" or pair != "ab"))
    outcomes = await three.recover()
    assert all(isinstance(one, VeilmatchError) for one in outcomes.values()), outcomes
    assert any(isinstance(one, IntegrityError) for one in outcomes.values())
    monkeypatch.undo()
    three.require_untouched()


async def test_what_is_not_right_is_found_before_anybody_is_called(tmp_path: Path) -> None:
    three = Three.installed(tmp_path / "installation", "c")

    async def at(party: Party, lost: Party | None, text: str) -> None:
        await recover(three.settings(party), PASSPHRASE, lost, text, Heard(), 0.5)

    with pytest.raises(InvalidInputError, match="not the fingerprint"):
        await at("a", "c", "0123")
    with pytest.raises(KeyFileError, match="no share here"):
        await at("c", None, "")
    with sole_owner(three.settings("a").data_dir), pytest.raises(ConfigurationError, match="another daemon"):
        await at("a", None, "")
    with pytest.raises(UnavailableError, match="did not come"):
        await at("a", None, "")
    three.require_untouched()
    assert read_out("AB" * 8 + " " + "cd" * 8) == "abab " * 4 + "cdcd " * 3 + "cdcd"


async def test_key_holders_in_different_epochs_are_told_to_finish_a_refresh(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    three = Three.installed(tmp_path / "installation", None)
    honest = recovering.Keeper.epoch
    monkeypatch.setattr(
        recovering.Keeper, "epoch", property(lambda self: honest.fget(self) + (self._party == "b"))  # type: ignore[attr-defined]
    )  # fmt: skip
    outcomes = await three.recover()
    assert {type(one) for one in outcomes.values()} == {KeyMismatchError}, outcomes
    assert "epoch 2 at keyholder-b" in str(outcomes["a"])


def test_a_record_is_of_one_key_and_of_all_three() -> None:
    public, other = public_file(), public_file(1)
    record = RecoveryRecord.of(bytes(32), bytes([1] * 32), bytes([2] * 32), public, 3, "c")
    for party, key in organisation_keys().items():
        record = record.with_signature(party, record.signed(key), public)
    record.require_of(public)
    RecoveryRecord.decode(record.encode()).require_of(public)
    with pytest.raises(IntegrityError, match="another key"):
        record.require_of(other)
    for changed in ({"epoch": 4}, {"lost": "b"}, {"lost": None}, {"transcript": "00" * 32}):
        fields = json.loads(record.encode()) | changed
        with pytest.raises(IntegrityError, match="has not signed"):
            RecoveryRecord.decode((json.dumps(fields, indent=1) + "\n").encode()).require_of(public)
    for damaged in (record.encode()[:-1], b"", b"[]", record.encode().replace(b'"c"', b'"d"')):
        with pytest.raises(KeyFileError, match="not the record"):
            RecoveryRecord.decode(damaged)


def test_a_session_of_new_shares_shows_nothing() -> None:
    assert "key" not in repr(Session("a", bytes(32), lambda *_: iter(())))  # type: ignore[arg-type,return-value]
