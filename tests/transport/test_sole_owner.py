"""One daemon at a time holds a data directory, and nothing of it outlives the process."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from veilmatch.crypto.errors import ConfigurationError
from veilmatch.server.transport.daemon import sole_owner

HOLD = """
import os, signal, subprocess, sys
from pathlib import Path
from veilmatch.server.transport.daemon import sole_owner

with sole_owner(Path(sys.argv[1])):
    child = subprocess.Popen(["sleep", "60"])
    os.write(1, f"{child.pid}\\n".encode())
    signal.pause()
"""


def held(data_dir: Path, holder: int | None = None) -> bool:
    try:
        with sole_owner(data_dir):
            return False
    except ConfigurationError as error:
        assert "another daemon" in error.message and str(data_dir) in str(error)
        assert holder is None or error.got == f"{data_dir}: process {holder}"
        return True


def test_a_directory_is_held_while_its_daemon_runs_and_free_afterwards(tmp_path: Path) -> None:
    with sole_owner(tmp_path):
        assert held(tmp_path, os.getpid())
        assert held(tmp_path, os.getpid())
    assert not held(tmp_path)


def test_a_daemon_that_fails_frees_its_directory(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="wrong"), sole_owner(tmp_path):
        raise ValueError("wrong")
    assert not held(tmp_path)


def test_directories_are_held_one_by_one(tmp_path: Path) -> None:
    with sole_owner(tmp_path / "matcher-a"), sole_owner(tmp_path / "matcher-b"):
        assert held(tmp_path / "matcher-a") and held(tmp_path / "matcher-b")


def test_a_new_directory_is_for_its_owner_only(tmp_path: Path) -> None:
    data_dir = tmp_path / "new" / "data"
    with sole_owner(data_dir):
        assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700


def test_a_link_to_a_held_directory_is_held(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "data")
    with sole_owner(tmp_path / "data"):
        assert held(tmp_path / "link")


def test_the_lock_ends_with_a_process_that_is_killed_and_its_children_do_not_keep_it(tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        assert held(tmp_path, process.pid)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        try:
            assert not held(tmp_path)
            assert Path(f"/proc/{child}").exists()
        finally:
            subprocess.run(["kill", "-9", str(child)], check=True)


def file_in_its_place(path: Path) -> None:
    path.write_text("")


def link_to_a_file(path: Path) -> None:
    path.symlink_to(__file__)


def folder_for_the_lock(path: Path) -> None:
    (path / "lock").mkdir(parents=True)


def folder_that_takes_no_files(path: Path) -> None:
    path.symlink_to("/proc/self/fdinfo")


@pytest.mark.parametrize("spoil", [file_in_its_place, link_to_a_file, folder_for_the_lock, folder_that_takes_no_files])
def test_a_place_that_cannot_be_held_is_a_configuration_error(tmp_path: Path, spoil: object) -> None:
    spoil(tmp_path / "data")  # type: ignore[operator]
    with pytest.raises(ConfigurationError, match=r"cannot be used.*data"), sole_owner(tmp_path / "data"):
        pytest.fail("it was held")
