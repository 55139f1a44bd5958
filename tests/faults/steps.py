"""Kills at every step of an enrolment: `python -m tests.faults.steps [--runs 50] [--json PATH]`.

A step is one kind of message, from the device's request to the answer: the hello of the key holders, their openings,
the layers of gates, the shares for the matchers, the columns they exchange, the two phases of the change. At each of
them every daemon that receives or answers such a message is killed, `runs` times together, in enrolments of valid
vectors and of one that is none; harness.py says what has to hold afterwards.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.faults.harness import PARTIES, Faults, faults

ENROLMENTS = ("enrol", "refused")


def steps(dying: Faults, operation: str) -> dict[str, list[tuple[str, int]]]:
    """Return where each step is: (party, number of the message), in the order in which they come."""
    found: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for party in PARTIES:
        for number, name in enumerate(dying.names(party, operation), start=1):
            found[name].append((party, number))
    return found


def kill_at(dying: Faults, operation: str, step: str, places: list[tuple[str, int]], runs: int) -> dict[str, Any]:
    """Kill `runs` times at a step, at its places in turn. A check that fails ends everything."""
    chosen = [places[i * len(places) // runs] if runs < len(places) else places[i % len(places)] for i in range(runs)]
    outcomes = [dying.kill_during(party, operation, at) for party, at in chosen]
    return {
        "step": step,
        "operation": operation,
        "places": len(places),
        "runs": runs,
        "died": sum(outcome.died for outcome in outcomes),
        "answered": sum(outcome.answered for outcome in outcomes),
        "wrong": 0,
        "lost": 0,
    }


def main() -> None:
    """Run everything and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=50, help="kills at each step")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    progress, table = Console(stderr=True), Table("step", "enrolment of", "places", "kills", "told all the same")
    with tempfile.TemporaryDirectory(prefix="veilmatch-steps-") as folder, faults(Path(folder) / "x") as dying:
        rows = []
        for operation in ENROLMENTS:
            # One that is refused has the same steps; a few kills at each show that it is told again.
            runs = options.runs if operation == "enrol" else max(1, options.runs // 10)
            for step, places in steps(dying, operation).items():
                rows.append(kill_at(dying, operation, step, places, runs))
                progress.print(rows[-1])
        reserved = dying.reserved()
    for row in rows:
        what = "a valid vector" if row["operation"] == "enrol" else "no valid vector"
        table.add_row(row["step"], what, str(row["places"]), f"{row['died']} of {row['runs']}", str(row["answered"]))
    console = Console()
    console.print(table)
    console.print(f"0 wrong decisions, 0 lost or doubled; {reserved} ranges of stock handed out, none of them twice")
    if options.json:
        options.json.write_text(json.dumps({"steps": rows, "ranges_of_stock": reserved}, indent=1) + "\n")


if __name__ == "__main__":
    main()
