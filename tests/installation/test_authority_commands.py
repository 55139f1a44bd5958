"""`veilmatch authority`: what is issued, taken back and trusted, in the folders that are here and elsewhere."""

from __future__ import annotations

import datetime
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from typer.testing import CliRunner, Result

from tests.installation.making import CHEAP, PASSPHRASE, install
from veilmatch.client.commands.base.application import build_app
from veilmatch.client.config import DeviceSettings
from veilmatch.crypto.errors import ConfigurationError, WrongPassphraseError
from veilmatch.server.config import KeyHolderSettings, MatcherSettings
from veilmatch.server.installation.plan import PORTS, config_of
from veilmatch.server.installation.tls.folder import AuthorityFolder
from veilmatch.server.installation.tls.renewing import end_replacement, renew, replace_authority, revoke
from veilmatch.server.installation.tls.revocations import Revocations
from veilmatch.server.transport.tls_files import TlsFiles

PARTIES = (*PORTS, "device-1")


@pytest.fixture
def installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VEILMATCH_PASSPHRASE", PASSPHRASE)
    return install(tmp_path / "installation")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(build_app("authority"), ["authority", *map(str, arguments)])


def done(*arguments: object, status: int = 0) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == status, result.output
    return json.loads(result.stdout)


def files_of(installation: Path, name: str) -> TlsFiles:
    """What a party has, read as its daemon reads it."""
    if name.startswith("device"):
        return TlsFiles.read(DeviceSettings.load(installation / name / "device.toml").tls, name)
    model = KeyHolderSettings if name.startswith("keyholder") else MatcherSettings
    settings = model.load(config_of(installation, name))
    return TlsFiles.read(settings.tls, name, settings.tls.crl)


def trusts(truster: TlsFiles, other: TlsFiles) -> bool:
    return truster.trusts([other.own]) and not truster.revocations.has(other.own)


def test_a_new_installation_knows_what_was_issued_and_that_nothing_was_taken_back(installation: Path) -> None:
    status = done("status", "--installation", installation)
    assert sorted(one["party"] for one in status["issued"]) == sorted(PARTIES)
    assert {one["state"] for one in (*status["issued"], *status["held"], *status["authorities"])} == {"good"}
    assert {one["party"]: one["revoked_known"] for one in status["held"]} == dict.fromkeys(PORTS, 0) | {
        "device-1": None
    }
    folder = AuthorityFolder(installation / "authority")
    assert {(one.name, one.certificate) for one in folder.issued()} == {
        (name, files_of(installation, name).own) for name in PARTIES
    }


def test_everybody_is_renewed_in_place_and_trusts_each_other(installation: Path) -> None:
    before = {name: files_of(installation, name) for name in PARTIES}
    renewed = done("renew", "--installation", installation)["renewed"]
    assert sorted(one["party"] for one in renewed) == sorted(PARTIES)
    after = {name: files_of(installation, name) for name in PARTIES}
    for name in PARTIES:
        assert after[name].own != before[name].own and after[name].key != before[name].key
        assert (installation / "authority" / "ca-key.pem").read_bytes() not in after[name].key
        assert trusts(after[name], before["matcher-a"]) and trusts(before[name], after["keyholder-c"])
        usages = [
            f.own.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value for f in (before[name], after[name])
        ]
        assert usages[0] == usages[1]
    keys = [*installation.glob("*/*/tls-key.pem"), *installation.glob("*/tls-key.pem")]
    assert len(keys) == len(PARTIES) and {key.stat().st_mode & 0o777 for key in keys} == {0o600}


