"""Many devices at once: answers a second, how long they take, what fails, and the CPU time of a request.

    python benchmarks/load.py                       1, 4, 16 and 64 devices, all operations (about twenty minutes)
    python benchmarks/load.py --quick               1 and 16 devices, verify and mix (three minutes)
    python benchmarks/load.py --devices 8 --operations verify --rates 20 40 --seconds 60
    python benchmarks/load.py --fair                beside it: one device asks 16 searches at once, another verifies
    python benchmarks/load.py --plots FOLDER        draws load.svg and .png there
    python benchmarks/load.py --json PATH           writes the figures as well
    python benchmarks/load.py --against REVISION    the same figures of another revision, in turn; see against.py

First "closed loop": devices that each wait for an answer before they ask again, which is what the servers can do. Then
"open loop": requests are due at random times (Poisson), whatever becomes of those before, at parts of what the closed
loop answered, or at `--rates`; their times are counted from when they were due, so a stall counts for everybody who
would have come in it. Every answer is compared with that of plain integers. Budgets are out of the way.

Six daemons and all devices share this machine, so only ratios mean something. CPU time is that of the daemons up to the
last answer of a load, by daemon; "refill" is what they take after it until they rest, filling the stock that was used.
"mix" is verify, identify, candidates and enrol in the parts that loads/asked.py names. Enrolments make a gallery grow.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import against
from daemons import cpu_seconds, wait_until_idle
from installation import Gallery, installed
from loads.asked import WINDOW_S, Asked, cpu_of_a_request, summary, weights_of
from loads.generators import Generators, Loop
from machine import cpu
from rich.console import Console
from rich.table import Table

from veilmatch.client.async_client import AsyncClient
from veilmatch.client.config import DeviceSettings
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.server.supervisor import Supervisor

DEVICES = (1, 4, 16, 64)
OPERATIONS = ("verify", "identify", "candidates", "enrol", "mix")
#: Open loop, in parts of what the closed loop answered.
PARTS = (0.5, 0.8, 1.75)


def main(arguments: Sequence[str]) -> None:
    """Measure, print, draw and write what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parameters", default="d128-s126-c38-l46-n3072", help="parameter set (default: %(default)s)")
    parser.add_argument("--identities", type=int, default=1000, help="size of the gallery (default: %(default)s)")
    parser.add_argument("--devices", type=int, nargs="+", default=list(DEVICES), help="at once, in a closed loop")
    parser.add_argument("--operations", nargs="+", choices=OPERATIONS, default=list(OPERATIONS))
    parser.add_argument("--open", nargs="*", choices=OPERATIONS, default=["verify", "mix"], help="those of open loops")
    parser.add_argument("--rates", type=float, nargs="+", help="requests a second, of open loops")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each load (default: %(default)s)")
    parser.add_argument(
        "--processes", type=int, default=max(1, (os.cpu_count() or 1) // 4), help="with devices in them"
    )
    parser.add_argument("--fair", action="store_true", help="measure one device beside a greedy one as well")
    parser.add_argument("--quick", action="store_true", help="1 and 16 devices, verify and mix, 10 s, one open loop")
    parser.add_argument("--plots", type=Path, help="folder for the charts")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    against.add_options(parser)
    options = parser.parse_args(arguments)
    if options.against:
        against.compare(Path(__file__), headline, options, arguments)
        return
    parts = PARTS
    if options.quick:
        options.devices, options.operations, options.seconds = [1, 16], ["verify", "mix"], 10.0
        options.open, parts = ["verify"], (0.8,)
    figures = measure(options, parts)
    show(figures)
    if options.plots:
        import plots
        from loads.chart import draw

        plots.write(options.plots, "load", draw(figures["closed"], figures["open"]))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    if wrong := sum(load["wrong"] for load in figures["closed"] + figures["open"]):
        raise SystemExit(f"{wrong} wrong answers")


def measure(options: argparse.Namespace, parts: Sequence[float]) -> dict[str, Any]:
    """Make an installation, load it, return the figures."""
    gallery = Gallery(ParameterSet.from_name(options.parameters), options.identities)
    devices = max(2, *options.devices)
    figures = {
        "cpu": cpu(), "cores": os.cpu_count(), "parameter_set": options.parameters, "identities": options.identities,
        "processes": options.processes, "seconds": options.seconds,
    }  # fmt: skip
    with (
        installed(options.parameters, devices) as (directory, environment),
        Supervisor(directory, environment) as parties,
    ):
        parties.start()
        parties.wait_ready()
        asyncio.run(fill(directory, gallery))
        processes = min(options.processes, devices)
        with Generators(directory, devices, processes, options.parameters, options.identities) as generators:
            return figures | Loads(parties, generators, options).all(devices, parts)


async def fill(directory: Path, gallery: Gallery) -> None:
    """Enrol everybody."""
    async with AsyncClient(DeviceSettings.load(directory / "device-1" / "device.toml")) as client:
        await client.enrol_many_embeddings(gallery.named(), model="random", timeout_s=600.0)


class Loads:
    """All loads on one installation, each from rest to rest."""

    def __init__(self, parties: Supervisor, generators: Generators, options: argparse.Namespace) -> None:
        self._parties, self._generators, self._options = parties, generators, options
        self._console = Console(stderr=True)

    def all(self, devices: int, parts: Sequence[float]) -> dict[str, Any]:
        """Return the figures of closed loops, open loops and, if asked, of one device beside a greedy one."""
        seconds = self._options.seconds
        wait_until_idle(self._parties)
        closed = [
            self._closed(operation, count, seconds)
            for operation in self._options.operations
            for count in self._options.devices
        ]
        opened: list[dict[str, Any]] = []
        for operation in self._options.open:
            capacity = max((f["answered_a_second"] for f in closed if f["operation"] == operation), default=None)
            rates = self._options.rates or [part * capacity for part in parts if capacity]
            opened += [self._open(operation, rate, devices, capacity) for rate in rates]
        figures = {"closed": closed, "open": opened}
        if self._options.fair:
            figures["fair"] = self._fair()
        return figures

    def _closed(self, operation: str, count: int, seconds: float) -> dict[str, Any]:
        self._console.print(f"closed loop: {operation}, {count} devices")
        loops = [Loop(device, weights_of(operation)) for device in range(count)]
        figures = self._load(lambda: self._generators.closed(loops, seconds), seconds)
        return {"operation": operation, "devices": count} | figures

    def _open(self, operation: str, rate: float, devices: int, capacity: float | None) -> dict[str, Any]:
        self._console.print(f"open loop: {operation}, {rate:.1f} a second")
        weights, seconds = weights_of(operation), self._options.seconds
        figures = self._load(lambda: self._generators.open(weights, rate, devices, seconds), seconds)
        part = rate / capacity if capacity else None
        return {"operation": operation, "devices": devices, "rate": rate, "part_of_closed": part} | figures

    def _fair(self) -> dict[str, Any]:
        """How long a verification takes one device alone, and beside another that makes 16 searches at once."""
        self._console.print("one device beside a greedy one")
        other, greedy = Loop(1, weights_of("verify")), Loop(0, weights_of("candidates"), at_once=16)
        alone, _ = self._generators.closed([other], 5.0)
        beside, _ = self._generators.closed([greedy, other], 20.0)
        return {
            "alone": summary(alone, 5.0),
            "beside": summary([a for a in beside if a.device == other.device], 20.0),
            "greedy": summary([a for a in beside if a.device == greedy.device], 20.0),
        }

    def _load(self, work: Any, seconds: float) -> dict[str, Any]:
        """Return the figures of one load, with the CPU time of its requests."""
        before = cpu_seconds(self._parties)
        asked: list[Asked]
        asked, devices_s = work()
        after = cpu_seconds(self._parties)
        wait_until_idle(self._parties)
        figures = summary(asked, seconds)
        count = max(1, figures["answered"])
        resting = cpu_seconds(self._parties)
        refill_s = sum(resting.values()) - sum(after.values())
        return figures | {
            "cpu": cpu_of_a_request(before, after, devices_s, figures["answered"]) | {"refill_s": refill_s / count}
        }


def headline(figures: dict[str, Any]) -> dict[str, float]:
    """Return the figures that are compared with those of another revision."""
    found = {}
    for load in figures["closed"]:
        name = f"{load['operation']}, {load['devices']} at once"
        found[f"{name} [answers a second]"] = load["answered_a_second"]
        for quantile in ("p50_s", "p99_s"):
            if load[quantile] is not None:
                found[f"{name}, {quantile.removesuffix('_s')} [ms]"] = 1e3 * load[quantile]
        found[f"{name}, daemons [ms of CPU]"] = 1e3 * load["cpu"]["daemons_s"]
    return found


def show(f: dict[str, Any]) -> None:
    """Print the tables."""
    console = Console(width=150)
    where = f"gallery of {f['identities']:,}, {f['parameter_set']}; {f['cores']} cores of {f['cpu']}"
    columns = ("a second", "half in", "95 % in", "99 % in", "failed", "wrong")
    cpus = ("matchers", "key holders", "refill", "devices")
    closed = Table("closed loop", "at once", *columns, *cpus, title=f"{where}; the last four: CPU ms of an answer")
    for load in f["closed"]:
        closed.add_row(load["operation"], str(load["devices"]), *_row(load), *_cpu(load))
    console.print(closed)
    if f["open"]:
        opened = Table(
            "open loop", "due", "of closed", *columns, "CPU ms of daemons",
            title="times from when a request was due", caption=_arrivals(f["open"]),
        )  # fmt: skip
        for load in f["open"]:
            part = "" if load["part_of_closed"] is None else f"{load['part_of_closed']:.2f}"
            daemons = f"{1e3 * load['cpu']['daemons_s']:.0f}"
            opened.add_row(load["operation"], f"{load['rate']:.1f} / s", part, *_row(load), daemons)
        console.print(opened)
    if "fair" in f:
        fair = Table("one device that verifies", *columns)
        fair.add_row("alone", *_row(f["fair"]["alone"]))
        fair.add_row("beside one with 16 searches at once", *_row(f["fair"]["beside"]))
        fair.add_row("that one", *_row(f["fair"]["greedy"]))
        console.print(fair)


def _arrivals(loads: Sequence[dict[str, Any]]) -> str:
    """Whether the servers keep up: how many were answered of those that were due in each part of the time."""
    parts = (
        f"{load['operation']} at {load['rate']:.1f}: {' '.join(map(str, load['answered_by_window']))}" for load in loads
    )
    return f"answered, of those due in each {WINDOW_S:g} s: " + "; ".join(parts)


def _row(load: dict[str, Any]) -> list[str]:
    times = ("nobody" if load[q] is None else f"{1e3 * load[q]:,.0f} ms" for q in ("p50_s", "p95_s", "p99_s"))
    errors = ", ".join(f"{count} {name}" for name, count in sorted(load["errors"].items())) or "none"
    return [f"{load['answered_a_second']:.1f}", *times, errors, str(load["wrong"])]


def _cpu(load: dict[str, Any]) -> list[str]:
    return [f"{1e3 * load['cpu'][part]:.0f}" for part in ("matchers_s", "keyholders_s", "refill_s", "devices_s")]


if __name__ == "__main__":
    main(sys.argv[1:])
