"""A second try of the files whose tests failed: whole, alone on the machine, in one process.

    python -m pytest || python -m tests.again

Where tests have real processes, clocks and lines, a machine that does many other things can fail one. A file is tried
whole: its tests share an installation, and one that failed has left it somewhere on its way. Six files at most, and
none of those that compute or attack: these have one try. Which ones they are is what pytest's cache says of the last
run; the first failures stand above what this prints.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
#: Folders of tests that have one try.
ONE_TRY = ("attacks", "capture", "crypto", "enumeration", "evaluation", "fuzz", "kernel")
MOST_FILES = 6
#: What pytest keeps of the last run, in the folder that it ran in.
LAST_FAILED = Path(".pytest_cache", "v", "cache", "lastfailed")


def failed_tests(folder: Path) -> list[str]:
    """Return the names of the tests that failed in the last run in a folder, as pytest prints them."""
    try:
        return sorted(json.loads((folder / LAST_FAILED).read_text()))
    except FileNotFoundError:
        return []


def files_of(tests: Iterable[str]) -> list[str]:
    """Return the files of tests, each once."""
    return sorted({test.partition("::")[0] for test in tests})


def why_not(files: Sequence[str]) -> str | None:
    """Return why these files have no second try, None if they have."""
    if not files:
        return "no test failed: pytest ended for another reason"
    if once := [file for file in files if Path(file).parts[1] in ONE_TRY]:
        return f"no second try: what computes, and what attacks, has one ({', '.join(once)})"
    if len(files) > MOST_FILES:
        return f"no second try: tests of {len(files)} files failed, and {MOST_FILES} files have one at most"
    return None


def try_again(folder: Path) -> int:
    """Try the files of the tests that failed in the last run in a folder; return pytest's exit status, or 1."""
    tests = failed_tests(folder)
    files = files_of(tests)
    if refusal := why_not(files):
        print(refusal)
        return 1
    print("Failed, and tried once more, each with all of its file:")
    print("".join(f"  {test}\n" for test in tests), flush=True)
    return subprocess.run([sys.executable, "-m", "pytest", "-n", "0", *files], cwd=folder).returncode


if __name__ == "__main__":
    sys.exit(try_again(ROOT))
