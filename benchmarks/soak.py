"""A soak: mixed load for half an hour, and whether memory, open files, disk and times stay as they are.

    python benchmarks/soak.py                                     30 minutes at 3 requests a second
    python benchmarks/soak.py --minutes 2 --rate 4 --window 1     a trial
    python benchmarks/soak.py --json PATH --page PATH             figures, and a page of them in Markdown

Requests are due at random times (Poisson), whatever becomes of those before, and times are counted from then on:
verifications, some of them assured, searches, enrolments and as many erasures, so that the gallery stays as large as it
was. Every answer is compared with that of plain integers. Memory and open files of each daemon are looked at every few
seconds; a line through them, without the first quarter, says whether they grow. Disk is what each daemon's data
directory has more at the end than when the load began, for each request, by file.

Budgets are out of the way. On a machine that does something else times mean nothing; memory, files and disk do.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections import deque
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from daemons import cpu_seconds, memory, wait_until_idle
from installation import MODEL, Gallery, ask, installed
from loads.asked import Asked, cpu_of_a_request
from loads.steady import WARM, by_window, steady
from machine import cpu
from rich.console import Console
from rich.table import Table

from veilmatch.client.async_client import AsyncClient
from veilmatch.client.config import DeviceSettings
from veilmatch.crypto.errors import VeilmatchError
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.server.supervisor import Supervisor, load_daemon

#: What is asked, as parts of all requests.
MIX = {"verify": 0.65, "assured": 0.03, "identify": 0.1, "candidates": 0.06, "enrol": 0.08, "erase": 0.08}
#: Open files that come and go with connections.
FILES_APART = 4.0


@dataclass
class Seen:
    """What was seen of one daemon: bytes of memory, open files and threads, each at the times of the run."""

    memory: list[float] = field(default_factory=list)
    files: list[float] = field(default_factory=list)
    threads: list[float] = field(default_factory=list)


def main(arguments: Sequence[str]) -> None:
    """Run it, print, and write what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0, help="of load (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=3.0, help="requests a second (default: %(default)s)")
    parser.add_argument("--devices", type=int, default=4, help="that ask (default: %(default)s)")
    parser.add_argument("--identities", type=int, default=200, help="size of the gallery (default: %(default)s)")
    parser.add_argument("--parameters", default="d128-s126-c38-l46-n3072", help="parameter set (default: %(default)s)")
    parser.add_argument("--window", type=float, default=5.0, help="minutes of a row of times (default: %(default)s)")
    parser.add_argument("--every", type=float, default=5.0, help="seconds between two looks (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--page", type=Path, help="write a page in Markdown to this file")
    options = parser.parse_args(arguments)
    figures = measure(options)
    show(figures)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    if options.page:
        options.page.write_text(page(figures))


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return all figures."""
    gallery = Gallery(ParameterSet.from_name(options.parameters), options.identities)
    with (
        installed(options.parameters, options.devices) as (directory, environment),
        Supervisor(directory, environment) as parties,
    ):
        parties.start()
        parties.wait_ready()
        return asyncio.run(_soaked(directory, parties, gallery, options))


async def _soaked(
    directory: Path, parties: Supervisor, gallery: Gallery, options: argparse.Namespace
) -> dict[str, Any]:
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(
                AsyncClient(DeviceSettings.load(directory / f"device-{number + 1}" / "device.toml"))
            )
            for number in range(options.devices)
        ]
        await clients[0].enrol_many_embeddings(gallery.named(), model=MODEL, timeout_s=600.0)
        await asyncio.to_thread(wait_until_idle, parties, 600.0)
        soak = Soak(parties, clients, gallery)
        disk, cpu_s = disk_of(parties), cpu_seconds(parties)
        await soak.run(60.0 * options.minutes, options.rate, options.every)
        after = cpu_seconds(parties)
        await asyncio.to_thread(wait_until_idle, parties, 600.0)
        return soak.figures(options, disk, disk_of(parties), cpu_of_a_request(cpu_s, after, 0.0, soak.answered))


class Soak:
    """The load, and what is seen meanwhile."""

    def __init__(self, parties: Supervisor, clients: Sequence[AsyncClient], gallery: Gallery) -> None:
        self._parties, self._clients, self._gallery = parties, clients, gallery
        self._rng = np.random.default_rng()
        self._began = 0.0
        #: Who was enrolled by the load, and is to be erased, the first one first.
        self._joined: deque[str] = deque()
        self._asked: list[Asked] = []
        self._times: list[float] = []
        self._seen = {party: Seen() for party in parties.names}

    @property
    def answered(self) -> int:
        """How many requests were."""
        return sum(not one.error for one in self._asked)

    async def run(self, seconds: float, rate: float, every_s: float) -> None:
        """Ask for so long, and look every so often."""
        self._began = time.perf_counter()
        looking = asyncio.create_task(self._keep_looking(every_s))
        tasks, due = [], 0.0
        while (due := due + float(self._rng.exponential(1 / rate))) < seconds:
            await asyncio.sleep(self._began + due - time.perf_counter())
            tasks = [task for task in tasks if not task.done()]
            tasks.append(asyncio.create_task(self._ask(len(self._asked) + len(tasks), due)))
        await asyncio.gather(*tasks)
        looking.cancel()

    async def _ask(self, number: int, due: float) -> None:
        operation = str(self._rng.choice(list(MIX), p=list(MIX.values())))
        if operation == "erase" and not self._joined:
            operation = "enrol"
        who = self._joined.popleft() if operation == "erase" else f"e{number}-{self._rng.integers(1 << 30)}"
        device, error, right = number % len(self._clients), "", True
        try:
            right = await ask(self._clients[device], operation, self._gallery, int(self._rng.integers(1 << 30)), who)
        except VeilmatchError as failed:
            error = failed.code
        if operation == "enrol" and not error:
            self._joined.append(who)
        self._asked.append(Asked(operation, device, due, time.perf_counter() - self._began, error, not right))

    async def _keep_looking(self, every_s: float) -> None:
        while True:
            found = await asyncio.to_thread(lambda: {party: _look(self._parties.pid(party)) for party in self._seen})
            self._times.append(time.perf_counter() - self._began)
            for party, (held, files, threads) in found.items():
                seen = self._seen[party]
                seen.memory.append(held)
                seen.files.append(files)
                seen.threads.append(threads)
            await asyncio.sleep(every_s)

    def figures(
        self, options: argparse.Namespace, before: dict[str, Any], after: dict[str, Any], cpu_: dict[str, Any]
    ) -> dict[str, Any]:
        """Return all figures. before, after: disk of each daemon."""
        count = max(1, len(self._asked))
        operations: dict[str, int] = {}
        for one in self._asked:
            operations[one.operation] = operations.get(one.operation, 0) + 1
        return {
            "cpu": cpu(), "cores": os.cpu_count(), "parameters": options.parameters, "identities": options.identities,
            "minutes": options.minutes, "rate": options.rate, "devices": options.devices,
            "requests": len(self._asked), "answered": self.answered, "operations": operations,
            "wrong": sum(one.wrong for one in self._asked), "window_minutes": options.window,
            "times": by_window(self._asked, 60.0 * options.window, 60.0 * options.minutes),
            "cpu_of_a_request": cpu_,
            "daemons": {
                party: {
                    "memory": steady(self._times, seen.memory),
                    "files": steady(self._times, seen.files, at_least=FILES_APART),
                    "threads": steady(self._times, seen.threads, at_least=FILES_APART),
                    "disk": {
                        file: {"before": before[party].get(file, 0), "after": held,
                               "a_request": (held - before[party].get(file, 0)) / count}
                        for file, held in after[party].items()
                    },
                }
                for party, seen in self._seen.items()
            },
            "looks": {"times_s": self._times, "memory": {party: seen.memory for party, seen in self._seen.items()}},
        }  # fmt: skip


def _look(pid: int) -> tuple[float, float, float]:
    process = psutil.Process(pid)
    return float(memory(pid)), float(process.num_fds()), float(process.num_threads())


def disk_of(parties: Supervisor) -> dict[str, dict[str, int]]:
    """Return the bytes of what is in each daemon's data directory, by file or folder."""
    found: dict[str, dict[str, int]] = {}
    for party in parties.names:
        data = load_daemon(parties.config(party)).data_dir
        sizes: dict[str, int] = {}
        for path in data.rglob("*"):
            # Beside a database: what is shared in memory, and a write-ahead log, which grows to a size and no further.
            if path.is_file() and not path.name.endswith("-shm"):
                top = path.relative_to(data).parts[0]
                sizes[top] = sizes.get(top, 0) + path.stat().st_size
        found[party] = sizes
    return found


