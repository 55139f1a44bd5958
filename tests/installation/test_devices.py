"""Devices: requested, certified by one organisation and another, given to daemons, listed, removed."""

from __future__ import annotations

import os
import shutil
import stat
import time
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.installation.making import CHEAP, PASSPHRASE, install
from veilmatch.client.config import DeviceSettings
from veilmatch.common.public_file import read_public_file
from veilmatch.crypto.errors import (
    ConfigurationError,
    DeviceCertificateError,
    KeyFileError,
    VeilmatchError,
    WrongPassphraseError,
)
from veilmatch.crypto.keys.device_certificate import ALL_GALLERIES, DeviceCertificate
from veilmatch.crypto.keys.parties import Party
from veilmatch.crypto.requests import USUAL_RIGHTS
from veilmatch.server.admission.certification import certified_statement
from veilmatch.server.admission.devices import Devices, read_certificate
from veilmatch.server.config import KeyHolderSettings
from veilmatch.server.installation import files
from veilmatch.server.installation.certifying.certifier import Grant
from veilmatch.server.installation.certifying.devices import (
    add_certificate,
    certify,
    issue_device,
    listed,
    request_again,
    request_device,
)
from veilmatch.server.installation.certifying.registration import Configurations
from veilmatch.server.installation.layout import Plan
from veilmatch.server.installation.plan import folder_of

