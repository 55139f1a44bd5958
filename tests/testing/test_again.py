"""What has a second try: tests/again.py."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.again import MOST_FILES, ONE_TRY, ROOT, failed_tests, files_of, try_again, why_not

#: Two tests share what the file counts. The second fails in the first process that runs it, whatever is tried again
#: within that process.
BUSY = """
import pathlib

begun = pathlib.Path(__file__).with_suffix(".begun")
first = not begun.exists()
begun.touch()
steps = []

def test_a_step():
    steps.append("one")

def test_the_next_step():
    assert steps == ["one"]
    assert not first
"""
WRONG = "def test_it():\n    assert False\n"
RIGHT = "def test_it():\n    pass\n"


@pytest.fixture(autouse=True)
def an_environment_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """What this run of pytest was told, and what it tells its processes, is not for the runs in here."""
    for name in [name for name in os.environ if name.startswith("PYTEST_")]:
        monkeypatch.delenv(name)


def ran(folder: Path, **files: str) -> int:
    """Write test files, by folder of tests, and run all; return pytest's exit status."""
    for name, text in files.items():
        place = folder / "tests" / name
        place.mkdir(parents=True)
        (place / f"test_{name}.py").write_text(text)
    return subprocess.run([sys.executable, "-m", "pytest", "-q"], cwd=folder, capture_output=True).returncode


def test_a_file_is_tried_whole_and_its_second_try_counts(tmp_path: Path) -> None:
    assert ran(tmp_path, busy=BUSY, right=RIGHT) == 1
    assert failed_tests(tmp_path) == ["tests/busy/test_busy.py::test_the_next_step"]
    assert try_again(tmp_path) == 0


def test_what_fails_again_has_failed(tmp_path: Path) -> None:
    assert ran(tmp_path, busy=BUSY, wrong=WRONG) == 1
    assert try_again(tmp_path) == 1


@pytest.mark.parametrize("folder", ONE_TRY)
def test_what_computes_or_attacks_has_one_try(tmp_path: Path, folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert ran(tmp_path, **{folder: BUSY}) == 1
    assert try_again(tmp_path) == 1
    assert f"tests/{folder}/test_{folder}.py" in capsys.readouterr().out
    assert (ROOT / "tests" / folder).is_dir()


def test_many_files_are_no_accident() -> None:
    tests = [f"tests/e2e/test_{i}.py::test_{j}" for i in range(MOST_FILES) for j in range(3)]
    assert why_not(files_of(tests)) is None
    assert f"{MOST_FILES + 1} files" in (why_not(files_of([*tests, "tests/e2e/test_another.py"])) or "")


def test_where_no_test_failed_pytest_ended_for_another_reason(tmp_path: Path) -> None:
    assert try_again(tmp_path) == 1
