"""`veilmatch device`, as organisations and people see it."""

from __future__ import annotations

import datetime
import json
import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from tests.installation.making import PASSPHRASE, install
from veilmatch.client.config import DeviceSettings
from veilmatch.crypto.errors import ConfigurationError, DeviceCertificateError, WrongPassphraseError
from veilmatch.crypto.liveness import function_id
from veilmatch.server.admission.devices import read_certificate
from veilmatch.server.commands import device as module
from veilmatch.server.installation.plan import folder_of


def run(*arguments: object, passphrase: str | None = PASSPHRASE) -> Result:
    app = typer.Typer()
    module.register(app)
    return CliRunner().invoke(app, ["device", *map(str, arguments)], env={"VEILMATCH_PASSPHRASE": passphrase})


def said(done: Result) -> Any:
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An installation to copy."""
    return install(tmp_path_factory.mktemp("commands") / "i")


@pytest.fixture
def directory(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "i")
    return tmp_path / "i"


def keyholder(directory: Path, party: str) -> Path:
    return directory / folder_of(f"keyholder-{party}") / "keyholder.toml"


def test_a_device_goes_from_request_to_removal(directory: Path) -> None:
    rights = ("--right", "verify", "--right", "enrol", "--gallery", "Bu\u0308ro")
    wanted = (*rights, "--days", "30", "--lowest", "verify=0.45")
    asked = said(run("request", "door", "--installation", directory, *wanted, "--json"))
    file = Path(asked["file"])
    assert (asked["rights"], asked["galleries"], asked["organisations"]) == (["enrol", "verify"], ["B\u00fcro"], [])
    assert asked["lowest_thresholds"] == {"verify": {"threshold": 1620, "cosine": 0.45}}
    settings = DeviceSettings.load(file.parent / "device.toml")
    assert (settings.device, settings.certificate, settings.threshold) == ("door", file, 0.45)
    assert isinstance(run("add", file, "--installation", directory).exception, DeviceCertificateError)

    assert said(run("certify", file, "--config", keyholder(directory, "b"), "--json"))["organisations"] == ["b"]
    assert isinstance(run("add", file, "--installation", directory).exception, DeviceCertificateError)
    shown = run("certify", file, "--config", keyholder(directory, "c"))
    assert shown.exit_code == 0 and shown.stdout == ""
    assert all(
        text in shown.stderr for text in ("organisation c signs", "enrol, verify", "B\u00fcro", "signed by b, c")
    )
    assert "verify 0.45 (1620)" in shown.stderr, "an organisation sees what it signs"

    assert said(run("add", file, "--folder", directory / folder_of("matcher-a"), "--json"))["daemons"] == ["matcher-a"]
    assert len(said(run("add", file, "--installation", directory, "--json"))["daemons"]) == 6
    (one,) = said(run("show", "door", "--installation", directory, "--json"))["devices"]
    assert one["refused"] is None and len(one["daemons"]) == 6 and one["serial"] == asked["serial"]
    assert one["lowest_thresholds"] == asked["lowest_thresholds"]
    assert "verify 0.45 (1620)" in run("show", "door", "--installation", directory).stdout
    listed = said(run("list", "--folder", directory / folder_of("matcher-b"), "--json"))["devices"]
    assert [found["device"] for found in listed] == ["device-1", "door"]

    assert len(said(run("remove", "door", "--installation", directory, "--json"))["daemons"]) == 6
    for command in ("remove", "show"):
        assert isinstance(run(command, "door", "--installation", directory).exception, ConfigurationError)


def test_a_device_asks_again_with_the_key_that_it_has(directory: Path) -> None:
    folder = directory / "device-1"
    before = read_certificate(folder / "device-1.cert").statement
    asked = said(run("request", "device-1", "--folder", folder, "--right", "verify", "--json"))
    assert asked["public_key"] == before.public_key.hex() and asked["serial"] != before.serial.hex()
    assert (asked["rights"], asked["galleries"]) == (["verify"], ["main"])


def test_a_device_is_issued_with_the_lowest_thresholds_that_were_asked_for(directory: Path) -> None:
    rights = ("--right", "verify", "--right", "identify")
    made = said(run("issue", directory, "door", *rights, "--lowest", "0", "--lowest", "identify=0.45", "--json"))
    assert made["lowest_thresholds"] == {
        "identify": {"threshold": 1620, "cosine": 0.45}, "verify": {"threshold": 1, "cosine": 0.0002},
    }  # fmt: skip
    unsaid = said(run("issue", directory, "gate", "--right", "enrol", "--right", "verify", "--json"))
    assert unsaid["lowest_thresholds"] == {"verify": {"threshold": 1440, "cosine": 0.4}}
    listed = {one["device"]: one for one in said(run("list", "--installation", directory, "--json"))["devices"]}
    assert listed["door"]["lowest_thresholds"] == made["lowest_thresholds"]


def test_a_device_for_a_recipient_only_is_shown_as_that_to_who_signs(directory: Path) -> None:
    only = ("--right", "verify", "--recipient-only")
    assert said(run("request", "door", "--installation", directory, *only, "--json"))["recipient_only"] is True
    signing = run("certify", directory / "door" / "door.cert", "--config", keyholder(directory, "a"))
    assert signing.exit_code == 0 and "to a recipient only" in signing.output
    assert said(run("issue", directory, "gate", *only, "--json"))["recipient_only"] is True
    assert said(run("issue", directory, "desk", "--right", "verify", "--json"))["recipient_only"] is False
    listed = {one["device"]: one for one in said(run("list", "--installation", directory, "--json"))["devices"]}
    assert [listed[name]["recipient_only"] for name in ("gate", "desk")] == [True, False]
    assert listed["gate"]["refused"] is None
    none = run("issue", directory, "till", "--right", "enrol", "--recipient-only")
    assert isinstance(none.exception, DeviceCertificateError)


def test_a_demand_of_liveness_is_shown_to_who_signs_and_kept_when_it_is_renewed(directory: Path) -> None:
    file = "ab" * 32
    asks = ("--right", "verify", "--detector", file.upper(), "--detector", "my.pad:check")
    named = sorted([file, function_id("my.pad:check").hex()])
    assert said(run("request", "door", "--installation", directory, *asks, "--json"))["liveness"] == named
    signing = run("certify", directory / "door" / "door.cert", "--config", keyholder(directory, "a"))
    assert signing.exit_code == 0 and "demanded, of" in signing.output and file[:20] in signing.output
    whichever = ("issue", directory, "gate", "--right", "verify", "--demand-liveness", "--json")
    assert said(run(*whichever))["liveness"] == ["*"]
    assert said(run("issue", directory, "desk", "--right", "verify", "--json"))["liveness"] == []
    listed = {one["device"]: one for one in said(run("list", "--installation", directory, "--json"))["devices"]}
    assert [listed[name]["liveness"] for name in ("gate", "desk")] == [["*"], []] and listed["gate"]["refused"] is None
    said(run("renew", "gate", "--installation", directory, "--days", "30", "--json"))
    assert read_certificate(directory / "gate" / "gate.cert").statement.liveness == ("*",)
    for wrong in (("--right", "enrol", "--demand-liveness"), ("--right", "verify", "--detector", "abc")):
        assert isinstance(run("issue", directory, "till", *wrong).exception, DeviceCertificateError)


def test_a_certificate_of_the_format_before_is_listed_with_what_to_do_and_not_signed(directory: Path) -> None:
    file = directory / "device-1" / "device-1.cert"
    fields = json.loads(file.read_text()) | {"format": "veilmatch device certificate 1"}
    del fields["lowest_thresholds"]
    for place in (file, directory / folder_of("matcher-a") / "devices" / "device-1.cert"):
        place.write_text(json.dumps(fields, indent=1) + "\n")
    listed = said(run("show", "device-1", "--folder", directory / folder_of("matcher-a"), "--json"))["devices"]
    assert ["request and sign a new one" in one["refused"] for one in listed] == [True]
    for refused in (
        run("certify", file, "--config", keyholder(directory, "c")),
        run("add", file, "--installation", directory),
    ):
        assert isinstance(refused.exception, DeviceCertificateError) and "older version" in str(refused.exception)
    # What docs/operations.md says to do: the device keeps its key.
    again = said(run("request", "device-1", "--folder", directory / "device-1", "--right", "verify", "--json"))
    assert again["public_key"] == fields["public_key"]
    for party in ("a", "b"):
        assert run("certify", file, "--config", keyholder(directory, party)).exit_code == 0
    assert len(said(run("add", file, "--installation", directory, "--json"))["daemons"]) == 6
    (one,) = said(run("show", "device-1", "--installation", directory, "--json"))["devices"]
    assert one["refused"] is None


def test_a_list_leaves_nothing_out_of_names_and_dates(directory: Path) -> None:
    rows = json.loads(run("list", "--installation", directory, "--json").stdout)["devices"]
    shown = run("list", "--installation", directory).stdout
    for row in rows:
        until = datetime.datetime.fromtimestamp(row["not_after"], datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
        for text in (row["device"], until, ", ".join(row["rights"]), ", ".join(row["daemons"])):
            assert text in shown
    assert "\u2026" not in shown


def test_a_list_leaves_nothing_out_at_a_narrow_terminal(directory: Path) -> None:
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "veilmatch", "device", "list", "--installation", str(directory)],
        env=os.environ | {"COLUMNS": "80", "TERM": "xterm"}, stdin=subprocess.DEVNULL, stdout=theirs, check=False,
    )  # fmt: skip
    os.close(theirs)
    shown = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert done.returncode == 0 and "\u2026" not in shown
    assert all(word in shown for word in ("device-1", "candidates, ", "keyholder-a, ", ":")), shown
    assert re.search(r"until: \d{4}-\d\d-\d\d \d\d:\d\d UTC", re.sub(r"\x1b\[[0-9;]*m", "", shown))


def test_a_list_for_people_names_what_is_refused(directory: Path) -> None:
    (directory / folder_of("matcher-a") / "devices" / "gate.cert").write_text("\x1b[2Jno certificate")
    for command in (("list",), ("show", "gate"), ("show", "device-1")):
        done = run(*command, "--installation", directory)
        assert done.exit_code == 0 and "\x1b" not in done.stdout, done.output
        assert ("not a" in done.stdout) is (command[-1] != "device-1")


def test_what_is_asked_for_has_to_make_sense(directory: Path) -> None:
    at = ("--installation", directory)
    for wrong, expected in (
        (("request", "door", *at), ConfigurationError),
        (("request", "door", "--right", "verify"), ConfigurationError),
        (("request", "door", *at, "--folder", directory, "--right", "verify"), ConfigurationError),
        (("request", "door", *at, "--right", "everything"), DeviceCertificateError),
        (("request", "door", *at, "--right", "verify", "--days", "100000"), ConfigurationError),
        (("request", "device-1", *at, "--right", "verify"), ConfigurationError),
        (("request", "door", *at, "--right", "verify", "--lowest", "identify=0.5"), ConfigurationError),
        (("request", "door", *at, "--right", "verify", "--lowest", "high"), ConfigurationError),
        (("issue", directory, "door", "--lowest", "1.5"), ConfigurationError),
        (("list",), ConfigurationError),
        (("list", *at, "--folder", directory), ConfigurationError),
        (("add", directory / "device-1" / "device-1.cert", "--folder", directory), ConfigurationError),
        (("remove", "../matcher-a", *at), ConfigurationError),
    ):
        done = run(*wrong)
        assert type(done.exception) is expected, (wrong, done.output)
    assert not (directory / "door").exists()


def test_an_organisation_signs_with_its_passphrase(directory: Path) -> None:
    file = directory / "device-1" / "device-1.cert"
    before = file.read_bytes()
    done = run("certify", file, "--config", keyholder(directory, "c"), passphrase="another")
    assert isinstance(done.exception, WrongPassphraseError)
    assert isinstance(run("certify", file, "--config", keyholder(directory, "a")).exception, ConfigurationError)
    assert file.read_bytes() == before
    assert said(run("certify", file, "--config", keyholder(directory, "c"), "--json"))["organisations"] == [*"abc"]


def test_a_revoked_certificate_stays_away_and_another_one_of_the_device_counts(directory: Path) -> None:
    folder = directory / folder_of("matcher-a")
    copy = (folder / "devices" / "device-1.cert").read_bytes()
    revoked = said(run("revoke", "device-1", "--installation", directory, "--json"))
    assert len(revoked["daemons"]) == 6 and [one["device"] for one in revoked["revoked"]] == ["device-1"]
    states = said(run("list", "--installation", directory, "--json"))["devices"]
    assert [one["refused"] for one in states] == ["revoked"]
    assert said(run("remove", "device-1", "--installation", directory, "--json"))
    (folder / "devices" / "device-1.cert").write_bytes(copy)
    states = said(run("list", "--folder", folder, "--json"))["devices"]
    assert [one["refused"] for one in states] == ["revoked"]
    # Another certificate, for the same key, is another one.
    asked = said(run("request", "device-1", "--folder", directory / "device-1", "--right", "verify", "--json"))
    for party in "ab":
        said(run("certify", asked["file"], "--config", keyholder(directory, party), "--json"))
    said(run("add", asked["file"], "--installation", directory, "--json"))
    states = said(run("list", "--folder", folder, "--json"))["devices"]
    assert [one["refused"] for one in states] == [None]


def test_only_a_certificate_that_is_there_and_of_this_installation_is_revoked(directory: Path, tmp_path: Path) -> None:
    for which in ("nobody", "../x", "matcher-a"):
        assert isinstance(run("revoke", which, "--installation", directory).exception, ConfigurationError)
    assert isinstance(run("revoke", "device-1").exception, ConfigurationError)
    (tmp_path / "door.cert").write_text("nothing")
    assert isinstance(
        run("revoke", tmp_path / "door.cert", "--installation", directory).exception, DeviceCertificateError
    )
    assert not [*directory.rglob("*.revoked")]


def test_two_organisations_revoke_for_all_servers_by_the_same_command(directory: Path) -> None:
    holders = {party: keyholder(directory, party) for party in "abc"}
    first = said(run("revoke", "device-1", "--config", holders["a"], "--json"))
    assert (first["organisation"], first["number"], first["everywhere"]) == ("a", 1, False)
    id_ = first["certificates"][0]
    assert said(run("revoked", "--config", holders["a"], "--json"))["certificates"] == [
        {"id": id_, "revoked_by": ["a"], "everywhere": False}
    ]
    assert said(run("revoke", "device-1", "--config", holders["a"], "--json")) == first, "it has"
    # Its daemon gives it to the others; here, by hand.
    for path in (holders["a"].parent / "revoked").glob("*.list"):
        shutil.copy(path, holders["b"].parent / "revoked")
    serial = read_certificate(holders["b"].parent / "devices" / "device-1.cert").statement.serial.hex()
    second = said(run("revoke", serial, "--config", holders["b"], "--json"))
    assert (second["signed_by"], second["number"], second["everywhere"]) == (["a", "b"], 1, True)
    more = said(run("revoke", "0" * 64, "--config", holders["b"], "--json"))
    assert (more["signed_by"], more["number"], more["everywhere"]) == (["b"], 2, False)
    assert "refused everywhere" in run("revoked", "--config", holders["b"]).output


def test_nothing_is_signed_that_is_no_certificate_here(directory: Path) -> None:
    config = keyholder(directory, "a")
    for which in ("nobody", "f" * 32, directory / "nobody.cert"):
        assert isinstance(run("revoke", which, "--config", config).exception, ConfigurationError)
    assert isinstance(
        run("revoke", "device-1", "--config", config, "--folder", config.parent).exception, ConfigurationError
    )
    assert isinstance(run("revoke", "device-1", "--config", config, passphrase="wrong").exception, WrongPassphraseError)
    assert not [*directory.rglob("*.list")]


def test_a_certificate_is_renewed_at_any_daemon_and_the_old_one_counts_until_then(
    directory: Path, tmp_path: Path
) -> None:
    at_daemon = directory / folder_of("matcher-a") / "devices" / "device-1.cert"
    old = read_certificate(at_daemon)
    asked = said(run("renew", at_daemon, "--out", tmp_path / "new", "--days", "30", "--json"))
    assert asked["organisations"] == [] and read_certificate(at_daemon) == old
    for party in "ac":
        said(run("certify", asked["file"], "--config", keyholder(directory, party), "--json"))
    said(run("add", asked["file"], "--installation", directory, "--json"))
    new = read_certificate(at_daemon).statement
    assert new.serial != old.statement.serial and new.id != old.statement.id
    for name in ("device", "public_key", "rights", "galleries", "lowest", "recipient_only", "liveness"):
        assert getattr(new, name) == getattr(old.statement, name)
    assert new.not_after_s - new.not_before_s == 30 * 86400 + 300
    refused = run("renew", at_daemon, "--out", at_daemon.parent)
    assert isinstance(refused.exception, ConfigurationError), "not over the one in use"
    assert isinstance(run("renew", at_daemon).exception, ConfigurationError), "where it goes is not said"


def test_where_two_organisations_are_in_one_place_one_command_renews_everywhere(directory: Path) -> None:
    places = list(directory.rglob("device-1.cert"))
    assert len(places) == 7, "six daemons and the device"
    old = read_certificate(places[0]).statement
    done = said(run("renew", "device-1", "--installation", directory, "--days", "30", "--json"))
    assert len(done["folders"]) == 7 and len(done["organisations"]) == 2
    (new,) = {read_certificate(path) for path in places}
    assert new.statement.id != old.id and new.statement.rights == old.rights
    # A key that is not here, or a name: nothing changes.
    refused = run("renew", "device-9", "--installation", directory)
    assert isinstance(refused.exception, ConfigurationError) and refused.exception.got == "device-9"
    for party in "bc":
        (keyholder(directory, party).parent / "certifier.key").unlink()
    refused = run("renew", "device-1", "--installation", directory)
    assert isinstance(refused.exception, ConfigurationError) and "renew --out" in str(refused.exception.expected)
    assert {read_certificate(path) for path in places} == {new}
