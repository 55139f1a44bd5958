"""Before and after in one run: what runs, in which order, and what is compared."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmarks import against


def test_both_get_the_options_of_the_benchmark_and_none_of_the_comparison() -> None:
    given = ["--against", "main", "--quick", "--rounds=5", "--json", "x", "--delays", "0", "10", "--plots", "y"]
    assert against.passed_on([*given, "--timeline", "z.svg", "--timeline-of", "verify"]) == [
        "--quick", "--delays", "0", "10", "--timeline-of", "verify",
    ]  # fmt: skip


def test_runs_take_turns_in_beginning() -> None:
    order: list[str] = []

    def running(name: str) -> against.Run:
        def run() -> dict[str, Any]:
            order.append(name)
            return {"figure": len(order)}

        return run

    found = against.in_turn({"then": running("then"), "now": running("now")}, lambda f: {"n": f["figure"]}, 3)
    assert order == ["then", "now", "now", "then", "then", "now"]
    assert found == [{"then": {"n": 1}, "now": {"n": 2}}, {"now": {"n": 3}, "then": {"n": 4}},
                     {"then": {"n": 5}, "now": {"n": 6}}]  # fmt: skip


def test_ratios_are_of_runs_in_one_round() -> None:
    # The machine is three times slower in the last round, for both.
    rounds = [
        {"then": {"x": 100.0, "gone": 1.0}, "now": {"x": 50.0}},
        {"then": {"x": 100.0, "gone": 1.0}, "now": {"x": 60.0, "new": 1.0}},
        {"then": {"x": 300.0, "gone": 1.0}, "now": {"x": 150.0}},
    ]
    assert against.ratios(rounds) == {"x": {"then": 100.0, "now": 60.0, "ratio": 0.5, "least": 0.5, "most": 0.6}}


def test_a_figure_that_was_nothing_has_no_ratio() -> None:
    assert against.ratios([{"then": {"x": 0.0}, "now": {"x": 1.0}}]) == {}


def git(repository: Path, *arguments: str) -> str:
    command = ["git", "-C", str(repository), "-c", "user.name=x", "-c", "user.email=x@example.org", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_a_revision_is_unpacked_as_it_was_committed(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    repository.mkdir()
    git(repository, "init", "--quiet")
    commits = []
    for text in ("first", "second"):
        (repository / "file").write_text(text)
        git(repository, "add", "file")
        git(repository, "commit", "--quiet", "--message", text)
        commits.append(git(repository, "rev-parse", "HEAD"))
    (repository / "file").write_text("not committed")
    for revision, commit, text in (("HEAD", commits[1], "second"), ("HEAD~1", commits[0], "first")):
        folder = tmp_path / text
        assert against.unpack(repository, revision, folder) == commit
        assert (folder / "file").read_text() == text
    assert (repository / "file").read_text() == "not committed"
    with pytest.raises(SystemExit, match="no-such-revision"):
        against.unpack(repository, "no-such-revision", tmp_path / "none")


SCRIPT = """
import json, pathlib, sys
assert "PYTHONPATH" not in __import__("os").environ
target = pathlib.Path(sys.argv[sys.argv.index("--json") + 1])
target.write_text(json.dumps({"python": sys.executable, "options": sys.argv[1:-2]}))
"""


def test_a_comparison_runs_the_script_of_this_checkout_with_both_interpreters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script, other = tmp_path / "script.py", tmp_path / "python"
    script.write_text(SCRIPT)
    other.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    other.chmod(0o755)
    ran: list[tuple[Path, list[str]]] = []
    plain = against.run

    def run(python: Path, script: Path, arguments: list[str]) -> dict[str, Any]:
        ran.append((python, arguments))
        return plain(python, script, arguments)

    @contextmanager
    def installed(revision: str) -> Iterator[tuple[Path, str]]:
        assert revision == "before"
        yield other, "c" * 40

    monkeypatch.setattr(against, "installed", installed)
    monkeypatch.setattr(against, "run", run)
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    options = argparse.Namespace(against="before", rounds=1, json=tmp_path / "ratios.json")
    against.compare(script, lambda f: {"options": len(f["options"])}, options, ["--against", "before", "--quick"])
    assert ran == [(other, ["--quick"]), (Path(sys.executable), ["--quick"])]
    document = json.loads((tmp_path / "ratios.json").read_text())
    assert document["commit"] == "c" * 40 and document["ratios"]["options"]["ratio"] == 1.0
    assert "then is before" in capsys.readouterr().out


def test_a_run_that_fails_ends_the_comparison_with_its_errors(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("raise ImportError('no such name in that revision')")
    with pytest.raises(SystemExit, match="no such name in that revision"):
        against.run(Path(sys.executable), script, [])
