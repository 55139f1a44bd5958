"""Files are written whole or not at all, and secrets are closed from their first byte."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from veilmatch.server.installation import files
from veilmatch.server.installation.files import write_file


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_holds_what_was_written(tmp_path: Path) -> None:
    write_file(tmp_path / "f", b"old")
    write_file(tmp_path / "f", b"new")
    assert (tmp_path / "f").read_bytes() == b"new"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_a_secret_is_never_open_to_others_not_even_while_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def look(descriptor: int) -> None:
        seen.append(stat.S_IMODE(os.fstat(descriptor).st_mode))

    monkeypatch.setattr(files.os, "fsync", look)
    before = os.umask(0)
    try:
        write_file(tmp_path / "secret", b"x", secret=True)
        write_file(tmp_path / "public", b"x")
    finally:
        os.umask(before)
    assert seen[0] == 0o600
    assert (mode_of(tmp_path / "secret"), mode_of(tmp_path / "public")) == (0o600, 0o644)


def test_a_secret_replaces_an_open_file_by_a_closed_one(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"open")
    (tmp_path / "f").chmod(0o666)
    write_file(tmp_path / "f", b"secret", secret=True)
    assert mode_of(tmp_path / "f") == 0o600


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_a_failure_at_any_step_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    write_file(tmp_path / "f", b"old")

    def fail(*_args: object) -> None:
        raise OSError(28, "No space left on device")

    if step == "write":
        with pytest.raises(TypeError):
            write_file(tmp_path / "f", "not bytes")  # type: ignore[arg-type]
    else:
        monkeypatch.setattr(*((files.os, "fsync") if step == "fsync" else (Path, "replace")), fail)
        with pytest.raises(OSError, match="No space"):
            write_file(tmp_path / "f", b"new")
    assert (tmp_path / "f").read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_a_reader_sees_the_old_or_the_new_file_never_a_mixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, seen = tmp_path / "f", []
    write_file(path, b"o" * 100_000)
    real = os.fsync
    monkeypatch.setattr(files.os, "fsync", lambda descriptor: (seen.append(path.read_bytes()), real(descriptor)))
    write_file(path, b"n" * 100_000)
    assert set(seen) == {b"o" * 100_000, b"n" * 100_000}


def test_the_data_is_durable_before_its_name_and_the_name_before_the_return(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    real_replace = Path.replace

    def note_fsync(descriptor: int) -> None:
        steps.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")

    def note_replace(self: Path, target: Path) -> Path:
        steps.append("rename")
        return real_replace(self, target)

    monkeypatch.setattr(files.os, "fsync", note_fsync)
    monkeypatch.setattr(Path, "replace", note_replace)
    write_file(tmp_path / "f", b"x")
    assert steps == ["file", "rename", "folder"]
