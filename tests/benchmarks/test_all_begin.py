"""Every benchmark finds what it imports, whether `make bench` runs it or not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "benchmarks"
IMPORT_ALL = """
import importlib, pathlib, sys
for file in sorted(pathlib.Path(sys.path[0]).glob("*.py")):
    if file.stem != "__init__":
        importlib.import_module(file.stem)
        print(file.stem)
"""


def test_all_are_imported() -> None:
    program = f"import sys; sys.path.insert(0, {str(FOLDER)!r})\n{IMPORT_ALL}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) == {file.stem for file in FOLDER.glob("*.py")} - {"__init__"}
