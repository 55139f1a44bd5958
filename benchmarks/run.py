"""Runs the benchmarks in short versions and makes one page of what they print and draw.

    python -m benchmarks.run                          a quarter to half an hour; writes benchmarks/results/
    python -m benchmarks.run --only kernel --output x

For each benchmark NAME.json holds its figures and index.html the table that it prints and the plots that it draws,
with the command and the machine. One that fails is reported as failed, with what it printed last, and the others run
all the same.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.machine import cpu
from benchmarks.page import Run, page

#: Name and command line of every benchmark, run in the folder above this one; each also takes --json PATH.
BENCHMARKS = (
    ("kernel", "benchmarks/kernel.py"),
    ("constant_time", "benchmarks/constant_time.py --measurements 5000"),
    ("gates", "benchmarks/gates.py"),
    ("checks", "benchmarks/checks.py"),
    ("refill", "benchmarks/refill.py"),
    ("identify", "benchmarks/identify.py --slots 1000 10000"),
    ("known", "benchmarks/known.py --quick"),
    ("cards", "benchmarks/cards.py --quick"),
    ("damgard_jurik", "benchmarks/damgard_jurik.py"),
    ("ceremony", "benchmarks/ceremony.py --quick"),
    ("system", "benchmarks/system.py"),
    ("system_512", "benchmarks/system.py --parameters d512-s120-c18-l46-n3072 --identities 2000"),
    ("network", "benchmarks/network.py --quick"),
    ("load", "benchmarks/load.py --quick"),
    ("query_profile", "benchmarks/query_profile.py --quick"),
    ("scaling", "benchmarks/scaling.py --quick"),
    ("budget_attack", "-m benchmarks.budget_attack --templates 5 --people 5"),
    ("quantisation", "benchmarks/quantisation.py --quick"),
    ("peers", "-m benchmarks.peers --quick"),
)
#: Those that take --plots FOLDER, and draw NAME.svg and NAME.png there.
DRAWING = ("network", "load", "query_profile", "scaling", "quantisation", "peers")
HERE = Path(__file__).parent


def main() -> None:
    """Run what is asked for; exit with 1 if any of it failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=HERE / "results", help="folder (default: %(default)s)")
    parser.add_argument("--only", action="append", choices=[name for name, _ in BENCHMARKS])
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    runs = []
    for name, command in BENCHMARKS:
        if options.only is None or name in options.only:
            print(f"{name}: python {command}", flush=True)
            runs.append(run(name, command, options.output))
            print(f"  {'done' if runs[-1].status == 0 else 'FAILED'} after {runs[-1].seconds:.0f} s", flush=True)
            where = f"{os.cpu_count()} cores of {cpu()}"
            text = page(runs, figures_of(runs, options.output), where, datetime.now(UTC))
            (options.output / "index.html").write_text(text)
    sys.exit(any(done.status for done in runs))


def run(name: str, command: str, output: Path) -> Run:
    """Run one benchmark; its figures go to NAME.json in `output`, its plot to the page alone, which keeps it small."""
    figures = output.absolute() / f"{name}.json"
    figures.unlink(missing_ok=True)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="veilmatch-bench-") as scratch:
        done = subprocess.run(
            [
                sys.executable, *command.split(), "--json", str(figures),
                *(["--plots", scratch] if name in DRAWING else []),
            ],
            cwd=HERE.parent,
            env=os.environ | {"COLUMNS": "140"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )  # fmt: skip
        drawn = Path(scratch) / f"{name}.svg"
        plot = drawn.read_bytes() if drawn.exists() else b""
    printed = done.stdout if done.returncode == 0 else done.stdout + done.stderr[-3000:]
    return Run(name, f"python {command}", done.returncode, time.monotonic() - started, printed, plot)


def figures_of(runs: list[Run], output: Path) -> dict[str, Any]:
    """Return the figures of these runs, by name; of one that failed there are none."""
    files = {done.name: output / f"{done.name}.json" for done in runs if done.status == 0}
    return {name: json.loads(path.read_text()) for name, path in files.items() if path.is_file()}


if __name__ == "__main__":
    main()