# -- what is said ----------------------------------------------------------------------------------


def _head(f: dict[str, Any]) -> str:
    mix = ", ".join(f"{count:,} {name}" for name, count in sorted(f["operations"].items(), key=lambda x: -x[1]))
    return (
        f"{f['minutes']:g} minutes, {f['rate']:g} requests a second of {f['devices']} devices, gallery of"
        f" {f['identities']:,}, {f['parameters']}; {f['cores']} cores of {f['cpu']}."
        f" {f['requests']:,} requests ({mix}), {f['answered']:,} answered, {f['wrong']} wrong"
    )


def _times(f: dict[str, Any]) -> list[list[str]]:
    rows = []
    for one in f["times"]:
        took = ["nobody" if one[q] is None else f"{1e3 * one[q]:,.0f} ms" for q in ("p50_s", "p95_s", "p99_s")]
        errors = ", ".join(f"{count} {name}" for name, count in sorted(one["errors"].items())) or "none"
        rows.append([f"{one['from_s'] / 60:g}", str(one["due"]), *took, errors])
    return rows


def _daemons(f: dict[str, Any]) -> list[list[str]]:
    rows = []
    for party, one in f["daemons"].items():
        held, files = one["memory"], one["files"]
        slope = "?" if held["slope_an_hour"] is None else f"{held['slope_an_hour'] / 1e6:+.1f}"
        error = "?" if held["error_an_hour"] is None else f"{held['error_an_hour'] / 1e6:.1f}"
        disk = ", ".join(
            f"{name} {of['a_request']:,.0f}" for name, of in sorted(one["disk"].items()) if round(of["a_request"])
        )
        rows.append(
            [party, f"{held['first'] / 1e6:.0f}", f"{held['last'] / 1e6:.0f}", f"{slope} ± {error}",
             _flat(held), f"{files['first']:.0f}", f"{files['last']:.0f}", _flat(files), disk or "none"]
        )  # fmt: skip
    return rows


