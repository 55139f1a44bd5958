"""`veilmatch move`: what is taken over of an installation of two matchers, what is new, what is refused."""

from __future__ import annotations

import shutil
import sqlite3
import stat
import tomllib
from contextlib import closing
from pathlib import Path

import pytest
from cryptography import x509

from tests.installation.making import CHEAP, PASSPHRASE, ceremony
from tests.matcher.galleries import content
from tests.moving.backwards import write_earlier
from tests.moving.version_4 import Old, write_version_4
from veilmatch.client.config import DeviceSettings
from veilmatch.common.public_file import read_public_file
from veilmatch.crypto.encryption.public_key_format import PublicFile
from veilmatch.crypto.errors import (
    ConfigurationError,
    GalleryMismatchError,
    KeyFileError,
    WrongPassphraseError,
)
from veilmatch.crypto.keys.parties import PARTIES
from veilmatch.server.config import KeyHolderSettings, MatcherSettings
from veilmatch.server.installation.layout import Plan, write_installation
from veilmatch.server.installation.organisation_file import unseal_organisation
from veilmatch.server.installation.plan import config_of, folder_of
from veilmatch.server.installation.sealed import unseal
from veilmatch.server.matcher.gallery.disk.store import Store
from veilmatch.server.moving.installation import move_installation
from veilmatch.server.transport.daemon import sole_owner

DEVICES = ["device-1", "device-2"]


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """An installation of two matchers that has served: galleries, an audit log, stock, settings of its operators."""
    write_installation(tmp_path / "made", ceremony(), PASSPHRASE, DEVICES, Plan(), CHEAP)
    directory = write_earlier(tmp_path / "made", tmp_path / "old")
    key = public_of(tmp_path / "made").public_key
    for party in "ab":
        gallery(directory, party, key.key_id, key.parameters)
        with (directory / f"matcher-{party}" / "matcher.toml").open("a") as file:
            file.write("\n[budgets]\nsubject_requests = { minute = 3 }\n")
    for party in PARTIES:
        data = directory / f"keyholder-{party}" / "data"
        (data / "audit").mkdir()
        (data / "audit" / "audit-0.jsonl").write_text("an entry\n")
        for name in ("stock.db", "stock.db-wal", "budgets.db"):
            (data / name).write_bytes(name.encode())
    return directory


def gallery(directory: Path, party: str, key_id: bytes, parameters: object, subject: str = "ada") -> None:
    pack_bytes = parameters.dimension * parameters.ciphertext_bytes  # type: ignore[attr-defined]
    record_bytes = parameters.lane_ciphertexts * parameters.ciphertext_bytes  # type: ignore[attr-defined]
    template = (0, 0, subject, content("record", record_bytes), False)
    changes = [Old("enrol", b"t" * 16, '{"templates": 1}', "m", "device-1", [template])]
    data = directory / f"matcher-{party}" / "data"
    write_version_4(data, key_id, parameters, {"main": (changes, [content("pack", pack_bytes)])})  # type: ignore[arg-type]


def public_of(directory: Path) -> PublicFile:
    return read_public_file(directory / "public.json")


def move(old: Path, **options: object) -> Path:
    new = old.parent / "new"
    move_installation(old, new, PASSPHRASE, cost=CHEAP, **options)  # type: ignore[arg-type]
    return new


def test_the_key_stays_and_every_organisation_signs(old: Path) -> None:
    new = move(old)
    public, before = public_of(new), public_of(old.parent / "made")
    assert (public.public_key, public.installation) == (before.public_key, before.installation)
    assert public.organisations == before.organisations and len(set(public.signers)) == 3
    for party in PARTIES:
        for daemon in ("matcher", "keyholder"):
            folder = new / folder_of(f"{daemon}-{party}")
            key = unseal_organisation(folder / "organisation.key", party, public, PASSPHRASE)
            assert key.public_bytes == public.signer(party)
            assert public_of(folder) == public
            for secret in ("organisation.key", "tls-key.pem"):
                assert stat.S_IMODE((folder / secret).stat().st_mode) == 0o600
        unseal(new / folder_of(f"keyholder-{party}") / "share.key", party, public, PASSPHRASE)
    assert all(public_of(new / device) == public for device in DEVICES)


def test_settings_and_data_are_taken_over_and_stock_is_not(old: Path) -> None:
    new = move(old)
    for party in PARTIES:
        matcher = MatcherSettings.load(config_of(new, f"matcher-{party}"))
        assert matcher.budgets.subject_requests == {"minute": 3}
        assert set(matcher.peers) == set(PARTIES) - {party}
        key_holder = KeyHolderSettings.load(config_of(new, f"keyholder-{party}"))
        assert matcher.key_holder == key_holder.listen
        assert {p.name for p in (new / folder_of(f"keyholder-{party}") / "data").iterdir()} == {"audit", "budgets.db"}
        certificate = (new / folder_of(f"matcher-{party}") / "tls.pem").read_bytes()
        assert x509.load_pem_x509_certificate(certificate).subject.rfc4514_string() == f"CN=matcher-{party}"
        devices = {p.name for p in (new / folder_of(f"matcher-{party}") / "devices").iterdir()}
        assert devices == {f"{device}.cert" for device in DEVICES}
    c = MatcherSettings.load(config_of(new, "matcher-c"))
    for device in DEVICES:
        assert DeviceSettings.load(new / device / "device.toml").matchers["c"] == c.listen == "127.0.0.1:7403"
    others = [MatcherSettings.load(config_of(new, f"matcher-{party}")) for party in "ab"]
    assert all(one.peers["c"] == c.listen for one in others)
    assert (c.peers["a"], c.peers["b"]) == tuple(one.listen for one in others)


