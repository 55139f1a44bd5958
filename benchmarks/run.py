"""Runs all benchmarks in their short versions and makes one page of what they print and draw.

    python benchmarks/run.py                          about a quarter of an hour; writes benchmarks/results/
    python benchmarks/run.py --only kernel --output x

For each benchmark NAME.json holds its figures and index.html the table that it prints and the plots that it draws,
with the command and the machine. One that fails is reported as failed, with what it printed last, and the others run
all the same.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from base64 import b64encode
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from pathlib import Path

#: Name and command line of every benchmark, run in the folder above this one; each also takes --json PATH.
BENCHMARKS = (
    ("kernel", "benchmarks/kernel.py"),
    ("constant_time", "benchmarks/constant_time.py --measurements 5000"),
    ("gates", "benchmarks/gates.py"),
    ("checks", "benchmarks/checks.py"),
    ("refill", "benchmarks/refill.py"),
    ("identify", "benchmarks/identify.py --slots 1000 10000"),
    ("damgard_jurik", "benchmarks/damgard_jurik.py"),
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
_STYLE = (
    "body{font-family:sans-serif;max-width:75em;margin:2em auto}pre{overflow-x:auto;line-height:1.15}"
    "img{max-width:100%}"
)


@dataclass(frozen=True)
class Run:
    """What became of one benchmark. printed: its table, or the end of its errors. plot: SVG, or nothing."""

    name: str
    command: str
    status: int
    seconds: float
    printed: str
    plot: bytes = b""


def main() -> None:
    """Run what is asked for; exit with 1 if any of it failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=HERE / "results", help="folder (default: %(default)s)")
    parser.add_argument("--only", action="append", choices=[name for name, _ in BENCHMARKS])
    options = parser.parse_args()
    from machine import cpu

    options.output.mkdir(parents=True, exist_ok=True)
    runs = []
    for name, command in BENCHMARKS:
        if options.only is None or name in options.only:
            print(f"{name}: python {command}", flush=True)
            runs.append(run(name, command, options.output))
            print(f"  {'done' if runs[-1].status == 0 else 'FAILED'} after {runs[-1].seconds:.0f} s", flush=True)
            text = page(runs, f"{os.cpu_count()} cores of {cpu()}", datetime.now(UTC))
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


def page(runs: list[Run], machine: str, when: datetime) -> str:
    """Return the page of these runs, HTML without any other file."""
    parts = [
        f"<h2>{escape(done.name)}</h2><p><code>{escape(done.command)}</code>, {done.seconds:.0f} s"
        + ("" if done.status == 0 else f", <strong>failed with status {done.status}</strong>")
        + f"</p><pre>{escape(done.printed)}</pre>"
        + (f'<img alt="{escape(done.name)}" src="data:image/svg+xml;base64,{b64encode(done.plot).decode()}">')
        * bool(done.plot)
        for done in runs
    ]
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8">'
        f"<title>Veilmatch benchmarks</title><style>{_STYLE}</style>"
        f"<h1>Veilmatch benchmarks</h1><p>{escape(machine)}, {when:%Y-%m-%d %H:%M} UTC</p>{''.join(parts)}</html>\n"
    )


if __name__ == "__main__":
    main()
