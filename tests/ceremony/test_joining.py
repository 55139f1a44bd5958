"""A whole ceremony between three processes' worth of code: what each organisation has then, and what ends one."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509

from tests.ceremony.three import Heard, all_join, prepared, settings_of
from tests.crypto.ceremony.test_key import require_sound
from tests.installation.making import PARAMETERS, PASSPHRASE, organisation_keys, public_file
from veilmatch.common.authorities import organisations_of
from veilmatch.crypto.ceremony.joint.steps import JointKey
from veilmatch.crypto.errors import (
    ConfigurationError,
    IntegrityError,
    KeyFileError,
    KeyMismatchError,
    UnavailableError,
    WrongPassphraseError,
)
from veilmatch.crypto.keys.parties import PARTIES
from veilmatch.server.ceremony import joining
from veilmatch.server.ceremony.joining import Joined, join
from veilmatch.server.ceremony.record import FILE, CeremonyRecord
from veilmatch.server.config import KeyHolderSettings, MatcherSettings
from veilmatch.server.installation.plan import config_of
from veilmatch.server.installation.tls.folder import AuthorityFolder
from veilmatch.server.keyholder.refresh.opening import open_key
from veilmatch.server.transport.tls_files import TlsFiles


async def test_three_organisations_make_a_key_and_each_has_its_installation(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(prepared(tmp_path))
    heard = {party: Heard() for party in PARTIES}
    joined = await all_join(settings, heard)
    assert all(isinstance(one, Joined) and not one.unconfirmed for one in joined.values()), joined
    monkeypatch.setenv("VEILMATCH_PASSPHRASE", PASSPHRASE)
    keys, tls = [], {}
    for party in PARTIES:
        home = settings[party].installation
        assert not settings[party].pending.exists() and sorted(path.name for path in home.iterdir()) == [
            "authority", FILE, f"organisation-{party}", "public.json"
        ]  # fmt: skip
        key_holder = KeyHolderSettings.load(config_of(home, f"keyholder-{party}"))
        matcher = MatcherSettings.load(config_of(home, f"matcher-{party}"))
        public, key = open_key(key_holder)
        keys.append(key)
        CeremonyRecord.read(home / FILE).require_of(public)
        for daemon in (key_holder, matcher):
            tls[daemon.party_name] = TlsFiles.read(daemon.tls, daemon.party_name, daemon.tls.crl)
        # What was shown in the ceremony counts until it ends, so it is among what can be revoked.
        shown = x509.load_pem_x509_certificate((settings[party].keys / "tls.pem").read_bytes())
        assert shown in [one.certificate for one in AuthorityFolder(home / "authority").find(f"keyholder-{party}")]
        # Each knows where the others are: by what they have said of themselves.
        assert all(key_holder.peers[other] == settings[other].listen for other in settings[party].peers)
        assert heard[party].parts[0] == "small candidates, batch 1" and heard[party].parts[-1] == "writing"
    require_sound({key.party: JointKey(public.public_key, key) for key in keys}, PARAMETERS)
    # Six daemons of three authorities take each other for who they are.
    assert all(one.trusts([other.own]) for one in tls.values() for other in tls.values())
    assert len({one.own.serial_number for one in tls.values()}) == 6
    assert {frozenset(organisations_of(one)) for one in tls["matcher-a"].trusted} == {
        frozenset("a"), frozenset("b"), frozenset("c")
    }  # fmt: skip
    # Beginning again with what is there changes nothing.
    again = await all_join(settings)
    assert [one.public for one in again.values()] == [public] * 3  # type: ignore[union-attr]


@pytest.mark.parametrize("who", PARTIES)
async def test_whoever_leaves_in_the_middle_leaves_nothing_behind(small: None, tmp_path: Path, who: str) -> None:
    settings = settings_of(prepared(tmp_path))

    class Leaves(Heard):
        def sent(self, total_bytes: int) -> None:
            super().sent(total_bytes)
            if self.rounds == 20:
                raise asyncio.CancelledError

    heard = {party: Leaves() if party == who else Heard() for party in PARTIES}
    outcomes = await all_join(settings, heard)
    assert isinstance(outcomes.pop(who), asyncio.CancelledError)  # type: ignore[call-overload]
    assert all(isinstance(one, UnavailableError) for one in outcomes.values()), outcomes
    for one in settings.values():
        assert not one.installation.exists() and not one.pending.exists()
        assert not list(one.installation.parent.glob(".installation*"))


async def test_organisations_that_mean_different_things_do_not_begin(tmp_path: Path) -> None:
    configs = prepared(tmp_path, wait_s=5.0)
    text = configs["b"].read_text()
    configs["b"].write_text('dealer_only = "c"\n' + text)
    outcomes = await all_join(settings_of(configs))
    assert isinstance(outcomes["b"], KeyMismatchError)
    assert not any(isinstance(one, Joined) for one in outcomes.values())


async def test_a_session_that_fails_at_one_names_what_was_wrong_at_all(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(prepared(tmp_path))
    honest = joining.hold

    async def spoilt(session, links, sent):  # type: ignore[no-untyped-def]
        if session.party == "c":
            exchanged = links.exchanged

            async def altered(messages, awaited, name, number):  # type: ignore[no-untyped-def]
                if number == 1:
                    messages = {peer: replace(x, payload=bytes(len(x.payload))) for peer, x in messages.items()}
                return await exchanged(messages, awaited, name, number)

            monkeypatch.setattr(links, "exchanged", altered)
        return await honest(session, links, sent)

    monkeypatch.setattr(joining, "hold", spoilt)
    outcomes = await all_join(settings)
    assert not any(isinstance(one, Joined) for one in outcomes.values()), outcomes
    assert any(not isinstance(one, UnavailableError) for one in outcomes.values())
    assert not any(one.installation.exists() or one.pending.exists() for one in settings.values())


async def test_what_is_not_right_is_found_before_anybody_is_called(tmp_path: Path) -> None:
    configs = prepared(tmp_path, wait_s=0.5)
    settings = settings_of(configs)["a"]
    with pytest.raises(WrongPassphraseError):
        await join(settings, "another", Heard())
    with pytest.raises(UnavailableError, match="did not come"):
        await join(settings, PASSPHRASE, heard := Heard())
    assert set(heard.waited) == {"b", "c"}
    settings.installation.mkdir()
    (settings.installation / "mine").write_text("keep")
    with pytest.raises(ConfigurationError, match="is taken"):
        await join(settings, PASSPHRASE, Heard())


def test_a_record_is_of_one_key_and_of_all_three(tmp_path: Path) -> None:
    public, other = public_file(), public_file(1)
    record = CeremonyRecord.of(bytes(32), bytes([1] * 32), bytes([2] * 32), public)
    for party, key in organisation_keys().items():
        record = record.with_signature(party, record.signed(key), public)
    record.require_of(public)
    again = CeremonyRecord.decode(record.encode())
    again.require_of(public)
    with pytest.raises(IntegrityError, match="another key"):
        record.require_of(other)
    with pytest.raises(KeyFileError, match="not the record"):
        CeremonyRecord.decode(record.encode()[:-1])
    fields = json.loads(record.encode())
    fields["transcript"] = "00" * 32
    with pytest.raises(IntegrityError, match="has not signed"):
        CeremonyRecord.decode((json.dumps(fields, indent=1) + "\n").encode()).require_of(public)
