"""Whether somebody is known, in a large gallery: beside `candidates` and `identify`, with views, and to enrol or not.

    python benchmarks/known.py                            10,000 templates, some minutes
    python benchmarks/known.py --quick                    1,000 templates, each question asked once
    python benchmarks/known.py --identities 100000        a quarter of an hour on two cores that do nothing else, 1 GB
    python benchmarks/known.py --json PATH                writes the figures as well

Six daemons over loopback and one device, on synthetic unit vectors. Each question is asked about a stranger and about
somebody who is near an enrolled one, and an answer that is not that of the integers in clear ends the run. Latency is
the median as the device sees it, embedding excluded; CPU is of all six daemons, for each question, as the operating
system counts it. What an enrolment leaves is kept, and erased apart, so that every one finds the same gallery.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from daemons import cpu_seconds, wait_until_idle
from machine import cpu
from rich.console import Console
from rich.table import Table
from system import enrol

from veilmatch.client.capture.quantiser import quantise
from veilmatch.client.client import Client
from veilmatch.client.demo.parties import fresh_passphrase, hold_ceremony
from veilmatch.crypto.gates.answer import answer_bits
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.server.supervisor import Supervisor

#: Far above what two random vectors score, and below what a near one does.
THRESHOLD = 0.60
OPTIONS: dict[str, Any] = {"model": "random", "threshold": THRESHOLD, "timeout_s": 600.0}
#: How a question is asked, of a probe; whether it finds somebody.
Ask = Callable[[Client, np.ndarray], bool]


def main(arguments: Sequence[str]) -> None:
    """Measure, print a table, write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="1,000 templates, one of each question about each probe")
    parser.add_argument("--parameters", default="d128-s126-c38-l46-n3072", help="parameter set (default: %(default)s)")
    parser.add_argument("--identities", type=int, default=10_000, help="size of the gallery (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="of each question about each probe")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args(arguments)
    if options.quick:
        options.identities, options.repeats = 1000, 1
    figures = measure(options, Console(stderr=True))
    show(figures)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


def measure(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Build the gallery, ask everything, return the figures."""
    parameters, passphrase = ParameterSet.from_name(options.parameters), fresh_passphrase()
    figures: dict[str, Any] = {
        "parameter_set": parameters.name,
        "identities": options.identities,
        "cpu": cpu(),
        "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0],
    }
    with tempfile.TemporaryDirectory(prefix="veilmatch-bench-") as scratch:
        directory = Path(scratch) / "installation"
        console.print("key ceremony")
        hold_ceremony(directory, parameters.name, passphrase)
        with Supervisor(directory, {"VEILMATCH_PASSPHRASE": passphrase}) as parties:
            parties.start()
            parties.wait_ready()
            with Client.from_config(directory / "device-1" / "device.toml") as client:
                console.print("filling the stock; then enrolling")
                wait_until_idle(parties)
                figures |= enrol(client, parameters, options.identities, console)
                probes = _probes(parameters)
                for name, ask in questions(parameters).items():
                    console.print(f"filling the stock; then {name}")
                    ask(client, probes[0])  # the stock follows the largest search
                    _tidied(client)
                    wait_until_idle(parties)
                    figures[name] = _asked(client, parties, ask, probes, options.repeats)
                    console.print(figures[name])
    return figures


def questions(parameters: ParameterSet) -> dict[str, Ask]:
    """Return how each is asked."""
    rng = np.random.default_rng(4)
    strangers = list(rng.standard_normal((3, parameters.dimension)))

    def unless_known(client: Client, probe: np.ndarray) -> bool:
        return client.enrol_embedding("new", probe, unless_known=True, keep_empty=True, **OPTIONS).known

    return {
        "candidates": lambda client, probe: bool(client.candidates_embedding(probe, **OPTIONS)),
        "identify": lambda client, probe: bool(client.identify_embedding(probe, **OPTIONS)),
        "known": lambda client, probe: bool(client.known_embedding(probe, **OPTIONS)),
        "known, 2 views": lambda client, probe: bool(client.known_embedding(strangers[0], views=[probe], **OPTIONS)),
        "known, 4 views": lambda client, probe: bool(
            client.known_embedding(strangers[0], views=[*strangers[1:], probe], **OPTIONS)
        ),
        "candidates, 4 views": lambda client, probe: bool(
            client.candidates_embedding(strangers[0], views=[*strangers[1:], probe], **OPTIONS)
        ),
        "enrol unless known": unless_known,
    }


def _probes(parameters: ParameterSet) -> tuple[np.ndarray, np.ndarray]:
    """A stranger, and who is near the first one whom `system.enrol` enrols alone, as plain integers say."""
    first = np.random.default_rng(1).standard_normal(parameters.dimension)
    stranger = np.random.default_rng(2).standard_normal(parameters.dimension)
    near = first + 0.2 * np.random.default_rng(3).standard_normal(parameters.dimension)
    t = parameters.threshold(THRESHOLD)
    template, far, close = (quantise(vector, parameters) for vector in (first, stranger, near))
    assert template @ far < t <= template @ close
    return stranger, near


def _asked(
    client: Client, parties: Supervisor, ask: Ask, probes: tuple[np.ndarray, np.ndarray], repeats: int
) -> dict[str, Any]:
    taken, spent = [], 0.0
    for _ in range(repeats):
        for expected, probe in enumerate(probes):
            before, started = sum(cpu_seconds(parties).values()), time.perf_counter()
            found = ask(client, probe)
            taken.append(time.perf_counter() - started)
            spent += sum(cpu_seconds(parties).values()) - before
            if found != bool(expected):
                raise SystemExit(f"an answer that is not that of the integers in clear: {found}, not {bool(expected)}")
            _tidied(client)
    return {"total_s": statistics.median(taken), "cpu_s": spent / len(taken)}


def _tidied(client: Client) -> None:
    """Erase what an enrolment has left, if it was one."""
    if any(entry.subject == "new" for entry in client.subjects()):
        client.erase("new")


def show(figures: dict[str, Any]) -> None:
    """Print the table."""
    title = (
        f"{figures['parameter_set']}, {figures['identities']:,} identities, {figures['cores']} cores of "
        f"{figures['cpu']}, load {figures['load_before']:.0f} before"
    )
    table = Table("question", "latency", "CPU, all daemons", "beside candidates", "answer bits", title=title)
    for name, measured in figures.items():
        if isinstance(measured, dict):
            operation = "known" if name.startswith("enrol") else name.split(",")[0]
            table.add_row(
                name,
                f"{measured['total_s']:.2f} s",
                f"{measured['cpu_s']:.2f} s",
                f"{measured['cpu_s'] / figures['candidates']['cpu_s']:.2f}",
                f"{answer_bits(operation, figures['identities']):,}",
            )
    Console().print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
