"""An installation on disk: complete or absent, every folder self-contained, every secret its owner's alone."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.installation.making import CHEAP, PASSPHRASE, ceremony
from veilmatch.client.config import DeviceSettings
from veilmatch.common.public_file import read_public_file
from veilmatch.crypto.errors import ConfigurationError, KeyFileError, KeyMismatchError, WrongPassphraseError
from veilmatch.crypto.keys.device_certificate import ALL_GALLERIES, check_device_name
from veilmatch.crypto.keys.shares import PARTIES, Party
from veilmatch.crypto.requests import OPERATIONS
from veilmatch.server.config import KeyHolderSettings, MatcherSettings
from veilmatch.server.installation import files
from veilmatch.server.installation.certifier_file import unseal_certifier
from veilmatch.server.installation.devices import issue_device
from veilmatch.server.installation.layout import Plan, write_installation
from veilmatch.server.installation.sealed import unseal
from veilmatch.server.transport.certification import certified_statement
from veilmatch.server.transport.devices import read_certificate

COMMON = {"public.json", "ca.pem", "tls.pem", "tls-key.pem"}
SEALED = {"share.key", "certifier.key"}
DAEMONS = ["keyholder-a", "keyholder-b", "keyholder-c", "matcher-a", "matcher-b"]


def write(directory: Path, *devices: str, number: int = 0, plan: Plan | None = None) -> Path:
    write_installation(directory, ceremony(number), PASSPHRASE, devices or ("device-1",), plan or Plan(), CHEAP)
    return directory


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One to look at; tests that change something make their own."""
    return write(tmp_path_factory.mktemp("made") / "installation", "device-1", "device-2")


