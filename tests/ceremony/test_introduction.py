"""Who the others are: introductions of one encoding, and fingerprints that people have heard."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from ssl import DER_cert_to_PEM_cert
from typing import Any

import pytest
import typer
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from typer.testing import CliRunner, Result

from tests.ceremony.three import prepared, settings_of
from tests.installation.making import PARAMETERS, PASSPHRASE
from veilmatch.crypto.errors import ConfigurationError, KeyFileError, ParameterError
from veilmatch.server.ceremony.introduction import Introduction, agreement, file_of, read_introductions
from veilmatch.server.ceremony.preparing import open_keys
from veilmatch.server.ceremony.settings import CeremonySettings
from veilmatch.server.commands import ceremony as commands
from veilmatch.server.installation.authority import Authority
from veilmatch.server.installation.stretching import cost_for
from veilmatch.server.installation.toml import to_toml


def run(*arguments: object) -> Result:
    app = typer.Typer()
    app.callback()(lambda: None)
    commands.register(app)
    return CliRunner().invoke(app, ["ceremony", *map(str, arguments)], env={"VEILMATCH_PASSPHRASE": PASSPHRASE})


def introductions(settings: CeremonySettings) -> dict[Any, Introduction]:
    return dict(read_introductions(settings.introductions, settings.party, settings.fingerprints))


def unreadable(certificate: x509.Certificate) -> str:
    """A certificate that parses, but for the names in it: its first name has a text that is none."""
    data = certificate.public_bytes(Encoding.DER)
    at = data.index(b"organisation-")
    return DER_cert_to_PEM_cert(data[:at] + b"\xff" + data[at + 1 :])


def test_an_introduction_has_one_encoding(tmp_path: Path) -> None:
    settings = settings_of(prepared(tmp_path))["a"]
    data = file_of(settings.introductions, "b").read_bytes()
    own = Introduction.decode(data)
    assert own.encode() == data and own.fingerprint == introductions(settings)["b"].fingerprint
    fields = json.loads(data)
    for changed in (
        {"host": ""}, {"host": 7}, {"host": ["h"]}, {"base_port": True}, {"base_port": 70_000}, {"organisation": "d"},
        {"more": 1},
        {"certifier": fields["signer"]}, {"certifier": "00"}, {"authority": "none"}, {"format": "other"},
        {"organisation": "c"}, {"authority": Authority.fresh().certificate_pem().decode()},
        {"authority": unreadable(own.authority)},
    ):  # fmt: skip
        with pytest.raises(KeyFileError):
            Introduction.decode((json.dumps(fields | changed, indent=1) + "\n").encode())
    for other in (data[:-1], data + b" ", b"\xff", b"[]", json.dumps(fields).encode()):
        with pytest.raises(KeyFileError):
            Introduction.decode(other)


def test_another_file_than_the_one_that_was_read_out_is_refused_and_its_fingerprint_not_shown(tmp_path: Path) -> None:
    settings = settings_of(prepared(tmp_path))["a"]
    path = file_of(settings.introductions, "b")
    forged = replace(Introduction.decode(path.read_bytes()), certifier=bytes([9] * 32))
    path.write_bytes(forged.encode())
    with pytest.raises(ConfigurationError, match="not the one whose fingerprint was read out") as refused:
        introductions(settings)
    assert forged.fingerprint not in str(refused.value) + str(refused.value.hint)
    spoken = settings.model_copy(update={"fingerprints": {**settings.fingerprints, "b": forged.fingerprint.upper()}})
    assert introductions(spoken)["b"] == forged
    unheard = settings.model_copy(update={"fingerprints": {}})
    with pytest.raises(ConfigurationError, match="fingerprint of organisation b is missing") as missing:
        introductions(unheard)
    assert forged.fingerprint not in str(missing.value)
    path.unlink()
    with pytest.raises(ConfigurationError, match="introduction of organisation b is not here"):
        introductions(settings)


def test_two_organisations_with_one_key_are_refused(tmp_path: Path) -> None:
    settings = settings_of(prepared(tmp_path))["a"]
    both = introductions(settings)
    same = replace(both["b"], certifier=both["c"].certifier)
    file_of(settings.introductions, "b").write_bytes(same.encode())
    heard = settings.model_copy(update={"fingerprints": {**settings.fingerprints, "b": same.fingerprint}})
    with pytest.raises(ConfigurationError, match="a key in common"):
        introductions(heard)


def test_keys_that_are_not_those_of_the_introduction_are_refused(tmp_path: Path) -> None:
    settings = settings_of(prepared(tmp_path))
    all_three, cost = introductions(settings["a"]), cost_for(PARAMETERS)
    assert open_keys(settings["a"].keys, all_three["a"], PASSPHRASE, cost).signer.public_bytes == all_three["a"].signer
    # Another organisation's authority: it opens with the same passphrase here, and is not the one that was introduced.
    other = replace(all_three["a"], authority=all_three["b"].authority)
    with pytest.raises(KeyFileError, match="not those of its introduction"):
        open_keys(settings["a"].keys, other, PASSPHRASE, cost)


def test_an_agreement_is_about_everything(tmp_path: Path) -> None:
    three = introductions(settings_of(prepared(tmp_path))["a"])
    agreed = {
        agreement("x", None, three), agreement("y", None, three), agreement("x", "c", three),
        agreement("x", None, three | {"b": replace(three["b"], host="elsewhere")}),
    }  # fmt: skip
    assert len(agreed) == 4


def test_prepare_prints_the_fingerprint_of_what_it_has_made(tmp_path: Path) -> None:
    words = ["prepare", "b", tmp_path / "b", "--host", "b.example", "--parameters", PARAMETERS.name]
    assert isinstance(run(*words).exception, ParameterError)
    done = run(*words, "--allow-unsafe", "--json")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["fingerprint"] == Introduction.decode(Path(document["introduction"]).read_bytes()).fingerprint
    settings = CeremonySettings.load(Path(document["config"]))
    assert (settings.party, settings.listen, settings.parameter_set) == ("b", "b.example:7412", PARAMETERS)
    assert all(
        path.stat().st_mode & 0o077 == 0 for path in settings.keys.glob("*.pem") if "key" in path.read_text()[:40]
    )
    shown = json.loads(run("show", document["config"], "--json").stdout)
    assert "introduction of organisation a is not here" in shown["introductions"] and shown["on_disk"] == "nothing"
    assert isinstance(run(*words, "--allow-unsafe").exception, ConfigurationError)


def test_show_says_when_all_is_there(tmp_path: Path) -> None:
    for config in prepared(tmp_path).values():
        assert json.loads(run("show", config, "--json").stdout)["introductions"] == "both here, and as read out"
    (config.parent / "organisation-c.json").unlink()
    assert isinstance(run("show", config).exception, ConfigurationError)


@pytest.mark.parametrize(
    "changed",
    [{"party": "d"}, {"fingerprints": {"a": "x"}}, {"addresses": {"a": "h:1"}}, {"dealer_only": "a"}, {"wait_s": 0},
     {"listen": "h"}, {"colour": 1}],
)  # fmt: skip
def test_a_configuration_that_cannot_work_is_refused(changed: dict[str, Any], tmp_path: Path) -> None:
    fields = {"party": "a", "parameters": PARAMETERS.name, "listen": "127.0.0.1:7411"} | changed
    (tmp_path / "ceremony.toml").write_text(to_toml(fields))
    with pytest.raises(ConfigurationError, match=next(iter(changed))):
        CeremonySettings.load(tmp_path / "ceremony.toml")
