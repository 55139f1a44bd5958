"""What a search costs as the gallery grows: time, CPU, memory and bytes, fitted lines, and what follows from these.

    python benchmarks/scaling.py              100 to 100,000 identities, D = 128, 256 and 512 (an hour or so)
    python benchmarks/scaling.py --quick      to 10,000 identities, D = 128 (two minutes)
    python benchmarks/scaling.py --plots FOLDER  draws scaling.svg and .png there
    python benchmarks/scaling.py --json PATH  writes the figures as well

Six daemons over loopback and one device, on synthetic unit vectors. One gallery for each D grows from size to size;
at each size the daemons are started with each number of workers, and once behind relays that count bytes. Probes are
two of enrolled people, at a cosine of about 0.7 to their templates, and one of a stranger; every answer is compared
with that of the same integers in clear, or the run ends in an error.

CPU time is that of all daemons as the operating system counts it, from rest to answer; what the dealt randomness of
the search costs is measured apart (`dealt.py`), because key holders get it when they rest. What the daemons take anyway
goes on meanwhile and is counted, too: "of it at rest" is how much that is, from what they take in a second at rest and
the time of the search; on a busy machine it is longer, and this more. Memory is the peak since the daemon was ready:
what it takes for its passphrase before that, and gives back, is more.

Lines are fitted to cost over packs (`costs.py`). Nothing here shows that one installation serves a gallery of 100
million: the table says what the same arithmetic would take, spread evenly over machines, which Veilmatch does not do
by itself.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from costs import (
    CHECKING,
    CHECKS,
    DEALING,
    DEALT,
    HOLDER,
    HOLDERS,
    MATCHER,
    MATCHERS,
    MEMORY,
    QUANTITIES,
    derive,
    fit,
)  # fmt: skip
from daemons import cpu_at_rest, cpu_seconds, forget_peaks, memory, peak_memory, wait_until_idle
from dealt import of_units, unit_costs, units_of_query
from machine import cpu
from relay import Relays
from rich.console import Console
from rich.table import Table
from scaling_chart import draw

from veilmatch.client.capture.quantiser import quantise
from veilmatch.client.client import Client
from veilmatch.client.demo.parties import fresh_passphrase, hold_ceremony
from veilmatch.client.evaluation.figures.curves import png, svg
from veilmatch.client.operations.device import Progress
from veilmatch.crypto.encryption.public_key_format import PublicFile
from veilmatch.crypto.packing.fields import Array
from veilmatch.crypto.parameters import D256, D512, DEFAULT, ParameterSet
from veilmatch.crypto.rings.choice import choose
from veilmatch.server.supervisor import Supervisor

SETS = {p.dimension: p for p in (DEFAULT, D256, D512)}
SIZES = (100, 1_000, 10_000, 100_000)
WORKERS = (1, 2)
#: For which the costs are derived.
LARGE = (1_000_000, 100_000_000)
THRESHOLD = 0.40
#: Bytes of packs and records in one bulk enrolment, at most; a matcher takes 2^28.
BATCH_BYTES = 200_000_000
LINKS = {
    "matchers": ("matcher-a", "matcher-b"),
    "keyholders": ("keyholder-a", "keyholder-b"),
    "results": ("matcher-a", "keyholder-a"),
    "device": ("device-1", "matcher-a"),
}


@dataclass
class Gallery:
    """What was enrolled: how much, and the integer scores of every probe with it."""

    parameters: ParameterSet
    probes: Array
    scores: list[Array]
    identities: int = 0
    packs: int = 0

    @staticmethod
    def empty(parameters: ParameterSet) -> Gallery:
        """Return one without templates. Of its three probes the last one stays a stranger."""
        return Gallery(parameters, np.random.default_rng(7).standard_normal((3, parameters.dimension)), [])

    def grow(self, client: Client, identities: int, progress: Progress) -> None:
        """Enrol up to so many. In the first batch is somebody near each of the first two probes."""
        p, ring = self.parameters, np.random.default_rng(self.identities)
        one = p.lane_ciphertexts * p.ciphertext_bytes + p.dimension * p.ciphertext_bytes // p.slots + 1
        batch = BATCH_BYTES // one // p.slots * p.slots
        quantised = np.array([quantise(probe, p) for probe in self.probes])
        while self.identities < identities:
            count = min(batch, identities - self.identities)
            vectors = ring.standard_normal((count, p.dimension))
            if not self.identities:
                vectors[[3, count // 2]] = self.probes[:2] + ring.standard_normal((2, p.dimension))
            names = [f"p{self.identities + i}" for i in range(count)]
            client.enrol_many_embeddings(
                zip(names, vectors, strict=True), model="random", progress=progress, timeout_s=1_800.0
            )
            self.scores.append(quantised @ np.array([quantise(v, p) for v in vectors]).T)
            self.identities, self.packs = self.identities + count, self.packs - (-count // p.slots)

    def expected(self, probe: int) -> set[str]:
        """Return the subjects whose integer score with a probe is at the threshold or above it."""
        scores = np.concatenate([part[probe] for part in self.scores])
        return {f"p{i}" for i in np.flatnonzero(scores >= self.parameters.threshold(THRESHOLD))}


def main() -> None:
    """Measure, print, write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="D = 128, to 10,000 identities")
    parser.add_argument("--dimensions", type=int, nargs="+", choices=tuple(SETS), default=list(SETS))
    parser.add_argument("--largest", type=int, default=SIZES[-1], help="gallery (default: %(default)s)")
    parser.add_argument("--plots", type=Path, help="folder for the chart")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    if options.quick:
        options.dimensions, options.largest = [128], min(10_000, options.largest)
    console, cells = Console(stderr=True), []
    for dimension in options.dimensions:
        cells += measure(SETS[dimension], [size for size in SIZES if size <= options.largest], console)
        figures = summary(cells, os.cpu_count() or 1)
        if options.json:  # after every dimension: a run of an hour may be cut short
            options.json.write_text(json.dumps(figures, indent=1) + "\n")
    show(figures)
    if options.plots:
        options.plots.mkdir(parents=True, exist_ok=True)
        figure = draw(figures["fits"])
        (options.plots / "scaling.svg").write_text(svg(figure))
        (options.plots / "scaling.png").write_bytes(png(figure))