def content(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


# -- what is there ----------------------------------------------------------------------------------


def test_every_party_has_its_folder_and_its_files(installation: Path) -> None:
    found = {folder.name: {p.name for p in folder.iterdir()} for folder in installation.iterdir() if folder.is_dir()}
    expected = {"authority": {"ca.pem", "ca-key.pem"}}
    expected |= {f"matcher-{seat}": COMMON | {"matcher.toml", "data", "devices"} for seat in "ab"}
    expected |= {f"keyholder-{party}": COMMON | {"keyholder.toml", "data", "devices", *SEALED} for party in "abc"}
    expected |= {f"device-{n}": COMMON | {"device.toml", "signing.key", f"device-{n}.cert"} for n in "12"}
    assert found == expected
    assert [p.name for p in installation.iterdir() if p.is_file()] == ["public.json"]


def test_secrets_and_folders_are_the_owners_alone(installation: Path) -> None:
    for path in [installation, *installation.rglob("*")]:
        mode = stat.S_IMODE(path.stat().st_mode)
        if path.is_dir():
            assert mode == 0o700, path
        elif path.name in (*SEALED, "tls-key.pem", "signing.key", "ca-key.pem"):
            assert mode == 0o600, path
        else:
            assert mode & 0o022 == 0, path


def test_every_folder_holds_the_same_public_file_and_authority(installation: Path) -> None:
    for name, source in (("public.json", installation), ("ca.pem", installation / "authority")):
        copies = {path.read_bytes() for path in installation.glob(f"*/{name}")}
        assert copies == {(source / name).read_bytes()}


def test_every_folder_works_after_it_was_moved(installation: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in DAEMONS:
        (elsewhere / name).symlink_to(installation / name)
    for party in PARTIES:
        key_holder = KeyHolderSettings.load(elsewhere / f"keyholder-{party}" / "keyholder.toml")
        assert key_holder.party_name == f"keyholder-{party}"
        public = read_public_file(key_holder.public_key)
        assert unseal(key_holder.key_file, key_holder.party, public, PASSPHRASE).party == party
        assert key_holder.data_dir.is_dir()
        certifier = unseal_certifier(key_holder.certifier_key, key_holder.party, public, PASSPHRASE)
        assert certifier.public_bytes == public.organisation(party)
        assert {path.name for path in key_holder.devices_dir.iterdir()} == {"device-1.cert", "device-2.cert"}
    for seat in "ab":
        matcher = MatcherSettings.load(elsewhere / f"matcher-{seat}" / "matcher.toml")
        assert matcher.party_name == f"matcher-{seat}"
        assert set(matcher.key_holders) == {seat, "c"}
        assert matcher.galleries == ["main"]


def test_every_party_is_found_where_it_listens(installation: Path) -> None:
    key_holders = {p: KeyHolderSettings.load(installation / f"keyholder-{p}" / "keyholder.toml") for p in PARTIES}
    matchers = {s: MatcherSettings.load(installation / f"matcher-{s}" / "matcher.toml") for s in "ab"}
    device = DeviceSettings.load(installation / "device-1" / "device.toml")
    assert dict(device.matchers) == {s: m.listen for s, m in matchers.items()}
    for settings in key_holders.values():
        assert settings.peers == {p: k.listen for p, k in key_holders.items() if p != settings.party}
    for seat, matcher in matchers.items():
        assert matcher.peer == matchers["b" if seat == "a" else "a"].listen
        assert matcher.key_holders == {p: key_holders[p].listen for p in matcher.key_holders}
    addresses = [s.listen for s in (*key_holders.values(), *matchers.values())]
    assert len(set(addresses)) == 5


def test_daemons_have_certificates_of_the_keys_that_devices_hold(installation: Path) -> None:
    public = read_public_file(installation / "public.json")
    for name in ("device-1", "device-2"):
        settings = DeviceSettings.load(installation / name / "device.toml")
        assert (settings.device, settings.gallery, settings.threshold) == (name, "main", 0.40)
        key = serialization.load_pem_private_key(settings.signing_key.read_bytes(), None)
        assert isinstance(key, Ed25519PrivateKey)
        paths = [installation / daemon / "devices" / f"{name}.cert" for daemon in DAEMONS]
        (content,) = {path.read_bytes() for path in (*paths, installation / name / f"{name}.cert")}
        certificate = read_certificate(paths[0])
        said = certified_statement(certificate, public)
        assert certificate.organisations == ("a", "b") and certificate.encode() == content
        assert said.public_key == key.public_key().public_bytes_raw()
        assert (set(said.rights), said.galleries) == (set(OPERATIONS), ALL_GALLERIES)


def test_every_certificate_is_of_its_folders_name(installation: Path) -> None:
    for path in installation.glob("*/tls.pem"):
        names = x509.load_pem_x509_certificate(path.read_bytes()).extensions
        assert list(names.get_extension_for_class(x509.SubjectAlternativeName).value) == [
            x509.DNSName(path.parent.name)
        ]


def test_no_clear_secret_is_in_any_public_file(installation: Path) -> None:
    for name, data in content(installation).items():
        assert PASSPHRASE.encode() not in data
        if Path(name).name not in ("tls-key.pem", "signing.key"):
            assert b"BEGIN PRIVATE KEY" not in data


def test_a_plan_moves_hosts_and_ports(tmp_path: Path) -> None:
    write(tmp_path / "i", plan=Plan("::1", 9000, 3))
    matcher = MatcherSettings.load(tmp_path / "i" / "matcher-a" / "matcher.toml")
    assert (matcher.listen, matcher.peer, matcher.workers) == ("[::1]:9001", "[::1]:9002", 3)
    assert KeyHolderSettings.load(tmp_path / "i" / "keyholder-c" / "keyholder.toml").listen == "[::1]:9013"


@pytest.mark.parametrize(
    "plan",
    [("", 7400, 0), ("a b", 7400, 0), ('x"\n', 7400, 0), ("h", 65523, 0), ("h", -1, 0), ("h", 1, -1)],
)
def test_a_plan_that_cannot_work_is_refused(plan: tuple[str, int, int]) -> None:
    with pytest.raises(ConfigurationError):
        Plan(*plan)


# -- two installations do not mix -----------------------------------------------------------------


def test_files_of_another_party_or_installation_are_refused(installation: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "other", number=1)
    again = write(tmp_path / "again", number=0)
    public = read_public_file(installation / "public.json")
    for party in PARTIES:
        own: Path = installation / f"keyholder-{party}" / "share.key"
        assert unseal(own, party, public, PASSPHRASE).party == party
        strangers: list[Party] = [p for p in PARTIES if p != party]
        for stranger in strangers:
            with pytest.raises(KeyFileError):
                unseal(own, stranger, public, PASSPHRASE)
        for directory, what in ((other, "public key"), (again, "installation")):
            with pytest.raises(KeyMismatchError, match=what):
                unseal(directory / f"keyholder-{party}" / "share.key", party, public, PASSPHRASE)


def test_the_authority_of_another_installation_is_refused(installation: Path, tmp_path: Path) -> None:
    mine, other = write(tmp_path / "mine"), write(tmp_path / "other")
    (mine / "authority" / "ca-key.pem").write_bytes((other / "authority" / "ca-key.pem").read_bytes())
    with pytest.raises((KeyFileError, WrongPassphraseError)):
        issue_device(mine, "device-2", PASSPHRASE, cost=CHEAP)


# -- complete or not at all ------------------------------------------------------------------------


def test_what_is_there_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "keep").write_text("me")
    (tmp_path / "file").write_text("me")
    for path in (tmp_path / "full", tmp_path / "file"):
        with pytest.raises(ConfigurationError):
            write(path)
    assert content(tmp_path) == {"full/keep": b"me", "file": b"me"}


def test_an_empty_directory_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")
    write(tmp_path / "link")
    assert (tmp_path / "empty" / "public.json").exists()
    write(tmp_path / "deep" / "er" / "new")
    assert (tmp_path / "deep" / "er" / "new" / "public.json").exists()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    write(Path())
    assert (tmp_path / "here" / "public.json").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["deep", "empty", "here", "link"]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, OSError(28, "No space left on device")])
@pytest.mark.parametrize("after", [0, 3, 20, 45])
def test_an_interrupted_ceremony_leaves_nothing(
    interruption: type[BaseException] | OSError, after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, fsync = 0, os.fsync

    def interrupted(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls > after:
            raise interruption
        fsync(descriptor)

    monkeypatch.setattr(files.os, "fsync", interrupted)
    expected = ConfigurationError if isinstance(interruption, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        write(tmp_path / "installation")
    assert list(tmp_path.iterdir()) == []


def test_the_final_name_appears_by_one_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rename, seen = Path.rename, []

    def watched(self: Path, target: Path) -> Path:
        seen.append((self.name, len(content(self)), target.exists()))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", watched)
    write(tmp_path / "installation")
    assert seen == [("installation", len(content(tmp_path / "installation")), False)]


@pytest.mark.parametrize(
    "name",
    ["", "-", "a-", "-a", "A", "a_b", "a.b", "a b", "ä", "a/b", "..", "a" * 49, "matcher-a", "matcher-z",
     "keyholder-1", "authority", "a\n"],
)  # fmt: skip
def test_a_name_that_no_device_can_have_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        check_device_name(name)
    with pytest.raises(ConfigurationError):
        write(tmp_path / "installation", name)
    assert list(tmp_path.iterdir()) == []


def test_two_devices_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        write(tmp_path / "installation", "door", "door")
    assert check_device_name("a" * 48) == "a" * 48
