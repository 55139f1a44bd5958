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
from veilmatch.crypto.keys.parties import PARTIES, Party, pairs_of
from veilmatch.crypto.requests import USUAL_RIGHTS
from veilmatch.server.admission.certification import certified_statement
from veilmatch.server.admission.devices import read_certificate
from veilmatch.server.config import KeyHolderSettings, MatcherSettings
from veilmatch.server.installation import files
from veilmatch.server.installation.certifying.certifier_file import unseal_certifier
from veilmatch.server.installation.certifying.devices import issue_device
from veilmatch.server.installation.layout import Plan, write_installation
from veilmatch.server.installation.organisation_file import unseal_organisation
from veilmatch.server.installation.plan import config_of, folder_of
from veilmatch.server.installation.sealed import unseal
from veilmatch.server.supervisor import daemons_of

COMMON = {"public.json", "ca.pem", "tls.pem", "tls-key.pem"}
SEALED = {"share.key", "certifier.key", "organisation.key"}
DAEMONS = [f"{kind}-{party}" for kind in ("keyholder", "matcher") for party in PARTIES]


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
    expected = {f"organisation-{party}": {"matcher", "keyholder"} for party in PARTIES}
    expected |= {"authority": {"ca.pem", "ca-key.pem", "crl.pem", "issued", "for-parties"}}
    expected |= {
        f"organisation-{p}/matcher": COMMON
        | {"matcher.toml", "crl.pem", "organisation.key", "data", "devices", "revoked"}
        for p in PARTIES
    }
    expected |= {
        f"organisation-{p}/keyholder": COMMON | {"keyholder.toml", "crl.pem", "data", "devices", "revoked", *SEALED}
        for p in PARTIES
    }
    expected |= {f"device-{n}": COMMON | {"device.toml", "signing.key", f"device-{n}.cert"} for n in "12"}
    assert {name: {p.name for p in (installation / name).iterdir()} for name in expected} == expected
    assert {p.name for p in installation.iterdir() if p.is_dir()} == {name for name in expected if "/" not in name}
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
        copies = {path.read_bytes() for path in installation.rglob(name)}
        assert copies == {(source / name).read_bytes()}


