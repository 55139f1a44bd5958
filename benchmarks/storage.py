"""A matcher's galleries in a file and in PostgreSQL: what a change takes in each, one after the other in the same run.

    python benchmarks/storage.py                      100 enrolments, 100 erasures, 10 bulk enrolments
    python benchmarks/storage.py --folder /var/lib    on that disk, both
    python benchmarks/storage.py --quick --json PATH

A change is what a matcher does on disk: it promises a ballot, accepts and commits, three transactions that are durable
each. The contents are random bytes of the size of ciphertexts. PostgreSQL is a server of its own with its defaults, on
a socket, with its data on the same disk as the file. CPU time is that of this process, and of the server and its
sessions. Everything else of an enrolment, the ciphertexts above all, is the same in both and not in these figures.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from catch_up import BULK_PACKS, KEY_ID, KEYS, NAME, made, pack_of
from machine import cpu
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.storage.postgres import PostgresServer
from veilmatch.crypto.gallery_change import next_chain
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.server.matcher.agreement.ballots import Ballot
from veilmatch.server.matcher.agreement.certificates import PROPOSAL, Certificate, Scope, Vote
from veilmatch.server.matcher.gallery.disk.store import Store
from veilmatch.server.matcher.gallery.mutation import Mutation


@dataclass
class Place:
    """One of the two. process: of the server, None for a file. took: wall and CPU seconds of each change, by kind."""

    store: Store
    process: psutil.Process | None
    took: dict[str, list[tuple[float, float]]] = field(default_factory=dict)

    def cpu_s(self) -> float:
        """Return the CPU seconds of this process and of the server so far."""
        server = [] if self.process is None else [self.process, *self.process.children(recursive=True)]
        times = [one.cpu_times() for one in server]
        return time.process_time() + sum(one.user + one.system for one in times)

    def change(self, kind: str, mutation: Mutation) -> None:
        """Do it as a matcher does."""
        before, cpu_s = time.perf_counter(), self.cpu_s()
        commit(self.store, mutation)
        self.took.setdefault(kind, []).append((time.perf_counter() - before, self.cpu_s() - cpu_s))


def main(arguments: Sequence[str]) -> None:
    """Measure, print a table, write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parameters", default="d128-s126-c38-l46-n3072", help="parameter set (default: %(default)s)")
    parser.add_argument(
        "--changes", type=int, default=100, help="of each kind, of bulks a tenth (default: %(default)s)"
    )
    parser.add_argument("--folder", type=Path, help="where both keep their data (default: that of temporary files)")
    parser.add_argument("--quick", action="store_true", help="twenty changes")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args(arguments)
    figures = measure(20 if options.quick else options.changes, options.parameters, options.folder)
    show(figures)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


def measure(count: int, parameters: str, folder: Path | None) -> dict[str, Any]:
    """Return the figures."""
    chosen = ParameterSet.from_name(parameters)
    with tempfile.TemporaryDirectory(prefix="veilmatch-storage-", dir=folder) as scratch:
        Path(scratch).chmod(0o711)  # the server has an account of its own
        server = PostgresServer(Path(scratch))
        try:
            with (
                closing(Store(Path(scratch) / "data", KEY_ID, chosen)) as file,
                closing(Store(server.new_database(), KEY_ID, chosen)) as database,
            ):
                places = {"file": Place(file, None), "PostgreSQL": Place(database, psutil.Process(server.pid))}
                for place in places.values():
                    place.store.open_gallery(NAME)
                for number, (kind, mutation) in enumerate(changes(count, chosen)):
                    # In turn: whatever else the machine does is done to both.
                    for place in sorted(places.values(), key=lambda one: (one.process is None) == bool(number % 2)):
                        place.change(kind, mutation)
                return {
                    "cpu": cpu(), "cores": os.cpu_count(), "parameters": chosen.name, "changes": count,
                    "kinds": {kind: figures_of(kind, places) for kind in places["file"].took},
                }  # fmt: skip
        finally:
            server.stop()


def changes(count: int, parameters: ParameterSet) -> Iterator[tuple[str, Mutation]]:
    """Yield enrolments of one template, erasures of these, and bulk enrolments of BULK_PACKS packs."""
    places = [divmod(number, parameters.slots) for number in range(count)]
    for place in places:
        yield "enrol", made("enrol", {place[0]: pack_of(parameters)}, [place], parameters)
    for place in places:
        yield "erase", erased(place, parameters)
    first = places[-1][0] + 1
    for number in range(max(2, count // 10)):
        packs = range(first + number * BULK_PACKS, first + (number + 1) * BULK_PACKS)
        filled = [(pack, slot) for pack in packs for slot in range(parameters.slots)]
        yield "bulk", made("bulk", {pack: pack_of(parameters) for pack in packs}, filled, parameters)


def erased(place: tuple[int, int], parameters: ParameterSet) -> Mutation:
    """Return a change that empties a place."""
    like = made("enrol", {place[0]: pack_of(parameters)}, [], parameters)
    return Mutation(
        kind="erase", token=like.token, request_digest=like.request_digest, packs=like.packs, added=[],
        removed=[place], result="{}", model="", device="device-1",
    )  # fmt: skip


def commit(store: Store, mutation: Mutation) -> None:
    """Promise, accept and commit it."""
    state = store.promise(NAME, Ballot(state_round(store) + 1, "ab"))
    chain = next_chain(state.chain, state.sequence + 1, mutation.digest())
    vote, scope = Vote(state.sequence + 1, chain, state.promised), Scope(NAME, KEY_ID)
    pair = KEYS["a"], KEYS["b"]
    store.accept(NAME, mutation, Certificate.signed(vote, scope, *pair, context=PROPOSAL), state.promised)
    store.commit(NAME, Certificate.signed(vote, scope, *pair))


def state_round(store: Store) -> int:
    """Return the round that was promised last."""
    return store.state(NAME).promised.round


def figures_of(kind: str, places: dict[str, Place]) -> dict[str, Any]:
    """Return medians of wall time, means of CPU time, which comes in ticks, and what PostgreSQL takes of a file."""
    found: dict[str, Any] = {}
    for name, place in places.items():
        wall, cpu_s = zip(*place.took[kind], strict=True)
        found[name] = {"count": len(wall), "wall_s": statistics.median(wall), "cpu_s": statistics.mean(cpu_s)}
    ratios = [b / a for (a, _), (b, _) in zip(places["file"].took[kind], places["PostgreSQL"].took[kind], strict=True)]
    return found | {
        "wall_ratio": statistics.median(ratios), "cpu_ratio": found["PostgreSQL"]["cpu_s"] / found["file"]["cpu_s"]
    }  # fmt: skip


def show(f: dict[str, Any]) -> None:
    """Print the table."""
    table = Table(
        "change", "file: half in", "CPU", "PostgreSQL: half in", "CPU", "wall, of the file's", "CPU, of the file's",
        title=f"{f['changes']} of each, {f['parameters']}; {f['cores']} cores of {f['cpu']}",
    )  # fmt: skip
    for kind, one in f["kinds"].items():
        each = [f"{1e3 * one[place][what]:.1f} ms" for place in ("file", "PostgreSQL") for what in ("wall_s", "cpu_s")]
        table.add_row(kind, *each, f"{one['wall_ratio']:.2f}", f"{one['cpu_ratio']:.2f}")
    Console(width=130).print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