def measure(parameters: ParameterSet, sizes: list[int], console: Console) -> list[dict[str, Any]]:
    """Return the figures of every size and number of workers at one dimension."""
    passphrase, cells, gallery = fresh_passphrase(), [], Gallery.empty(parameters)
    with tempfile.TemporaryDirectory(prefix="veilmatch-bench-") as scratch:
        directory = Path(scratch) / "installation"
        hold_ceremony(directory, parameters.name, passphrase)
        modulus = PublicFile.decode((directory / "public.json").read_bytes()).public_key.modulus
        one = unit_costs(modulus)
        environment = {"VEILMATCH_PASSPHRASE": passphrase}
        for size in sizes:
            with Relays(directory) as relays, Supervisor(directory, environment) as parties:
                client = _started(directory, parties)
                with client, console.status("bulk enrolment") as status:
                    gallery.grow(client, size, lambda stage, done, all_: status.update(f"{stage} {done:,}/{all_:,}"))
                    moved = _moved(client, parties, relays, gallery)
            console.print(f"{parameters.name}: {size:,} identities enrolled")
            units = units_of_query("candidates", gallery.identities, gallery.packs, parameters)
            for workers in WORKERS:
                chosen = environment | {"VEILMATCH_WORKERS": str(workers)}
                with Supervisor(directory, chosen) as parties, _started(directory, parties) as client:
                    cell = _cell(client, parties, gallery)
                cells.append(
                    {
                        "parameter_set": parameters.name, "dimension": parameters.dimension, "slots": parameters.slots,
                        "identities": size, "packs": gallery.packs, "workers": workers,
                        **cell, "bytes": moved, "dealt_units": units, "dealt": asdict(of_units(units, one)),
                    }
                )  # fmt: skip
                console.print(f"  {workers} workers: {cell['total_s']:.2f} s")
    return cells


