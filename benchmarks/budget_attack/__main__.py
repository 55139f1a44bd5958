"""Runs the attacks and prints the tables; see the package."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import benchmarks.budget_attack
from benchmarks.budget_attack import faces, templates
from benchmarks.budget_attack.belief import START_COSINE
from benchmarks.budget_attack.device import THRESHOLD, P


def shown(title: str, figures: Mapping[str, Mapping[int, float]], form: str) -> Table:
    table = Table("questions", *figures, title=title)
    for n in next(iter(figures.values())):
        table.add_row(f"{n:,}", *(f"{column[n]:{form}}" for column in figures.values()))
    return table


def shown_rates(found: Mapping[str, Mapping[str, float]]) -> Table:
    title = "photos of strangers that match, and of the same person that do not"
    table = Table("threshold", "strangers", "lengthened strangers", "own, refused", title=title)
    for bound, rate in found.items():
        table.add_row(bound, f"{rate['fmr']:.5f}", f"{rate['fmr_longest']:.5f}", f"{rate['fnmr']:.2%}")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=(benchmarks.budget_attack.__doc__ or "").splitlines()[0])
    parser.add_argument("--templates", type=int, default=20, help="random templates; medians are shown")
    parser.add_argument("--people", type=int, default=0, help="people of the ORL photos, 1 to 40; 0: no faces")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    options = parser.parse_args()
    started, console = time.perf_counter(), Console()
    cosines: dict[str, dict[int, float]] = {}
    for name in templates.ATTACKS:
        with console.status(name):
            cosines[name] = templates.run(name, options.templates, options.seed)
    console.print(shown(f"cosine with the template, median of {options.templates}", cosines, ".2f"))
    document: dict[str, Any] = {
        "parameter_set": P.name, "threshold": THRESHOLD, "start_cosine": START_COSINE, "cosine": cosines,
        "templates": options.templates, "seed": options.seed,
    }  # fmt: skip
    if options.people:
        document |= {"people": options.people} | on_faces(options.people, options.seed, console)
    if options.json:
        options.json.write_text(json.dumps(document | {"seconds": round(time.perf_counter() - started, 1)}) + "\n")


def on_faces(people: int, seed: int, console: Console) -> dict[str, Any]:
    """Run the attacks on faces, print their tables and return the figures."""
    known, passed = faces.orl_faces(), {}
    for name in faces.ATTACKS:
        with console.status(name):
            passed[name] = faces.run(known, name, people, seed)
    found = faces.rates(known)
    console.print(shown(f"templates of {people} people with a probe that passes", passed, ".1%"))
    console.print(shown_rates(found))
    return {"passed": passed, "rates": found}


if __name__ == "__main__":
    main()