def test_one_that_is_elsewhere_gets_a_folder_to_be_carried_there(installation: Path, tmp_path: Path) -> None:
    shutil.rmtree(installation / "organisation-b")
    result = run("renew", "matcher-b", "--installation", installation)
    assert result.exit_code == ConfigurationError.exit_status and "--out" in result.output
    done("renew", "matcher-b", "device-1", "--installation", installation, "--out", tmp_path / "out", "--days", 30)
    for name in ("matcher-b", "device-1"):
        files = sorted(file.name for file in (tmp_path / "out" / name).iterdir())
        assert files == ["ca.pem", "crl.pem", "tls-key.pem", "tls.pem"]
        made = x509.load_pem_x509_certificate((tmp_path / "out" / name / "tls.pem").read_bytes())
        left = made.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
        assert datetime.timedelta(days=29) < left <= datetime.timedelta(days=30)
    states = {
        one["state"] for one in done("status", "--installation", installation)["issued"] if one["party"] == "device-1"
    }
    assert states == {"good", "renew it: 29 days left"}


@pytest.mark.parametrize("name", ["matcher-d", "nobody", "../device-1", ""])
def test_nobody_unknown_is_given_a_certificate(name: str, installation: Path, tmp_path: Path) -> None:
    issued = sorted((installation / "authority" / "issued").iterdir())
    result = run("renew", name, "--installation", installation, "--out", tmp_path / "out")
    assert result.exit_code == ConfigurationError.exit_status, result.output
    assert sorted((installation / "authority" / "issued").iterdir()) == issued and not (tmp_path / "out").exists()


def test_a_device_that_is_revoked_is_on_the_list_of_every_daemon(installation: Path) -> None:
    device = files_of(installation, "device-1")
    assert [one["party"] for one in done("revoke", "device-1", "--installation", installation)["revoked"]] == [
        "device-1"
    ]
    for name in PORTS:
        assert files_of(installation, name).revocations.has(device.own)
        assert not files_of(installation, name).revocations.has(files_of(installation, "matcher-a").own)
    for_parties = installation / "authority" / "for-parties"
    trusted = x509.load_pem_x509_certificates((for_parties / "ca.pem").read_bytes())
    assert Revocations.read(for_parties / "crl.pem", trusted).has(device.own)
    status = done("status", "--installation", installation, status=7)
    assert [one["state"] for one in status["held"] if one["party"] == "device-1"] == ["revoked"]
    again = run("revoke", "device-1", "--installation", installation)
    assert again.exit_code == ConfigurationError.exit_status and "nothing to take back" in again.output
    done("renew", "device-1", "--installation", installation)
    assert trusts(files_of(installation, "matcher-a"), files_of(installation, "device-1"))
    assert files_of(installation, "matcher-a").revocations.has(device.own)


def test_only_the_older_ones_a_serial_or_a_file_may_be_revoked(installation: Path, tmp_path: Path) -> None:
    first = files_of(installation, "keyholder-a").own
    (tmp_path / "old.pem").write_bytes((installation / "organisation-c/matcher/tls.pem").read_bytes())
    renew(installation, ["keyholder-a", "matcher-c"], PASSPHRASE, cost=CHEAP)
    revoke(installation, "keyholder-a", PASSPHRASE, older=True, cost=CHEAP)
    now = files_of(installation, "keyholder-a")
    assert now.revocations.has(first) and not now.revocations.has(now.own)
    revoke(installation, str(tmp_path / "old.pem"), PASSPHRASE, cost=CHEAP)
    assert trusts(files_of(installation, "matcher-a"), files_of(installation, "matcher-c"))
    revoke(installation, f"{now.own.serial_number:x}", PASSPHRASE, cost=CHEAP)
    assert files_of(installation, "matcher-a").revocations.has(now.own)
    ((_, serials),) = files_of(installation, "matcher-a").revocations.serials.items()
    assert len(serials) == 3


def test_a_list_only_grows_and_its_number_too(installation: Path) -> None:
    seen = Revocations.none()
    for name in ("device-1", "matcher-a", "keyholder-c"):
        revoke(installation, name, PASSPHRASE, cost=CHEAP)
        found = files_of(installation, "matcher-b").revocations
        for issuer, serials in seen.serials.items():
            assert serials < found.serials[issuer] and seen.numbers[issuer] < found.numbers[issuer]
        seen = found
    ((_, serials),) = seen.serials.items()
    assert len(serials) == 3