DAEMONS = ["keyholder-a", "keyholder-b", "keyholder-c", "matcher-a", "matcher-b", "matcher-c"]
DOOR = Grant(("verify", "identify"), ("main",), 30)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An installation to copy."""
    return install(tmp_path_factory.mktemp("made") / "i", plan=Plan("host.example", 9000))


@pytest.fixture
def directory(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "i")
    return tmp_path / "i"


def content(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


def organisation(directory: Path, party: Party) -> KeyHolderSettings:
    return KeyHolderSettings.load(directory / folder_of(f"keyholder-{party}") / "keyholder.toml")


def known(directory: Path, daemon: str, device: str) -> bool:
    return (
        Devices(directory / folder_of(daemon) / "devices", read_public_file(directory / "public.json")).find(device)
        is not None
    )


def wanted(directory: Path, name: str = "door") -> Path:
    request_device(directory, name, PASSPHRASE, DOOR, CHEAP)
    return directory / name / f"{name}.cert"


# -- at once -------------------------------------------------------------------------------------


def test_an_issued_device_is_like_those_of_the_ceremony(directory: Path) -> None:
    certificate = issue_device(directory, "door-3", PASSPHRASE, cost=CHEAP)
    settings = DeviceSettings.load(directory / "door-3" / "device.toml")
    first = DeviceSettings.load(directory / "device-1" / "device.toml")
    assert (
        settings.matchers
        == first.matchers
        == {
            "a": "host.example:9001",
            "b": "host.example:9002",
            "c": "host.example:9003",
        }
    )
    key = serialization.load_pem_private_key(settings.signing_key.read_bytes(), None)
    assert isinstance(key, Ed25519PrivateKey)
    assert key.public_key().public_bytes_raw() == certificate.statement.public_key
    assert (set(certificate.statement.rights), certificate.statement.galleries) == (set(USUAL_RIGHTS), ALL_GALLERIES)
    for daemon in DAEMONS:
        assert known(directory, daemon, "door-3")
    for path in (directory / "door-3").iterdir():
        like = directory / "device-1" / path.name.replace("door-3", "device-1")
        assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(like.stat().st_mode)
    tls = x509.load_pem_x509_certificate(settings.tls.certificate.read_bytes())
    tls.verify_directly_issued_by(x509.load_pem_x509_certificate(settings.tls.authority.read_bytes()))
    assert list(directory.rglob(".*")) == []


def test_a_device_is_issued_with_the_rights_that_were_asked_for(directory: Path) -> None:
    said = issue_device(directory, "door", PASSPHRASE, Grant(("verify", "enrol"), ("b", "a"), 7), CHEAP).statement
    assert (said.rights, said.galleries) == (("enrol", "verify"), ("a", "b"))
    assert 7 * 86400 <= said.not_after_s - said.not_before_s <= 7 * 86400 + 600
    assert said.not_before_s < time.time() < said.not_after_s


def test_two_other_organisations_certify_where_the_first_has_taken_its_folder(directory: Path, tmp_path: Path) -> None:
    (directory / folder_of("keyholder-a")).rename(tmp_path / "gone")
    assert issue_device(directory, "door", PASSPHRASE, cost=CHEAP).organisations == ("b", "c")
    (directory / folder_of("keyholder-b")).rename(tmp_path / "gone-too")
    before = content(directory)
    with pytest.raises(ConfigurationError, match="two organisations"):
        issue_device(directory, "gate", PASSPHRASE, cost=CHEAP)
    assert content(directory) == before


def test_a_wrong_passphrase_adds_nothing(directory: Path) -> None:
    before = content(directory)
    for add in (issue_device, request_device):
        with pytest.raises(WrongPassphraseError):
            add(directory, "door", "another", DOOR, CHEAP)
    assert content(directory) == before


def test_a_name_that_is_taken_is_refused_even_if_its_folder_has_gone(directory: Path, tmp_path: Path) -> None:
    (directory / "device-1").rename(tmp_path / "on-its-machine")
    before = content(directory)
    for name in ("device-1", "matcher-a", "../x"):
        for add in (issue_device, request_device):
            with pytest.raises(ConfigurationError):
                add(directory, name, PASSPHRASE, DOOR, CHEAP)
    assert content(directory) == before


def test_folders_that_have_gone_to_their_machines_are_not_missed(directory: Path, tmp_path: Path) -> None:
    for name in ("keyholder-c", "matcher-a", "matcher-c"):
        (directory / folder_of(name)).rename(tmp_path / name)
    (directory / "device-1").rename(tmp_path / "device-1")
    issue_device(directory, "door", PASSPHRASE, cost=CHEAP)
    assert DeviceSettings.load(directory / "door" / "device.toml").matchers["a"] == "host.example:9001"
    assert known(directory, "matcher-b", "door")
    (directory / folder_of("matcher-b")).rename(tmp_path / "matcher-b")
    (directory / "door").rename(tmp_path / "door")
    with pytest.raises(ConfigurationError, match="where the matchers are"):
        issue_device(directory, "gate", PASSPHRASE, cost=CHEAP)


@pytest.mark.parametrize("after", range(0, 26, 3))
def test_an_interrupted_addition_changes_nothing(after: int, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, calls, fsync = content(directory), 0, os.fsync

    def interrupted(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls == after + 1:
            raise OSError(28, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(files.os, "fsync", interrupted)
    with pytest.raises(ConfigurationError, match="cannot be written"):
        issue_device(directory, "device-2", PASSPHRASE, cost=CHEAP)
    assert content(directory) == before


@pytest.mark.parametrize("text", ["devices_dir = 7\n", "not toml", "\udcff"])
def test_a_broken_configuration_is_a_typed_error(text: str, directory: Path) -> None:
    (directory / folder_of("keyholder-c") / "keyholder.toml").write_bytes(text.encode(errors="surrogateescape"))
    before = content(directory)
    with pytest.raises(ConfigurationError):
        issue_device(directory, "device-2", PASSPHRASE, cost=CHEAP)
    assert content(directory) == before


def test_no_device_is_added_to_what_is_no_installation(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "absent"):
        for add in (issue_device, request_device):
            with pytest.raises(ConfigurationError):
                add(place, "device-2", PASSPHRASE, DOOR, CHEAP)
    assert list(tmp_path.iterdir()) == []


# -- organisation by organisation ------------------------------------------------------------------


def test_a_device_is_known_when_two_organisations_have_signed(directory: Path) -> None:
    file = wanted(directory)
    daemons = Configurations.read(directory)
    assert DeviceSettings.load(directory / "door" / "device.toml").device == "door"
    for party in ("c", "a"):
        with pytest.raises(DeviceCertificateError, match="too few"):
            add_certificate(file, daemons)
        assert not any(known(directory, daemon, "door") for daemon in DAEMONS)
        certify(file, organisation(directory, party), PASSPHRASE)
    assert read_certificate(file).organisations == ("a", "c")
    assert set(add_certificate(file, daemons)) == set(DAEMONS)
    assert all(known(directory, daemon, "door") for daemon in DAEMONS)
    said = certified_statement(read_certificate(file), read_public_file(directory / "public.json"))
    assert (said.rights, said.galleries) == (("identify", "verify"), ("main",))


def test_all_three_may_sign(directory: Path) -> None:
    file = wanted(directory)
    for party in ("a", "b", "c"):
        certify(file, organisation(directory, party), PASSPHRASE)
    assert set(add_certificate(file, Configurations.read(directory))) == set(DAEMONS)


def test_an_organisation_adds_a_device_to_its_own_daemons(directory: Path, tmp_path: Path) -> None:
    file = wanted(directory)
    for party in ("a", "b"):
        certify(file, organisation(directory, party), PASSPHRASE)
    (directory / "organisation-a").rename(tmp_path / "ours")
    own = Configurations.of_daemons([tmp_path / "ours" / "matcher", tmp_path / "ours" / "keyholder"])
    assert add_certificate(file, own) == ("matcher-a", "keyholder-a")
    assert {path.name for path in (tmp_path / "ours" / "matcher" / "devices").iterdir()} == {
        "device-1.cert",
        "door.cert",
    }
    for place in (tmp_path, tmp_path / "absent", directory / "door"):
        with pytest.raises(ConfigurationError, match="not the folder of a daemon"):
            Configurations.of_daemons([place])


def test_nobody_signs_twice(directory: Path) -> None:
    file = wanted(directory)
    certify(file, organisation(directory, "a"), PASSPHRASE)
    before = file.read_bytes()
    with pytest.raises(ConfigurationError, match="signed already"):
        certify(file, organisation(directory, "a"), PASSPHRASE)
    assert file.read_bytes() == before


def altered(file: Path) -> None:
    found = read_certificate(file)
    more = replace(found.statement, rights=("enrol", *found.statement.rights))
    file.write_bytes(DeviceCertificate(more, found.signatures).encode())


def of_another_installation(file: Path) -> None:
    found = read_certificate(file)
    file.write_bytes(DeviceCertificate(replace(found.statement, installation=bytes(16))).encode())


def expired(file: Path) -> None:
    found = read_certificate(file)
    file.write_bytes(DeviceCertificate(replace(found.statement, not_before_s=1, not_after_s=2)).encode())


def garbage(file: Path) -> None:
    file.write_bytes(b"{}")


def absent(file: Path) -> None:
    file.unlink()


@pytest.mark.parametrize("spoil", [altered, of_another_installation, expired, garbage, absent])
def test_an_organisation_does_not_sign_what_is_wrong_already(spoil: object, directory: Path) -> None:
    file = wanted(directory)
    certify(file, organisation(directory, "a"), PASSPHRASE)
    spoil(file)  # type: ignore[operator]
    with pytest.raises(DeviceCertificateError):
        certify(file, organisation(directory, "b"), PASSPHRASE)


def test_an_organisation_signs_with_its_own_passphrase_and_key(directory: Path) -> None:
    file = wanted(directory)
    before = file.read_bytes()
    with pytest.raises(WrongPassphraseError):
        certify(file, organisation(directory, "a"), "another")
    shutil.copy(
        directory / folder_of("keyholder-b") / "certifier.key", directory / folder_of("keyholder-a") / "certifier.key"
    )
    with pytest.raises(KeyFileError):
        certify(file, organisation(directory, "a"), PASSPHRASE)
    shutil.copy(
        directory / folder_of("keyholder-a") / "share.key", directory / folder_of("keyholder-a") / "certifier.key"
    )
    with pytest.raises(KeyFileError, match="not a sealed certification key"):
        certify(file, organisation(directory, "a"), PASSPHRASE)
    assert file.read_bytes() == before


def test_the_certification_key_is_that_which_the_installation_names(directory: Path, tmp_path: Path) -> None:
    again = install(tmp_path / "again")
    file = wanted(directory)
    shutil.copy(
        again / folder_of("keyholder-a") / "certifier.key", directory / folder_of("keyholder-a") / "certifier.key"
    )
    with pytest.raises(VeilmatchError, match="another installation"):
        certify(file, organisation(directory, "a"), PASSPHRASE)


def test_a_certification_key_that_others_can_read_is_refused(directory: Path) -> None:
    file = wanted(directory)
    (directory / folder_of("keyholder-a") / "certifier.key").chmod(0o640)
    with pytest.raises(KeyFileError, match="open to others"):
        certify(file, organisation(directory, "a"), PASSPHRASE)


# -- a device's second certificate ---------------------------------------------------------------------


def test_a_device_gets_another_certificate_for_its_key(directory: Path) -> None:
    first = read_certificate(directory / "device-1" / "device-1.cert").statement
    request_again(directory / "device-1", "device-1", Grant(("verify",), ("main",), 30))
    file = directory / "device-1" / "device-1.cert"
    for party in ("b", "c"):
        certify(file, organisation(directory, party), PASSPHRASE)
    add_certificate(file, Configurations.read(directory))
    found = Devices(directory / folder_of("matcher-a") / "devices", read_public_file(directory / "public.json")).find(
        "device-1"
    )
    assert found is not None and found.rights == ("verify",)
    assert found.public_key == first.public_key and found.serial != first.serial


def test_a_device_that_has_no_key_makes_one(directory: Path) -> None:
    folder = directory / "device-1"
    old = (folder / "signing.key").read_bytes()
    (folder / "signing.key").unlink()
    certificate = request_again(folder, "device-1", DOOR)
    key = serialization.load_pem_private_key((folder / "signing.key").read_bytes(), None)
    assert isinstance(key, Ed25519PrivateKey) and (folder / "signing.key").read_bytes() != old
    assert key.public_key().public_bytes_raw() == certificate.statement.public_key
    assert stat.S_IMODE((folder / "signing.key").stat().st_mode) == 0o600
    (folder / "signing.key").write_bytes((folder / "tls-key.pem").read_bytes())
    with pytest.raises(KeyFileError, match="signing key"):
        request_again(folder, "device-1", DOOR)


# -- seen and removed ------------------------------------------------------------------------------


def test_a_list_says_what_every_daemon_goes_by(directory: Path) -> None:
    file = wanted(directory)
    for party in ("a", "b"):
        certify(file, organisation(directory, party), PASSPHRASE)
    add_certificate(file, Configurations.of_daemons([directory / folder_of("matcher-a")]))
    (directory / folder_of("matcher-b") / "devices" / "gate.cert").write_text("no certificate")
    found = {one.device: one for one in listed(Configurations.read(directory), time.time)}
    assert sorted(found) == ["device-1", "door", "gate"]
    assert set(found["device-1"].at) == set(DAEMONS) and found["device-1"].refused is None
    assert found["door"].at == ("matcher-a",) and found["door"].refused is None
    assert found["gate"].at == ("matcher-b",) and "not a device certificate" in str(found["gate"].refused)
    later = {
        one.device: one.refused for one in listed(Configurations.read(directory), lambda: time.time() + 31 * 86400)
    }
    assert "expired" in str(later["door"]) and later["device-1"] is None


def test_a_removed_device_is_known_to_nobody(directory: Path) -> None:
    daemons = Configurations.read(directory)
    assert set(daemons.remove("device-1")) == set(DAEMONS)
    assert not any(known(directory, daemon, "device-1") for daemon in DAEMONS)
    assert daemons.remove("device-1") == ()
