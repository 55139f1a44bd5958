"""`veilmatch ceremony local`, as a user sees it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from tests.installation.making import PARAMETERS, PASSPHRASE
from veilmatch.client.config import DeviceSettings
from veilmatch.common.public_file import read_public_file
from veilmatch.crypto.errors import ConfigurationError, ParameterError
from veilmatch.server.admission.devices import read_certificate
from veilmatch.server.commands import ceremony as module
from veilmatch.server.config import KeyHolderSettings
from veilmatch.server.installation.files import write_file
from veilmatch.server.installation.plan import folder_of
from veilmatch.server.keyholder.refresh.opening import open_key


def run(*arguments: str, passphrase: str | None = PASSPHRASE) -> Result:
    app = typer.Typer()
    app.callback()(lambda: None)  # with one command alone, its name would not be said
    module.register(app)
    return CliRunner().invoke(app, list(arguments), env={"VEILMATCH_PASSPHRASE": passphrase})


def ceremony(directory: Path, *arguments: str, passphrase: str | None = PASSPHRASE) -> Result:
    parameters = ("--parameters", PARAMETERS.name, "--allow-unsafe")
    return run("ceremony", "local", str(directory), *parameters, *arguments, passphrase=passphrase)


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made once."""
    directory = tmp_path_factory.mktemp("command") / "installation"
    done = ceremony(directory, "--devices", "2", "--base-port", "9000", "--workers", "2", "--json")
    assert done.exit_code == 0, done.output
    printed = json.loads(done.stdout)
    public = read_public_file(directory / "public.json").public_key
    assert printed.pop("ceremony_s") >= 0
    assert printed == {
        "directory": str(directory),
        "parameter_set": PARAMETERS.name,
        "key_id": public.key_id.hex(),
        "devices": ["device-1", "device-2"],
        "lowest_thresholds": {
            o: {"threshold": 1440, "cosine": 0.4} for o in ("candidates", "identify", "known", "verify")
        },
    }
    return directory


def test_the_ceremony_makes_an_installation_that_opens(installation: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VEILMATCH_PASSPHRASE", PASSPHRASE)
    settings = KeyHolderSettings.load(installation / folder_of("keyholder-b") / "keyholder.toml")
    assert (settings.listen, settings.workers) == ("127.0.0.1:9012", 2)
    public, key = open_key(settings)
    assert (key.party, key.key_id) == ("b", public.public_key.key_id)


def test_people_get_a_table_on_standard_error(tmp_path: Path) -> None:
    write_file(tmp_path / "passphrase", b"from a file\n", secret=True)
    done = ceremony(tmp_path / "i", "--passphrase-file", str(tmp_path / "passphrase"), passphrase=None)
    assert done.exit_code == 0, done.output
    assert done.stdout == ""
    assert PARAMETERS.name in done.stderr
    assert "device-1" in done.stderr
    assert "identify 0.4 (1440)" in done.stderr
    assert "from a file" not in done.output


def test_all_devices_of_the_ceremony_get_the_lowest_thresholds_that_were_asked_for(tmp_path: Path) -> None:
    done = ceremony(tmp_path / "i", "--lowest", "0.5", "--lowest", "verify=0.45", "--json")
    assert done.exit_code == 0, done.output
    said = read_certificate(tmp_path / "i" / "device-1" / "device-1.cert").statement
    expected = {"candidates": 1800, "identify": 1800, "known": 1800, "verify": 1620}
    assert dict(said.lowest) == expected
    assert {o: one["threshold"] for o, one in json.loads(done.stdout)["lowest_thresholds"].items()} == expected
    assert DeviceSettings.load(tmp_path / "i" / "device-1" / "device.toml").threshold == 0.5


def test_an_unsafe_set_has_to_be_asked_for(tmp_path: Path) -> None:
    done = run("ceremony", "local", str(tmp_path / "i"), "--parameters", PARAMETERS.name)
    assert isinstance(done.exception, ParameterError)
    assert "--allow-unsafe" in str(done.exception)
    assert isinstance(run("ceremony", "local", str(tmp_path / "i"), "--parameters", "huge").exception, ParameterError)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_work_is_found_before_the_ceremony(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def held(*_: object) -> None:
        raise AssertionError("the ceremony was held")

    monkeypatch.setattr("veilmatch.crypto.keys.ceremony.run_ceremony", held)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "keep").write_text("me")
    for arguments in (
        (str(tmp_path / "full"),),
        (str(tmp_path / "i"), "--host", "no host"),
        (str(tmp_path / "i"), "--lowest", "verify=high"),
        (str(tmp_path / "i"), "--lowest", "enrol=0.4"),
    ):
        done = ceremony(Path(arguments[0]), *arguments[1:])
        assert isinstance(done.exception, ConfigurationError), done.output
    assert isinstance(ceremony(tmp_path / "i", passphrase=None).exception, ConfigurationError)
    assert [p.name for p in tmp_path.iterdir()] == ["full"]
