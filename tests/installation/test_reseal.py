"""`veilmatch reseal`: another passphrase for the same key, and the old file until the new one is complete."""

from __future__ import annotations

import errno
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from tests.installation.making import CHEAP, PASSPHRASE, ceremony, certifiers, install, organisation_keys, public_file
from veilmatch.common.public_file import read_public_file
from veilmatch.crypto.errors import ConfigurationError, KeyFileError, WrongPassphraseError
from veilmatch.crypto.keys.parties import Party
from veilmatch.crypto.secret_access import SECRET_ACCESS
from veilmatch.server.commands import reseal as command
from veilmatch.server.config import KeyHolderSettings, MatcherSettings
from veilmatch.server.installation.certifying.certifier_file import CERTIFIER_FILE
from veilmatch.server.installation.files import write_file
from veilmatch.server.installation.organisation_file import ORGANISATION_FILE, unseal_organisation
from veilmatch.server.installation.passphrase import NEW_VARIABLE
from veilmatch.server.installation.plan import folder_of
from veilmatch.server.installation.sealed import reseal, seal, unseal
from veilmatch.server.installation.signing_file import SigningFile
from veilmatch.server.keyholder.refresh.opening import open_key

ROOT = Path(__file__).parents[2]
NEW = "battery staple"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "share.key"
    seal(made, ceremony().keys[0], public_file(), PASSPHRASE, CHEAP)
    return made


def secret(path: Path, passphrase: str) -> bytes:
    key = unseal(path, "a", public_file(), passphrase)
    return key.to_secret_bytes(public_file().public_key, SECRET_ACCESS)


def change(path: Path, old: str = PASSPHRASE, new: str = NEW) -> None:
    reseal(path, "a", public_file(), old, new, CHEAP)


# -- the file -------------------------------------------------------------------------------------


def test_the_same_key_opens_with_the_new_passphrase_and_with_it_alone(path: Path) -> None:
    before, sealed = secret(path, PASSPHRASE), path.read_bytes()
    change(path)
    assert secret(path, NEW) == before
    with pytest.raises(WrongPassphraseError):
        secret(path, PASSPHRASE)
    salt_and_nonce = slice(32, 60)
    assert path.read_bytes()[salt_and_nonce] != sealed[salt_and_nonce]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in path.parent.iterdir()] == ["share.key"]


def wrong_passphrase(path: Path) -> None:
    change(path, old="not it")


def same_passphrase(path: Path) -> None:
    change(path, new=PASSPHRASE)


def another_party(path: Path) -> None:
    reseal(path, "b", public_file(), PASSPHRASE, NEW, CHEAP)


def not_text(path: Path) -> None:
    change(path, new="x\udcff")


