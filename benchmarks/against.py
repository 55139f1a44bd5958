"""Before and after in one run: the same figures of this checkout and of another revision of it, in turn.

    python benchmarks/network.py --against HEAD~20 --rounds 5 --quick
    python benchmarks/load.py --against 0123abc --quick
    python benchmarks/system.py --against main --identities 2000

The revision is taken out of git into a temporary folder and installed there, in a virtual environment of its own. Then
the benchmark runs with this interpreter and with that one, in turn: the script and its options are the same, those of
this checkout, so a revision whose interfaces it does not know cannot be compared. What is printed is the ratio in each
round, because two runs of a round have the same machine, and neither hour of a shared machine is the truth.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

ROOT = Path(__file__).parents[1]
#: What benchmarks need of the package's extras; no figure is of photos.
EXTRAS = "server,test"
#: Names of figures, with their units, and their values.
Headline = Callable[[dict[str, Any]], dict[str, float]]
#: Runs the benchmark, and returns what it wrote.
Run = Callable[[], dict[str, Any]]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what every benchmark has that can be compared with another revision."""
    parser.add_argument("--against", metavar="REVISION", help="compare with this revision of the repository, in turn")
    parser.add_argument("--rounds", type=int, default=3, help="of both, with --against (default: %(default)s)")


def compare(script: Path, headline: Headline, options: argparse.Namespace, arguments: Sequence[str]) -> None:
    """Run a benchmark here and as of `options.against`; print the ratios, and write them to `options.json`.

    headline: which of its figures are compared. arguments: of the command line, for both, but for those of this module
    and those that draw.
    """
    rest = passed_on(arguments)
    with installed(options.against) as (python, commit):
        runs: dict[str, Run] = {
            "then": lambda: run(python, script, rest),
            "now": lambda: run(Path(sys.executable), script, rest),
        }
        rounds = in_turn(runs, headline, options.rounds)
    found = ratios(rounds)
    show(found, f"{script.stem}: then is {options.against} ({commit[:10]}); rounds: {options.rounds}")
    if options.json:
        document = {"against": options.against, "commit": commit, "rounds": rounds, "ratios": found}
        options.json.write_text(json.dumps(document, indent=1) + "\n")


def passed_on(arguments: Sequence[str]) -> list[str]:
    """Return what of a command line is for the benchmark itself."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    add_options(parser)
    for name in ("--json", "--plots", "--timeline"):
        parser.add_argument(name)
    return parser.parse_known_args(list(arguments))[1]


def in_turn(runs: dict[str, Run], headline: Headline, rounds: int) -> list[dict[str, dict[str, float]]]:
    """Return the figures of each round by the name of a run. Every other round has them the other way round."""
    console, found = Console(stderr=True), []
    for number in range(rounds):
        figures = {}
        for name in list(runs)[:: -1 if number % 2 else 1]:
            console.print(f"round {number + 1} of {rounds}: {name}")
            figures[name] = headline(runs[name]())
        found.append(figures)
    return found


def ratios(rounds: Sequence[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Return, for every figure that both runs have, both medians and the ratios of now to then: median, least, most."""
    found = {}
    for name in rounds[0]["now"]:
        pairs = [
            (each["then"][name], each["now"][name]) for each in rounds if name in each["then"] and name in each["now"]
        ]
        quotients = [now / then for then, now in pairs if then]
        if quotients:
            then, now = (statistics.median(side) for side in zip(*pairs, strict=True))
            found[name] = {
                "then": then, "now": now, "ratio": statistics.median(quotients), "least": min(quotients),
                "most": max(quotients),
            }  # fmt: skip
    return found


def show(found: dict[str, dict[str, float]], title: str) -> None:
    """Print the table."""
    table = Table("figure", "then", "now", "now / then", "in each round, from", "to", title=escape(title))
    for name, f in found.items():
        values = (f"{f['then']:,.4g}", f"{f['now']:,.4g}", f"{f['ratio']:.3f}", f"{f['least']:.3f}", f"{f['most']:.3f}")
        table.add_row(escape(name), *values)
    Console(width=140).print(table)


@contextmanager
def installed(revision: str) -> Iterator[tuple[Path, str]]:
    """Install a revision in a temporary folder; gives the interpreter of its environment, and its commit.

    Raises SystemExit, with what git or pip printed, if that does not work.
    """
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="veilmatch-against-") as scratch:
        source, environment = Path(scratch) / "source", Path(scratch) / "environment"
        commit = unpack(ROOT, revision, source)
        console.print(f"installing {revision} ({commit[:10]})")
        _do(sys.executable, "-m", "venv", environment)
        python = environment / "bin" / "python"
        fixed = ["-c", str(source / "constraints.txt")] if (source / "constraints.txt").exists() else []
        _do(python, "-m", "pip", "install", "--quiet", *fixed, f"{source}[{EXTRAS}]")
        yield python, commit


def unpack(repository: Path, revision: str, folder: Path) -> str:
    """Write the files of a revision to a new folder; return its commit. Raises SystemExit if there is none."""
    commit = _do("git", "-C", repository, "rev-parse", "--verify", f"{revision}^{{commit}}").strip()
    archive = folder.with_suffix(".tar")
    _do("git", "-C", repository, "archive", "--output", archive, commit)
    shutil.unpack_archive(archive, folder, filter="data")
    archive.unlink()
    return commit


def run(python: Path, script: Path, arguments: Sequence[str]) -> dict[str, Any]:
    """Run a benchmark with an interpreter and return what it wrote. Raises SystemExit with its errors if it fails."""
    with tempfile.TemporaryDirectory(prefix="veilmatch-against-") as scratch:
        figures = Path(scratch) / "figures.json"
        # Only from its own environment.
        variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        _do(python, script.absolute(), *arguments, "--json", figures, cwd=Path(scratch), env=variables)
        document: dict[str, Any] = json.loads(figures.read_text())
        return document


def _do(*command: object, **more: Any) -> str:
    """Run a command and return what it printed."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, **more)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}: exit status {done.returncode}\n{done.stderr[-3000:]}")
    return done.stdout
