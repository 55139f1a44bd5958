"""`veilmatch recipient revoke` and `revoked`: who is refused where, and what is no recipient."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tests.installation.making import install, organisation_keys, public_file
from tests.transport.test_recipients import SAID
from veilmatch.client.commands.base.application import build_app
from veilmatch.crypto.keys.recipient_certificate import CONTEXT, RecipientCertificate, Statement
from veilmatch.server.admission.revoked import revoked_files, revoked_path
from veilmatch.server.config import KeyHolderSettings, MatcherSettings
from veilmatch.server.installation.plan import config_of, folder_of


@pytest.fixture
def installation(tmp_path: Path) -> Path:
    return install(tmp_path / "installation")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(build_app("recipient"), ["recipient", *map(str, arguments)])


def done(*arguments: object) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def written(path: Path, **changes: Any) -> Statement:
    said = replace(SAID, **changes)
    made = RecipientCertificate(said)
    for party in ("a", "b"):
        made = made.with_signature(party, organisation_keys()[party].sign(CONTEXT, said.id))  # type: ignore
    path.write_bytes(made.encode())
    return said


def test_a_new_installation_has_a_folder_for_them_that_its_daemons_name(installation: Path) -> None:
    for daemon, model in (("matcher-a", MatcherSettings), ("keyholder-b", KeyHolderSettings)):
        settings = model.load(config_of(installation, daemon))
        assert settings.revoked_dir == installation / folder_of(daemon) / "revoked"
        assert settings.revoked_dir.stat().st_mode & 0o777 == 0o700 and not revoked_files(settings.revoked_dir)


def test_what_is_no_recipient_of_the_daemons_is_not_revoked(installation: Path, tmp_path: Path) -> None:
    folder = installation / folder_of("matcher-a")
    path = tmp_path / "recipient.cert"
    written(path, installation=public_file().installation)
    for which in (path, tmp_path / "none.cert", "bank", "00" * 31, "0g" * 32, installation / "public.json"):
        assert run("revoke", which, "--folder", folder, "--json").exit_code == 3, which
    for places in ((), ("--folder", tmp_path), ("--folder", folder, "--installation", installation)):
        assert run("revoke", "00" * 32, *places, "--json").exit_code == 3
    assert not list((folder / "revoked").iterdir())


def test_what_revokes_whom_is_told_from_the_names_of_files(installation: Path, tmp_path: Path) -> None:
    one, other = (installation / folder_of(daemon) for daemon in ("matcher-a", "keyholder-a"))
    (one / "revoked").rmdir()  # of an older version
    said = "12" * 32
    assert done("revoke", said, "--folder", one)["daemons"] == ["matcher-a"]
    assert done("revoke", said, "--folder", one, "--folder", other)["daemons"] == ["matcher-a", "keyholder-a"]
    # The certificate in a file of another name says nothing of that one.
    written(revoked_path(other / "revoked", b"\x13" * 32))
    listed = done("revoked", "--installation", installation)["revoked"]
    assert listed == [
        {"id": said, "daemons": ["matcher-a", "keyholder-a"]}, {"id": "13" * 32, "daemons": ["keyholder-a"]},
    ]  # fmt: skip
    assert "matcher-a, keyholder-a" in " ".join(run("revoked", "--installation", installation).stdout.split())
