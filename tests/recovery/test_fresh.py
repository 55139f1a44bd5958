"""The folder of a fresh machine: all that the lost one had but its share, and nothing of another organisation's."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from tests.installation.making import CHEAP, PASSPHRASE, install
from veilmatch.crypto.errors import ConfigurationError, KeyFileError, KeyMismatchError
from veilmatch.server.commands import keyholder as commands
from veilmatch.server.config import KeyHolderSettings
from veilmatch.server.installation.plan import config_of, folder_of
from veilmatch.server.recovery.fresh import Sources, make_fresh
from veilmatch.server.recovery.recovering import own_fingerprint

PEERS = {"a": "keys.a.example:7411", "b": "keys.b.example:7412"}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("fresh") / "installation"
    install(made)
    return made


def sources(directory: Path, **more: object) -> Sources:
    return Sources(directory, config_of(directory, "matcher-c"), **more)  # type: ignore[arg-type]


def before(directory: Path, party: str = "c") -> Path:
    return config_of(directory, f"keyholder-{party}")


def test_it_has_what_a_key_holder_has_but_for_its_share(directory: Path, tmp_path: Path) -> None:
    folder, lost = tmp_path / "fresh", directory / folder_of("keyholder-c")
    certifier = lost / "certifier.key"
    made = make_fresh(folder, sources(directory, config=before(directory), certifier_key=certifier), PASSPHRASE, CHEAP)
    assert {path.name for path in folder.iterdir()} == {path.name for path in lost.iterdir()} - {"share.key"}
    assert made.party_name == "keyholder-c" and len(made.missing) == 1 and not any((folder / "data").iterdir())
    own, old = KeyHolderSettings.load(folder / "keyholder.toml"), KeyHolderSettings.load(before(directory))
    assert (own.listen, own.peers, own.metrics) == (old.listen, old.peers, old.metrics)
    assert own_fingerprint(own) == made.fingerprint != own_fingerprint(old)
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir() if path.suffix == ".key"}
    assert modes == {"organisation.key": 0o600, "certifier.key": 0o600}
    assert (folder / "tls-key.pem").stat().st_mode & 0o777 == 0o600
    for name in ("public.json", "organisation.key", "ca.pem", "crl.pem"):
        assert (folder / name).read_bytes() == (directory / folder_of("matcher-c") / name).read_bytes()


def test_without_a_copy_of_the_configuration_it_is_told_where_the_others_are(directory: Path, tmp_path: Path) -> None:
    made = make_fresh(tmp_path / "fresh", sources(directory, peers=PEERS, listen="0.0.0.0:9013"), PASSPHRASE, CHEAP)
    own = KeyHolderSettings.load(made.folder / "keyholder.toml")
    assert (own.listen, own.peers) == ("0.0.0.0:9013", PEERS) and own.metrics and own.metrics.listen == "127.0.0.1:9016"
    assert any(what.startswith("certifier.key") for what in made.missing)
    usual = make_fresh(tmp_path / "usual", sources(directory, peers=PEERS), PASSPHRASE, CHEAP)
    assert (
        KeyHolderSettings.load(usual.folder / "keyholder.toml").listen
        == KeyHolderSettings.load(before(directory)).listen
    )


@pytest.mark.parametrize(
    ("what", "error", "words"),
    [
        ("no peers", ConfigurationError, "where are the other"),
        ("one peer", ConfigurationError, "where are the other"),
        ("another's configuration", ConfigurationError, "another organisation"),
        ("another's certifier key", KeyFileError, "certification key|party|organisation"),
        ("not empty", ConfigurationError, "not empty"),
    ],
)
def test_what_does_not_fit_is_refused_and_leaves_nothing(
    directory: Path, tmp_path: Path, what: str, error: type[Exception], words: str
) -> None:
    folder = tmp_path / "fresh"
    given = {
        "no peers": sources(directory),
        "one peer": sources(directory, peers={"a": PEERS["a"]}),
        "another's configuration": sources(directory, config=before(directory, "a")),
        "another's certifier key": sources(
            directory, peers=PEERS, certifier_key=directory / folder_of("keyholder-a") / "certifier.key"
        ),
        "not empty": sources(directory, peers=PEERS),
    }[what]
    if what == "not empty":
        folder.mkdir()
        (folder / "something").write_text("")
    with pytest.raises(error, match=words):
        make_fresh(folder, given, PASSPHRASE, CHEAP)
    assert sorted(path.name for path in tmp_path.iterdir()) == (["fresh"] if what == "not empty" else [])


def test_a_matcher_of_another_installation_is_refused(directory: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    install(other)
    with pytest.raises(KeyMismatchError, match="different installations"):
        make_fresh(
            tmp_path / "fresh", Sources(directory, config_of(other, "matcher-c"), peers=PEERS), PASSPHRASE, CHEAP
        )


def run(*words: str) -> Result:
    app = typer.Typer()
    app.callback()(lambda: None)
    commands.register(app)
    return CliRunner().invoke(app, ["keyholder", "fresh", *words], env={"VEILMATCH_PASSPHRASE": PASSPHRASE})


def test_the_command_says_what_to_do_next(directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("veilmatch.server.installation.tls.renewing.cost_for", lambda _: CHEAP)
    words = ["--matcher", str(config_of(directory, "matcher-c")), "--installation", str(directory)]
    peers = [word for party, address in PEERS.items() for word in ("--peer", f"keyholder-{party}={address}")]
    done = run(str(tmp_path / "one"), *words, *peers)
    assert done.exit_code == 0, done.output
    assert "keyholder recover keyholder-c" in done.output and "revoke keyholder-c --older" in done.output
    document = json.loads(run(str(tmp_path / "two"), *words, *peers, "--json").stdout)
    assert document["party"] == "keyholder-c" and document["fingerprint"] in run_fingerprint(tmp_path / "two")
    for wrong in ("a=localhost:1", "keyholder-a", "keyholder-a=", "matcher-a=localhost:1"):
        assert run(str(tmp_path / "three"), *words, "--peer", wrong).exit_code == 2
    shutil.rmtree(tmp_path / "one")


def run_fingerprint(folder: Path) -> str:
    return own_fingerprint(KeyHolderSettings.load(folder / "keyholder.toml"))