def _started(directory: Path, parties: Supervisor) -> Client:
    parties.start()
    parties.wait_ready()
    forget_peaks(parties)
    return Client.from_config(directory / "device-1" / "device.toml")


def _cell(client: Client, parties: Supervisor, gallery: Gallery) -> dict[str, Any]:
    """Medians over the probes; the first query, which fills caches and brings the labels, is left out."""
    _ask(client, gallery, 0)
    cpus, device, timings = [], [], []
    for probe in range(len(gallery.probes)):
        wait_until_idle(parties)
        before, own = cpu_seconds(parties), time.process_time()
        timings.append(_ask(client, gallery, probe))
        device.append(time.process_time() - own)
        after = cpu_seconds(parties)
        cpus.append({party: after[party] - before[party] for party in parties.names})
    wait_until_idle(parties)
    steps = ("device", "convert", "match", "decide", "total")
    return {
        "decisions_checked": gallery.identities * (len(gallery.probes) + 1),
        **{f"{step}_s": statistics.median(getattr(t, f"{step}_s") for t in timings) for step in steps},
        "cpu_s": {party: statistics.median(c[party] for c in cpus) for party in parties.names},
        "device_cpu_s": statistics.median(device),
        "cpu_at_rest": cpu_at_rest(parties),
        "memory_bytes": {party: memory(parties.pid(party)) for party in parties.names},
        "peak_memory_bytes": {party: peak_memory(parties.pid(party)) for party in parties.names},
    }


def _moved(client: Client, parties: Supervisor, relays: Relays, gallery: Gallery) -> dict[str, int]:
    """Return the bytes of one query over each link, both directions together."""
    _ask(client, gallery, 0)
    wait_until_idle(parties)
    before = relays.counts()
    _ask(client, gallery, 1)
    after = relays.counts()
    return {
        name: sum(after[way] - before[way] for way in ((one, other), (other, one)))
        for name, (one, other) in LINKS.items()
    }


def _ask(client: Client, gallery: Gallery, probe: int) -> Any:
    """Search, compare the answer with that of integers in clear, and return the timings."""
    found = client.candidates_embedding(gallery.probes[probe], model="random", threshold=THRESHOLD, timeout_s=600.0)
    expected = gallery.expected(probe)
    if set(found.subjects) != expected or found.compared != gallery.identities:
        raise RuntimeError(f"probe {probe}: {sorted(found.subjects)} for {sorted(expected)}, {found.compared} compared")
    if bool(expected) != (probe < 2):
        print(f"note: probe {probe} has {len(expected)} candidates in clear as well", file=sys.stderr)
    return found.timings


def quantities(cell: dict[str, Any]) -> dict[str, float]:
    """Return what lines are fitted to, of one cell."""
    cpus, dealt, moved = cell["cpu_s"], cell["dealt"], cell["bytes"]
    found = {
        MATCHER: (cpus["matcher-a"] + cpus["matcher-b"]) / 2,
        HOLDER: (cpus["keyholder-a"] + cpus["keyholder-b"]) / 2,
        CHECKING: dealt["checking_s"],
        DEALING: dealt["dealing_s"],
        MEMORY: max(cell["peak_memory_bytes"][party] for party in ("matcher-a", "matcher-b")),
        MATCHERS: moved["matchers"],
        HOLDERS: moved["keyholders"],
        CHECKS: dealt["checking_bytes"],
        DEALT: dealt["dealt_bytes"],
    }
    return {name: float(found[name]) for name in QUANTITIES}