@pytest.mark.parametrize("lost", ["it", "it and the copy for parties", "what came after it"])
def test_a_list_that_is_lost_goes_on_from_the_latest_copy(lost: str, installation: Path) -> None:
    authority = installation / "authority"
    first = (authority / "crl.pem").read_bytes()
    revoke(installation, "device-1", PASSPHRASE, cost=CHEAP)
    revoke(installation, "matcher-a", PASSPHRASE, cost=CHEAP)
    before = files_of(installation, "matcher-b").revocations
    if lost == "what came after it":  # put back from a copy
        (authority / "crl.pem").write_bytes(first)
    else:
        (authority / "crl.pem").unlink()
    if "copy" in lost:
        (authority / "for-parties" / "crl.pem").unlink()
    states = {one["party"]: one["state"] for one in done("status", "--installation", installation, status=7)["issued"]}
    assert states["device-1"] == states["matcher-a"] == "revoked" != states["matcher-b"]
    renew(installation, ["matcher-a"], PASSPHRASE, cost=CHEAP)
    assert files_of(installation, "matcher-c").revocations == before
    revoke(installation, "keyholder-c", PASSPHRASE, cost=CHEAP)
    after = files_of(installation, "matcher-b").revocations
    after.require_not_before(before, authority, files_of(installation, "matcher-b").trusted)
    ((issuer, number),) = before.numbers.items()
    assert after.numbers == {issuer: number + 1} and len(after.serials[issuer]) == 3


def test_a_list_that_is_lost_everywhere_is_not_begun_anew(installation: Path) -> None:
    revoke(installation, "device-1", PASSPHRASE, cost=CHEAP)
    copy = (installation / "authority" / "crl.pem").read_bytes()
    for path in [*installation.rglob("crl.pem")]:
        path.unlink()
    for action in (
        lambda: renew(installation, [], PASSPHRASE, cost=CHEAP),
        lambda: revoke(installation, "matcher-a", PASSPHRASE, cost=CHEAP),
        lambda: replace_authority(installation, PASSPHRASE, cost=CHEAP),
    ):
        with pytest.raises(ConfigurationError, match="revocation list of the authority is lost") as refused:
            action()
        assert "for-parties" in str(refused.value.expected) and not [*installation.rglob("crl.pem")]
    # A daemon elsewhere has it.
    (installation / "authority" / "for-parties" / "crl.pem").write_bytes(copy)
    renew(installation, [], PASSPHRASE, cost=CHEAP)
    assert (installation / "authority" / "crl.pem").read_bytes() == copy


def test_a_certificate_of_another_authority_is_not_revoked(installation: Path, tmp_path: Path) -> None:
    other = install(tmp_path / "other")
    with pytest.raises(ConfigurationError, match="another authority"):
        revoke(installation, str(other / "device-1" / "tls.pem"), PASSPHRASE, cost=CHEAP)
    with pytest.raises(ConfigurationError, match="no certificate of this authority"):
        revoke(installation, "device-9", PASSPHRASE, cost=CHEAP)


