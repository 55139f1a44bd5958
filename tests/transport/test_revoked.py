"""A recipient is refused from the moment at which its file is there, and whenever nobody can tell."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.transport.signed import NOW_S, OPERATIONS, body, checker, signed
from tests.transport.test_recipients import PUBLIC, SAID, certificate
from veilmatch.crypto.errors import ConfigurationError, RecipientRevokedError, StorageError
from veilmatch.crypto.keys.recipient_certificate import Statement
from veilmatch.server.admission.recipients import Recipients
from veilmatch.server.admission.requests import CheckedRequest
from veilmatch.server.admission.revoked import Revoked, revoked_files, revoked_path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "revoked"


def asked(revoked: Revoked, said: Statement = SAID) -> CheckedRequest:
    made = certificate(said=said)
    recipients = Recipients(PUBLIC, revoked, lambda: NOW_S)
    request = signed(body(recipient=said.id), recipient_certificate=made.encode())
    return checker(recipients=recipients).check(request, *OPERATIONS)


def test_a_recipient_is_refused_by_name_while_its_file_is_there(folder: Path) -> None:
    revoked, other = Revoked(folder), replace(SAID, serial=b"o" * 16)
    assert asked(revoked).recipient == SAID
    file = revoked_path(folder, SAID.id)
    file.write_bytes(b"")
    with pytest.raises(RecipientRevokedError) as caught:
        asked(revoked)
    assert (caught.value.got, caught.value.code, caught.value.exit_status) == ("bank", "recipient_revoked", 4)
    assert caught.value.party == "matcher-a"
    assert asked(revoked, other).recipient == other, "a new certificate of the same name is another one"
    with pytest.raises(RecipientRevokedError):
        asked(Revoked(folder))
    file.unlink()
    assert asked(revoked).recipient == SAID


def test_whatever_the_file_is_its_name_counts(folder: Path) -> None:
    revoked, file = Revoked(folder), revoked_path(folder, SAID.id)
    for make in (file.mkdir, lambda: file.symlink_to("nowhere"), lambda: os.mkfifo(file)):
        make()
        with pytest.raises(RecipientRevokedError):
            asked(revoked)
        file.rmdir() if file.is_dir() else file.unlink()


def test_a_file_that_revokes_nobody_is_named_at_the_start(folder: Path) -> None:
    """By the recipient's name, say, or in upper case: it would be believed to count."""
    folder.mkdir()
    right = revoked_path(folder, SAID.id)
    wrong = [folder / "bank.revoked", folder / f"{SAID.id.hex().upper()}.revoked"]
    for file in (right, *wrong):
        file.touch()
    with capture_logs() as logs:
        Revoked(folder)
    named = [entry["file"] for entry in logs if entry["event"].startswith("revokes nobody")]
    assert sorted(named) == sorted(map(str, wrong))


def test_requests_without_a_recipient_do_not_need_the_folder(folder: Path) -> None:
    recipients = Recipients(PUBLIC, Revoked(folder), lambda: NOW_S)
    folder.rmdir()
    assert checker(recipients=recipients).check(signed(body()), "verify").recipient is None


def test_without_the_folder_nobody_is_served(folder: Path) -> None:
    revoked = Revoked(folder)
    folder.rmdir()
    for make in (lambda: None, lambda: folder.symlink_to("nowhere"), lambda: folder.write_bytes(b"")):
        folder.unlink(missing_ok=True)
        make()
        with pytest.raises(StorageError, match="revoked recipients"):
            asked(revoked)


def test_a_folder_that_is_not_there_is_made_and_one_that_cannot_be_is_named(folder: Path, tmp_path: Path) -> None:
    Revoked(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    for wrong in (tmp_path / "none" / "revoked", tmp_path / "file"):
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(ConfigurationError, match="revoked recipients") as caught:
            Revoked(wrong)
        assert str(wrong) in str(caught.value.got)


def test_only_ids_revoke(folder: Path) -> None:
    Revoked(folder)
    right = revoked_path(folder, bytes(32))
    names = (right.name, f"{'0' * 63}.revoked", f"{'A' * 64}.revoked", "0" * 64, f"{'0' * 64}.cert", "bank.revoked")
    for name in names:
        (folder / name).write_bytes(b"")
    assert revoked_files(folder) == [right]