def an_identity(cell: dict[str, Any]) -> float:
    """Return the CPU time of all parties for one identity of a search, in seconds, dealing and checking included."""
    q = quantities(cell)
    spent: float = 2 * (q[MATCHER] + q[HOLDER] + q[CHECKING]) + q[DEALING]
    return spent / float(cell["identities"])


def at_rest_of(cell: dict[str, Any]) -> float:
    """Return how much of `an_identity` the same daemons would have taken in that time without a search, in seconds."""
    asked = [party for party in cell["cpu_at_rest"] if not party.endswith("-c")]
    rate: float = sum(cell["cpu_at_rest"][party] for party in asked)
    return rate * float(cell["total_s"]) / float(cell["identities"])


def summary(cells: list[dict[str, Any]], cores: int) -> dict[str, Any]:
    """Return the cells, the lines through them for each dimension, and the derived costs."""
    figures: dict[str, Any] = {"cpu": cpu(), "cores": cores, "backend": choose().backend, "cells": cells, "fits": []}
    for name in dict.fromkeys(cell["parameter_set"] for cell in cells):
        chosen = [cell for cell in cells if cell["parameter_set"] == name]
        values = [quantities(cell) for cell in chosen]
        lines = {
            what: fit([cell["packs"] for cell in chosen], [value[what] for value in values]) for what in QUANTITIES
        }
        derived = {
            str(n): {what: asdict(f) for what, f in derive(chosen[0]["slots"], lines, n, cores).items()} for n in LARGE
        }
        lines_found = {what: asdict(line) | {"worst": line.worst} for what, line in lines.items()}
        figures["fits"].append(
            {
                "parameter_set": name,
                "packs": [cell["packs"] for cell in chosen],
                "values": {what: [value[what] for value in values] for what in QUANTITIES},
                "lines": lines_found,
                "derived": derived,
            }
        )
    return figures


def show(figures: dict[str, Any]) -> None:
    """Print the tables."""
    console = Console(file=sys.stdout, width=165)
    table = Table(
        "D", "N", "packs", "workers", "search", "match", "decide", "matcher CPU", "holder CPU",
        "all, an identity", "of it at rest", "matcher peak", "between matchers", "between holders", "decisions right",
        title=f"search, {figures['cores']} cores of {figures['cpu']}, {figures['backend']}",
    )  # fmt: skip
    for cell in figures["cells"]:
        q = quantities(cell)
        table.add_row(
            str(cell["dimension"]), f"{cell['identities']:,}", f"{cell['packs']:,}", str(cell["workers"]),
            *(f"{cell[x]:.3f} s" for x in ("total_s", "match_s", "decide_s")), f"{q[MATCHER]:.3f} s",
            f"{q[HOLDER]:.3f} s", f"{1e6 * an_identity(cell):.1f} µs",
            f"{1e6 * at_rest_of(cell):.1f} µs", f"{q[MEMORY] / 1e6:,.0f} MB",
            f"{q[MATCHERS] / 1e3:,.0f} kB",
            f"{q[HOLDERS] / 1e3:,.0f} kB", f"{cell['decisions_checked']:,}",
        )  # fmt: skip
    console.print(table)
    for each in figures["fits"]:
        fitted = Table(
            "cost of a search", "fixed", "for each pack", "residuals", title=f"{each['parameter_set']}: lines"
        )
        for what, line in each["lines"].items():
            residuals = " ".join(f"{100 * r:+.0f}" for r in line["residuals"])
            fitted.add_row(what, f"{line['fixed']:.4g}", f"{line['slope']:.4g}", f"{residuals} %")
        console.print(fitted)
        for n, figures_of in each["derived"].items():
            derived = Table(
                "figure", "value", "unit", "how", title=f"{each['parameter_set']}: one search of {int(n):,}"
            )
            for what, f in figures_of.items():
                derived.add_row(what, f"{f['value']:,.4g}", f["unit"], f["derivation"])
            console.print(derived)


if __name__ == "__main__":
    main()