def _flat(of: dict[str, Any]) -> str:
    return {True: "flat", False: "GROWS", None: "?"}[of["is_flat"]]


_TIMES = ("from minute", "due", "half in", "95 % in", "99 % in", "failed")
_DAEMONS = (
    "daemon", "MB at first", "at last", "MB an hour", "memory", "files at first", "at last", "files",
    "bytes of disk a request",
)  # fmt: skip


def show(f: dict[str, Any]) -> None:
    """Print the tables."""
    console = Console(width=160)
    times = Table(*_TIMES, title=_head(f))
    for row in _times(f):
        times.add_row(*row)
    daemons = Table(*_DAEMONS, title=f"the first {100 * WARM:.0f} % of the time is in no slope")
    for row in _daemons(f):
        daemons.add_row(*row)
    console.print(times, daemons)


def page(f: dict[str, Any]) -> str:
    """Return a page of the figures, in Markdown."""
    cpu_ms = 1e3 * f["cpu_of_a_request"]["daemons_s"]
    return "\n".join(
        [
            "# Soak",
            "",
            "Made by `python benchmarks/soak.py --page`; what is measured, and how, is in",
            "[measuring.md](measuring.md#for-half-an-hour).",
            "",
            f"{_head(f)}. All daemons together took {cpu_ms:.0f} ms of CPU time for an answer.",
            "",
            "## Times",
            "",
            "From when a request was due.",
            "",
            *_table(_TIMES, _times(f)),
            "",
            "## Memory, files and disk",
            "",
            f"The first {100 * WARM:.0f} % of the time is in no slope; ± is two standard errors of it.",
            "",
            *_table(_DAEMONS, _daemons(f)),
            "",
        ]
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(head)} |", "|" + "---|" * len(head), *(f"| {' | '.join(row)} |" for row in rows)]


if __name__ == "__main__":
    main(sys.argv[1:])
