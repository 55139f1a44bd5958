"""The benchmark of catching up, small: everything is taken, and both galleries are read meanwhile."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_changes_and_a_snapshot_are_measured_while_queries_go_on(tmp_path: Path) -> None:
    written = tmp_path / "figures.json"
    benchmark = [sys.executable, str(ROOT / "benchmarks" / "catch_up.py")]
    small = ["--parameters", "UNSAFE-d128-s126-c38-l46-n1024", "--changes", "30", "--templates", "300"]
    done = subprocess.run([*benchmark, *small, "--json", str(written)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    figures = json.loads(written.read_text())
    for name, templates in {"30 changes": 30, "snapshot of 300 templates": 300}.items():
        found = figures[name]
        assert found["templates"] == templates and found["megabytes"] > 0
        assert found["reads_where_behind"] and found["reads_where_followed"]