def test_every_folder_works_after_it_was_moved(installation: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in DAEMONS:
        (elsewhere / name).symlink_to(installation / folder_of(name))
    for party in PARTIES:
        key_holder = KeyHolderSettings.load(elsewhere / f"keyholder-{party}" / "keyholder.toml")
        assert key_holder.party_name == f"keyholder-{party}"
        public = read_public_file(key_holder.public_key)
        assert unseal(key_holder.key_file, key_holder.party, public, PASSPHRASE).party == party
        assert key_holder.data_dir.is_dir()
        certifier = unseal_certifier(key_holder.certifier_key, key_holder.party, public, PASSPHRASE)
        assert certifier.public_bytes == public.organisation(party)
        own = unseal_organisation(key_holder.organisation_key, key_holder.party, public, PASSPHRASE)
        assert own.public_bytes == public.signer(party)
        assert {path.name for path in key_holder.devices_dir.iterdir()} == {"device-1.cert", "device-2.cert"}
    for party in PARTIES:
        matcher = MatcherSettings.load(elsewhere / f"matcher-{party}" / "matcher.toml")
        assert matcher.party_name == f"matcher-{party}"
        assert set(matcher.peers) == set(PARTIES) - {party}
        assert matcher.galleries == ["main"]
        own = unseal_organisation(matcher.organisation_key, matcher.party, public, PASSPHRASE)
        assert own.public_bytes == public.signer(matcher.party)


def test_every_party_is_found_where_it_listens(installation: Path) -> None:
    key_holders = {p: KeyHolderSettings.load(config_of(installation, f"keyholder-{p}")) for p in PARTIES}
    matchers = {p: MatcherSettings.load(config_of(installation, f"matcher-{p}")) for p in PARTIES}
    device = DeviceSettings.load(installation / "device-1" / "device.toml")
    assert dict(device.matchers) == {p: m.listen for p, m in matchers.items()}
    for settings in key_holders.values():
        assert settings.peers == {p: k.listen for p, k in key_holders.items() if p != settings.party}
        assert set(settings.pairs) == set(pairs_of(settings.party))
    for party, matcher in matchers.items():
        assert matcher.key_holder == key_holders[party].listen
        assert matcher.peers == {p: m.listen for p, m in matchers.items() if p != party}
    addresses = [s.listen for s in (*key_holders.values(), *matchers.values())]
    assert len(set(addresses)) == 6


def test_an_organisation_that_only_deals_has_no_matcher(tmp_path: Path) -> None:
    directory = write(tmp_path / "i", plan=Plan(dealer_only="c"))
    assert daemons_of(directory) == ("keyholder-a", "keyholder-b", "keyholder-c", "matcher-a", "matcher-b")
    assert [path.name for path in (directory / "organisation-c").iterdir()] == ["keyholder"]
    for party, other in ("ab", "ba"):
        assert set(MatcherSettings.load(config_of(directory, f"matcher-{party}")).peers) == {other}
        assert KeyHolderSettings.load(config_of(directory, f"keyholder-{party}")).pairs == ("ab",)
    assert KeyHolderSettings.load(config_of(directory, "keyholder-c")).pairs == ()
    assert set(DeviceSettings.load(directory / "device-1" / "device.toml").matchers) == {"a", "b"}
    issue_device(directory, "device-2", PASSPHRASE, cost=CHEAP)
    assert set(DeviceSettings.load(directory / "device-2" / "device.toml").matchers) == {"a", "b"}


@pytest.mark.parametrize("gone", [("keyholder-c",), ("matcher-b", "matcher-c")])
def test_what_lacks_a_key_holder_or_two_matchers_is_no_installation(gone: tuple[str, ...], tmp_path: Path) -> None:
    directory = write(tmp_path / "i")
    for name in gone:
        (directory / folder_of(name)).rename(tmp_path / name)
    with pytest.raises(ConfigurationError, match="not an installation") as caught:
        daemons_of(directory)
    assert all(str(folder_of(name)) in str(caught.value.expected) for name in gone)


def test_daemons_have_certificates_of_the_keys_that_devices_hold(installation: Path) -> None:
    public = read_public_file(installation / "public.json")
    for name in ("device-1", "device-2"):
        settings = DeviceSettings.load(installation / name / "device.toml")
        assert (settings.device, settings.gallery, settings.threshold) == (name, "main", 0.40)
        key = serialization.load_pem_private_key(settings.signing_key.read_bytes(), None)
        assert isinstance(key, Ed25519PrivateKey)
        paths = [installation / folder_of(daemon) / "devices" / f"{name}.cert" for daemon in DAEMONS]
        (content,) = {path.read_bytes() for path in (*paths, installation / name / f"{name}.cert")}
        certificate = read_certificate(paths[0])
        said = certified_statement(certificate, public)
        assert certificate.organisations == ("a", "b") and certificate.encode() == content
        assert said.public_key == key.public_key().public_bytes_raw()
        assert (set(said.rights), said.galleries) == (set(USUAL_RIGHTS), ALL_GALLERIES)


def test_every_certificate_is_of_its_folders_name(installation: Path) -> None:
    for path in installation.rglob("tls.pem"):
        names = x509.load_pem_x509_certificate(path.read_bytes()).extensions
        names_of_folders = {str(folder_of(name)): name for name in DAEMONS}
        folder = str(path.parent.relative_to(installation))
        assert list(names.get_extension_for_class(x509.SubjectAlternativeName).value) == [
            x509.DNSName(names_of_folders.get(folder, folder))
        ]


def test_no_clear_secret_is_in_any_public_file(installation: Path) -> None:
    for name, data in content(installation).items():
        assert PASSPHRASE.encode() not in data
        if Path(name).name not in ("tls-key.pem", "signing.key"):
            assert b"BEGIN PRIVATE KEY" not in data


def test_a_plan_moves_hosts_and_ports(tmp_path: Path) -> None:
    write(tmp_path / "i", plan=Plan("::1", 9000, 3))
    matcher = MatcherSettings.load(tmp_path / "i" / folder_of("matcher-a") / "matcher.toml")
    assert (matcher.listen, matcher.peers["c"], matcher.workers) == ("[::1]:9001", "[::1]:9003", 3)
    assert KeyHolderSettings.load(tmp_path / "i" / folder_of("keyholder-c") / "keyholder.toml").listen == "[::1]:9013"


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
        own: Path = installation / folder_of(f"keyholder-{party}") / "share.key"
        assert unseal(own, party, public, PASSPHRASE).party == party
        strangers: list[Party] = [p for p in PARTIES if p != party]
        for stranger in strangers:
            with pytest.raises(KeyFileError):
                unseal(own, stranger, public, PASSPHRASE)
        for directory, what in ((other, "public key"), (again, "installation")):
            with pytest.raises(KeyMismatchError, match=what):
                unseal(directory / folder_of(f"keyholder-{party}") / "share.key", party, public, PASSPHRASE)


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
     "organisation-a", "keyholder-1", "authority", "a\n"],
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
