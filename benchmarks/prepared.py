"""What `prepared_searches` of matchers wins: searches from rest with and without, in turn.

    python benchmarks/prepared.py                        10,000 identities, D = 128 and 512; five minutes
    python benchmarks/prepared.py --quick                1,000, D = 128
    python benchmarks/prepared.py --json PATH            writes the figures as well

Six daemons over loopback and one device, started anew for every round of either way. CPU time is that of a matcher from
rest to answer; what it makes at rest afterwards is counted apart. Every answer is compared with that of the integers in
clear.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from daemons import cpu_seconds, wait_until_idle
from machine import cpu
from rich.console import Console
from rich.table import Table
from scaling import SETS, THRESHOLD, Gallery

from veilmatch.client.client import Client
from veilmatch.client.demo.parties import fresh_passphrase, hold_ceremony
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.crypto.rings.choice import choose
from veilmatch.server.supervisor import Supervisor

WAYS: dict[str, Mapping[str, str]] = {"without": {}, "prepared": {"VEILMATCH_PREPARED_SEARCHES": "1"}}
SEARCHES = 5
#: What is measured of a search.
FIGURES = ("total_s", "match_s", "decide_s", "matcher_cpu_s", "afterwards_cpu_s")


def main() -> None:
    """Measure, print, write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="D = 128, 1,000 identities, one round")
    parser.add_argument("--dimensions", type=int, nargs="+", choices=tuple(SETS), default=[128, 512])
    parser.add_argument("--identities", type=int, default=10_000, help="size of the gallery (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="of each way (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    if options.quick:
        options.dimensions, options.identities, options.rounds = [128], 1_000, 1
    console = Console(stderr=True)
    found = {d: measure(SETS[d], options.identities, options.rounds, console) for d in options.dimensions}
    figures = {"cpu": cpu(), "cores": os.cpu_count(), "backend": choose().backend, "searches": found}
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    show(found, options.identities)


def measure(
    parameters: ParameterSet, identities: int, rounds: int, console: Console
) -> dict[str, list[dict[str, float]]]:
    """Return the figures of every search, by way."""
    passphrase = fresh_passphrase()
    environment = {"VEILMATCH_PASSPHRASE": passphrase}
    gallery = Gallery.empty(parameters)
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory(prefix="veilmatch-bench-") as scratch:
        directory = Path(scratch) / "installation"
        hold_ceremony(directory, parameters.name, passphrase)
        with Supervisor(directory, environment) as parties, _started(directory, parties) as client:
            gallery.grow(client, identities, lambda *_: None)
        console.print(f"{parameters.name}: {identities:,} identities enrolled")
        for number in range(rounds):
            for way, variables in WAYS.items():
                with Supervisor(directory, environment | variables) as parties, _started(directory, parties) as client:
                    _ask(client, gallery)
                    found[way] += [_search(client, parties, gallery) for _ in range(SEARCHES)]
                console.print(f"  round {number + 1}, {way}: {statistics.median(_of(found[way], 'total_s')):.3f} s")
    return found


def _started(directory: Path, parties: Supervisor) -> Client:
    parties.start()
    parties.wait_ready()
    return Client.from_config(directory / "device-1" / "device.toml")


def _search(client: Client, parties: Supervisor, gallery: Gallery) -> dict[str, float]:
    wait_until_idle(parties)
    before = _matcher_s(parties)
    timings = _ask(client, gallery)
    after = _matcher_s(parties)
    time.sleep(2.0)  # they rest, and prepare
    return {
        **{figure: getattr(timings, figure) for figure in FIGURES[:3]},
        "matcher_cpu_s": after - before,
        "afterwards_cpu_s": _matcher_s(parties) - after,
    }


def _matcher_s(parties: Supervisor) -> float:
    spent = cpu_seconds(parties)
    return (spent["matcher-a"] + spent["matcher-b"]) / 2


def _ask(client: Client, gallery: Gallery) -> Any:
    found = client.candidates_embedding(gallery.probes[0], model="random", threshold=THRESHOLD, timeout_s=600.0)
    if set(found.subjects) != gallery.expected(0) or found.compared != gallery.identities:
        raise RuntimeError(f"{sorted(found.subjects)} for {sorted(gallery.expected(0))}, {found.compared} compared")
    return found.timings


def _of(searches: list[dict[str, float]], figure: str) -> list[float]:
    return [search[figure] for search in searches]


def show(found: dict[int, dict[str, list[dict[str, float]]]], identities: int) -> None:
    """Print a table for each dimension: medians, and the least of each."""
    for dimension, ways in found.items():
        table = Table("ms, median (least)", *ways, title=f"candidates over {identities:,}, D = {dimension}")
        for figure in FIGURES:
            cells = [_of(searches, figure) for searches in ways.values()]
            table.add_row(figure, *(f"{1e3 * statistics.median(c):.1f} ({1e3 * min(c):.1f})" for c in cells))
        Console(file=sys.stdout, width=110).print(table)


if __name__ == "__main__":
    main()