def test_the_authority_is_replaced_in_three_steps_and_nobody_is_ever_alone(installation: Path) -> None:
    old = {name: files_of(installation, name) for name in PARTIES}

    def all_trust_all() -> bool:
        found = {name: files_of(installation, name) for name in PARTIES}
        return all(trusts(one, other) for one in found.values() for other in found.values())

    begun = done("replace", "--installation", installation)
    assert sorted(begun["told"]) == sorted(PARTIES) and all_trust_all()
    # Whoever has not heard of the new one yet meets certificates of the old one only.
    assert all(trusts(one, files_of(installation, name)) for one in old.values() for name in PARTIES)
    assert {one["authorities"] for one in done("status", "--installation", installation)["held"]} == {2}
    again = run("replace", "--installation", installation)
    assert again.exit_code == ConfigurationError.exit_status
    renew(installation, ["matcher-a"], PASSPHRASE, cost=CHEAP)
    assert all_trust_all()
    early = run("replace", "--end", "--installation", installation)
    assert early.exit_code == ConfigurationError.exit_status and "keyholder-b" in early.output
    # A certificate of either is taken back by whoever issued it.
    revoke(installation, "device-1", PASSPHRASE, cost=CHEAP)
    assert files_of(installation, "matcher-b").revocations.has(old["device-1"].own)
    done("renew", "--installation", installation)
    assert all_trust_all()
    done("replace", "--end", "--installation", installation)
    assert all_trust_all()
    for name in PARTIES:
        assert not files_of(installation, name).trusts([old["matcher-a"].own])
    assert not (installation / "authority" / "next").exists()
    renew(installation, [], PASSPHRASE, cost=CHEAP)
    assert all_trust_all()
    assert run("replace", "--end", "--installation", installation).exit_code == ConfigurationError.exit_status


@pytest.mark.parametrize("interrupted_at", range(8))
def test_an_end_that_is_interrupted_is_finished_by_the_next_one(
    interrupted_at: int, installation: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_authority(installation, PASSPHRASE, CHEAP)
    renew(installation, [], PASSPHRASE, cost=CHEAP)
    written, rename = 0, os.replace

    def fails(*arguments: Any, **options: Any) -> None:
        nonlocal written
        written += 1
        if written > interrupted_at:
            raise OSError(5, "Input/output error")
        rename(*arguments, **options)

    with monkeypatch.context() as patched, pytest.raises((OSError, ConfigurationError)):
        patched.setattr(os, "replace", fails)
        end_replacement(installation)
    if AuthorityFolder(installation / "authority").being_replaced:
        end_replacement(installation)
    else:
        renew(installation, [], PASSPHRASE, cost=CHEAP)
    found = {name: files_of(installation, name) for name in PARTIES}
    assert all(trusts(one, other) for one in found.values() for other in found.values())
    assert {len(one.trusted) for one in found.values()} == {1}


def test_an_authority_from_before_gets_what_it_lacks(installation: Path) -> None:
    for path in [*installation.rglob("crl.pem")]:
        path.unlink()
    for name in ("issued", "for-parties"):
        shutil.rmtree(installation / "authority" / name)
    old = x509.load_pem_x509_certificate((installation / "device-1" / "tls.pem").read_bytes())
    (installation / "old.pem").write_bytes((installation / "device-1" / "tls.pem").read_bytes())
    renew(installation, [], PASSPHRASE, cost=CHEAP)
    assert {len(files_of(installation, name).revocations.numbers) for name in PORTS} == {1}
    revoke(installation, str(installation / "old.pem"), PASSPHRASE, cost=CHEAP)
    assert files_of(installation, "matcher-a").revocations.has(old)


def test_nothing_happens_without_the_passphrase(installation: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path: path.read_bytes() for path in installation.rglob("*.pem")}
    for call in (
        lambda: renew(installation, [], "wrong", cost=CHEAP),
        lambda: revoke(installation, "device-1", "wrong", cost=CHEAP),
        lambda: replace_authority(installation, "wrong", CHEAP),
    ):
        with pytest.raises(WrongPassphraseError):
            call()
    assert {path: path.read_bytes() for path in installation.rglob("*.pem")} == before


def test_a_daemon_alone_is_shown_without_the_authority(installation: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(installation / "organisation-a" / "matcher", tmp_path / "matcher")
    status = done("status", "--folder", folder)
    assert [one["party"] for one in status["held"]] == ["matcher-a"] and status["issued"] == []
    assert "matcher-a" in run("status", "--folder", folder).output