@pytest.mark.parametrize(
    ("attempt", "expected"),
    [
        (wrong_passphrase, WrongPassphraseError),
        (same_passphrase, ConfigurationError),
        (another_party, KeyFileError),
        (not_text, ConfigurationError),
    ],
)
def test_what_is_refused_changes_nothing(path: Path, attempt: Callable[[Path], None], expected: type) -> None:
    before = path.read_bytes()
    with pytest.raises(expected):
        attempt(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file(path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(*((os, "fsync") if step == "fsync" else (Path, "replace")), full)
        with pytest.raises(ConfigurationError) as caught:
            change(path)
    assert caught.value.got == "No space left on device"
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["share.key"]


@pytest.mark.parametrize("step", ["fsync", "rename"])
def test_a_kill_before_the_rename_is_done_leaves_the_old_file(path: Path, step: str) -> None:
    program = f"""
        import os, signal, sys
        from pathlib import Path
        from veilmatch.crypto.encryption.public_key_format import PublicFile
        from veilmatch.server.installation.sealed import ScryptCost, reseal

        def killed(*_):
            os.kill(os.getpid(), signal.SIGKILL)

        if {step!r} == "fsync":
            os.fsync = killed
        else:
            Path.replace = killed
        public = PublicFile.decode(Path(sys.argv[2]).read_bytes())
        reseal(Path(sys.argv[1]), "a", public, {PASSPHRASE!r}, {NEW!r}, ScryptCost(10, 1, 1))
    """
    public = path.with_name("public.json")
    public.write_bytes(public_file().encode())
    lines = "\n".join(line[8:] for line in program.splitlines())
    done = subprocess.run([sys.executable, "-c", lines, str(path), str(public)], cwd=ROOT, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    assert secret(path, PASSPHRASE)
    change(path)
    assert secret(path, NEW)


def test_a_link_stays_and_its_file_is_replaced(path: Path) -> None:
    link = path.with_name("link.key")
    link.symlink_to(path)
    change(link)
    assert link.is_symlink() and secret(path, NEW) == secret(link, NEW)


def test_another_users_file_is_left_alone(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    with pytest.raises(ConfigurationError, match="another user"):
        change(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(("kind", "keys"), [(CERTIFIER_FILE, certifiers), (ORGANISATION_FILE, organisation_keys)])
def test_a_signing_key_is_resealed_and_again_after_an_interruption(
    kind: SigningFile[Any], keys: Callable[[], dict[Party, Any]], tmp_path: Path
) -> None:
    made = tmp_path / "a.key"
    kind.seal(made, keys()["a"], public_file(), PASSPHRASE, CHEAP)
    kind.reseal(made, "a", public_file(), PASSPHRASE, NEW, CHEAP)
    after = made.read_bytes()
    assert kind.unseal(made, "a", public_file(), NEW).public_bytes == keys()["a"].public_bytes
    kind.reseal(made, "a", public_file(), PASSPHRASE, NEW, CHEAP)
    assert made.read_bytes() == after
    with pytest.raises(WrongPassphraseError):
        kind.reseal(made, "a", public_file(), PASSPHRASE, "a third one", CHEAP)
    assert made.read_bytes() == after


# -- the command ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(tmp_path_factory.mktemp("reseal") / "installation")


def run(folder: Path, *arguments: str, name: str = "keyholder.toml", **environment: str | None) -> Result:
    app = typer.Typer()
    command.register(app)
    return CliRunner().invoke(app, ["--config", str(folder / name), *arguments], env=environment)


def opens(folder: Path, passphrase: str) -> bool:
    """Whether all files open."""
    settings = KeyHolderSettings.load(folder / "keyholder.toml")
    public = read_public_file(settings.public_key)
    found = set()
    for open_file, path in (
        (unseal, settings.key_file),
        (CERTIFIER_FILE.unseal, settings.certifier_key),
        (ORGANISATION_FILE.unseal, settings.organisation_key),
    ):
        try:
            open_file(path, settings.party, public, passphrase)
            found.add(True)
        except WrongPassphraseError:
            found.add(False)
    assert len(found) == 1, "some open"
    return found.pop()


def test_the_command_takes_both_passphrases_from_files(installation: Path, tmp_path: Path) -> None:
    folder = installation / folder_of("keyholder-a")
    write_file(tmp_path / "old", f"{PASSPHRASE}\n".encode(), secret=True)
    write_file(tmp_path / "new", f"{NEW}\n".encode(), secret=True)
    files = ("--passphrase-file", str(tmp_path / "old"), "--new-passphrase-file", str(tmp_path / "new"))
    done = run(folder, *files, "--json", VEILMATCH_PASSPHRASE=None)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == {
        "party": "keyholder-a",
        "files": [str(folder / name) for name in ("share.key", "certifier.key", "organisation.key")],
    }
    assert opens(folder, NEW) and not opens(folder, PASSPHRASE)


def test_the_command_takes_both_passphrases_from_the_environment_and_tells_people_what_to_do(
    installation: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = installation / folder_of("keyholder-b")
    done = run(folder, VEILMATCH_PASSPHRASE=PASSPHRASE, VEILMATCH_NEW_PASSPHRASE=NEW)
    assert done.exit_code == 0, done.output
    assert done.stdout == "" and "daemon" in done.stderr
    assert PASSPHRASE not in done.output and NEW not in done.output
    monkeypatch.setenv("VEILMATCH_PASSPHRASE", NEW)
    assert open_key(KeyHolderSettings.load(folder / "keyholder.toml"))[1].party == "b"


def test_the_command_needs_both_passphrases(installation: Path) -> None:
    folder = installation / folder_of("keyholder-c")
    missing = run(folder, VEILMATCH_PASSPHRASE=PASSPHRASE, VEILMATCH_NEW_PASSPHRASE=None)
    assert isinstance(missing.exception, ConfigurationError) and NEW_VARIABLE in str(missing.exception)
    before = [(folder / name).read_bytes() for name in ("certifier.key", "organisation.key")]
    wrong = run(folder, VEILMATCH_PASSPHRASE="x", VEILMATCH_NEW_PASSPHRASE=NEW)
    assert isinstance(wrong.exception, WrongPassphraseError)
    assert opens(folder, PASSPHRASE)
    assert [(folder / name).read_bytes() for name in ("certifier.key", "organisation.key")] == before


def test_a_matchers_key_is_resealed_too(installation: Path) -> None:
    folder = installation / folder_of("matcher-a")
    settings = MatcherSettings.load(folder / "matcher.toml")
    passphrases = {"VEILMATCH_PASSPHRASE": PASSPHRASE, "VEILMATCH_NEW_PASSPHRASE": NEW}
    done = run(folder, "--json", name="matcher.toml", **passphrases)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == {"party": "matcher-a", "files": [str(folder / "organisation.key")]}
    public = read_public_file(settings.public_key)
    assert unseal_organisation(settings.organisation_key, "a", public, NEW).public_bytes == public.signer("a")


def test_a_certification_key_that_is_kept_elsewhere_is_not_missed(tmp_path: Path) -> None:
    folder = install(tmp_path / "installation") / folder_of("keyholder-a")
    (folder / "certifier.key").unlink()
    done = run(folder, "--json", VEILMATCH_PASSPHRASE=PASSPHRASE, VEILMATCH_NEW_PASSPHRASE=NEW)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["files"] == [str(folder / "share.key"), str(folder / "organisation.key")]
