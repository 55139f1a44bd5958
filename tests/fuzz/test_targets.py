"""The coverage-guided target runs for half a minute and finds nothing; a planted fault it does find.

It runs in processes of its own, because it instruments what it imports and ends its process itself. Atheris has
wheels for Linux on x86-64 only; elsewhere the decoders are left to test_decoders.py.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SECONDS = 30
ROOT = Path(__file__).parents[2]
PLANTED = """
from tests.fuzz import guided
from tests.fuzz.decoders import Decoder

def check(data):
    {fault}

guided.DECODERS["planted"] = Decoder(lambda: [b"a", b"b"], check)
guided.main(5, ["planted"])
"""


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"TMPDIR": str(folder)}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=SECONDS + 90)


def finds(folder: Path) -> list[Path]:
    return [path for path in folder.glob("veilmatch-fuzz-*/*") if path.is_file()]


if importlib.util.find_spec("atheris"):

    def test_no_input_escapes(tmp_path: Path) -> None:
        done = run(tmp_path, "-m", "tests.fuzz.guided", str(SECONDS))
        assert done.returncode == 0 and finds(tmp_path) == [], done.stdout[-4000:] + done.stderr[-1000:]
        units = re.search(r"number_of_executed_units: (\d+)", done.stderr)
        added = re.search(r"new_units_added: +(\d+)", done.stderr)
        assert units and int(units[1]) > 5000, "far fewer inputs than in a tenth of the time on a slow machine"
        assert added and int(added[1]) > 50, "coverage tells which inputs to keep"

    @pytest.mark.parametrize(
        ("fault", "sign"),
        [
            ("assert len(data) < 4", "AssertionError"),
            ("while data: pass", "timeout"),
            ("bytearray(2 << 30)", "MemoryError"),
        ],
        ids=["an exception", "a hang", "a gigabyte"],
    )
    def test_a_planted_fault_is_found(fault: str, sign: str, tmp_path: Path) -> None:
        done = run(tmp_path, "-c", PLANTED.format(fault=fault))
        assert done.returncode != 0 and sign in done.stdout + done.stderr
        assert len(finds(tmp_path)) == 1