def test_all_three_have_the_gallery_and_can_prove_it(old: Path) -> None:
    new = move(old)
    key = public_of(new).public_key
    states = []
    for party in PARTIES:
        store = Store(new / folder_of(f"matcher-{party}") / "data", key.key_id, key.parameters)
        states.append(store.open_gallery("main"))
        assert list(store.templates("main")) == [(0, 0, "ada")]
        assert store.find_token("main", b"t" * 16) is not None
        store.close()
    assert states[0] == states[1] == states[2]


def test_organisation_c_may_only_deal(old: Path) -> None:
    new = move(old, dealer_only=True)
    assert not (new / "organisation-c" / "matcher").exists()
    for party in "ab":
        assert "c" not in MatcherSettings.load(config_of(new, f"matcher-{party}")).peers
    assert all(KeyHolderSettings.load(config_of(new, f"keyholder-{x}")).dealer_only == "c" for x in PARTIES)
    assert "c" not in DeviceSettings.load(new / "device-1" / "device.toml").matchers


def test_where_the_third_matcher_is_can_be_said(old: Path) -> None:
    new = move(old, address_c="c.example:9003")
    assert MatcherSettings.load(config_of(new, "matcher-c")).listen == "127.0.0.1:9003"
    assert MatcherSettings.load(config_of(new, "matcher-a")).peers["c"] == "c.example:9003"
    assert DeviceSettings.load(new / "device-1" / "device.toml").matchers["c"] == "c.example:9003"


def test_the_old_installation_is_only_read(old: Path) -> None:
    def everything() -> dict[str, bytes]:
        files = (p for p in old.rglob("*") if p.is_file() and p.name != "lock" and not p.name.startswith("gallery.db-"))
        return {str(p.relative_to(old)): p.read_bytes() for p in sorted(files)}

    before = everything()
    move(old)
    assert everything() == before


def test_two_matchers_that_differ_are_not_moved(old: Path) -> None:
    key = public_of(old.parent / "made").public_key
    (old / "matcher-b" / "data" / "gallery.db").unlink()
    gallery(old, "b", key.key_id, key.parameters, subject="eve")
    with pytest.raises(GalleryMismatchError, match="do not hold the same"):
        move(old)
    assert not (old.parent / "new").exists()


def test_what_runs_or_is_unfinished_is_not_moved(old: Path) -> None:
    with sole_owner(old / "keyholder-b" / "data"), pytest.raises(ConfigurationError, match="another daemon"):
        move(old)
    (old / "keyholder-a" / "share.key.next").touch()
    with pytest.raises(ConfigurationError, match="refresh"):
        move(old)
    (old / "keyholder-a" / "share.key.next").unlink()
    config = old / "matcher-a" / "matcher.toml"
    text = config.read_text()
    config.write_text(text + '\n[rotation]\npublic_key = "x"\ndata_dir = "y"\n')
    with pytest.raises(ConfigurationError, match="rotation"):
        move(old)
    config.write_text(text)
    with closing(sqlite3.connect(old / "matcher-a" / "data" / "gallery.db")) as database, database:
        database.execute("UPDATE galleries SET pending_chain = zeroblob(32)")
    with pytest.raises(GalleryMismatchError, match="not settled"):
        move(old)


def test_what_is_no_such_installation_is_refused(old: Path) -> None:
    with pytest.raises(ConfigurationError, match="two matchers"):
        move(old.parent / "made")
    with pytest.raises(WrongPassphraseError):
        move_installation(old, old.parent / "new", "wrong", cost=CHEAP)
    shutil.rmtree(old / "authority")
    with pytest.raises(ConfigurationError, match="authority"):
        move(old)
    (old / "public.json").write_bytes((old.parent / "made" / "public.json").read_bytes())
    with pytest.raises((KeyFileError, ConfigurationError)):
        move(old)
    assert not (old.parent / "new").exists()


def test_a_directory_with_something_in_it_is_left_alone(old: Path) -> None:
    (old.parent / "new").mkdir()
    (old.parent / "new" / "file").touch()
    with pytest.raises(ConfigurationError, match="not empty"):
        move(old)


def test_tables_within_tables_are_written(old: Path) -> None:
    written = (config_of(move(old), "matcher-a")).read_text()
    assert tomllib.loads(written)["budgets"] == {"subject_requests": {"minute": 3}}
