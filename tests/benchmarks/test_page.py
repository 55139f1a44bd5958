"""The page of all benchmarks."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from benchmarks.run import BENCHMARKS, DRAWING, HERE, Run, page, run

WHEN = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)


def test_page_names_machine_commands_and_what_was_printed() -> None:
    text = page([Run("kernel", "python benchmarks/kernel.py", 0, 12.3, "a < b\n")], "2 cores of X", WHEN)
    assert "2 cores of X, 2026-01-02 03:04 UTC" in text
    assert "<code>python benchmarks/kernel.py</code>, 12 s</p>" in text
    assert "<pre>a &lt; b\n</pre>" in text
    assert "failed" not in text


def test_plots_are_in_the_page_itself() -> None:
    runs = [Run("scaling", "x", 0, 1.0, "", b"<svg></svg>"), Run("gates", "x", 0, 1.0, "")]
    text = page(runs, "X", WHEN)
    assert text.count("<img") == 1
    assert "data:image/svg+xml;base64,PHN2Zz48L3N2Zz4=" in text


def test_a_benchmark_that_fails_is_reported_with_its_errors(tmp_path: Path) -> None:
    done = run("gates", "benchmarks/gates.py --no-such-option", tmp_path)
    assert done.status != 0
    assert "no-such-option" in done.printed
    assert f"failed with status {done.status}" in page([done], "X", WHEN)


def test_every_benchmark_is_there() -> None:
    scripts = [command.split()[0] for _, command in BENCHMARKS if command.endswith(".py")]
    assert scripts and all((HERE.parent / script).is_file() for script in scripts)
    assert set(DRAWING) <= {name for name, _ in BENCHMARKS}
    assert len({name for name, _ in BENCHMARKS}) == len(BENCHMARKS)
