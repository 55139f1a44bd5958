"""One organisation is down while requests run: what fails, and what the first and the later calls wait.

    python benchmarks/outage.py                              killed, hung, cut off: organisation a (five minutes)
    python benchmarks/outage.py --organisation c --verifications 400 --enrolments 100
    python benchmarks/outage.py --json PATH                  writes the figures as well

Both daemons of an organisation are killed (SIGKILL), stopped (SIGSTOP: connections stay, nobody answers), or cut off
(a network that drops what is sent to them and from them, without a reset). Devices that were connected before go on
verifying, identifying, enrolling and erasing, each one call after the other. What a call waits is its time less the
median of the same operation by the same devices in the same run before the outage. All parties share this machine.
Every decision that is given is compared with that of plain integers.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import signal
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from installation import Gallery, hold_ceremony
from machine import cpu
from relay import Relays
from rich.console import Console
from rich.table import Table

from veilmatch.client.async_client import AsyncClient
from veilmatch.client.config import DeviceSettings
from veilmatch.crypto.errors import VeilmatchError
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.server.supervisor import Supervisor

THRESHOLD = 0.40
WAYS = ("killed", "hung", "cut off")
#: Devices at once. More of them would measure the load of this machine.
DEVICES = 2
#: Calls of each operation before the outage, of which the median is what a call takes.
BEFORE = 8
#: What key holders keep, so that a pair can go on without its dealer.
STOCK = {
    "VEILMATCH_STOCK_TRIPLES": "20480",
    "VEILMATCH_STOCK_BYTES": str(32 << 20),
    "VEILMATCH_STOCK_PRODUCTS": str(1 << 20),
}
FILLED_S = 45.0
MODEL = "random"


@dataclass(frozen=True)
class Call:
    """One call. number: of its device, from 0 after the outage began; ended: seconds after that."""

    operation: str
    number: int
    took_s: float
    ended_s: float
    failed: str
    wrong: bool


def main() -> None:
    """Measure, print a table, write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parameters", default="d128-s126-c38-l46-n3072", help="parameter set (default: %(default)s)")
    parser.add_argument("--organisation", choices=("a", "b", "c"), default="a", help="which is down (default: a)")
    parser.add_argument("--verifications", type=int, default=200)
    parser.add_argument("--enrolments", type=int, default=50)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    figures = {"cpu": cpu(), "cores": os.cpu_count(), "organisation": options.organisation} | measure(options)
    show(figures)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of each way to be down, each in an installation of its own."""
    figures = {}
    for way in WAYS:
        Console(stderr=True).print(way)
        passphrase = secrets.token_urlsafe(24)
        with tempfile.TemporaryDirectory(prefix="veilmatch-outage-") as scratch:
            directory = Path(scratch) / "installation"
            hold_ceremony(directory, options.parameters, passphrase)
            with (
                Relays(directory) as relays,
                Supervisor(directory, {"VEILMATCH_PASSPHRASE": passphrase} | STOCK) as parties,
            ):
                parties.start()
                parties.wait_ready()
                outage = _Outage(way, options.organisation, relays, parties)
                figures[way] = asyncio.run(run(directory, outage, options))
    return figures


class _Outage:
    """Both daemons of an organisation, up to `begin`."""

    def __init__(self, way: str, organisation: str, relays: Relays, parties: Supervisor) -> None:
        self._way = way
        self._parties = [f"matcher-{organisation}", f"keyholder-{organisation}"]
        self._relays, self._supervisor = relays, parties

    @contextmanager
    def lasting(self) -> Iterator[None]:
        """Take them down, and bring them back as far as the end of the processes needs it."""
        if self._way == "cut off":
            self._relays.isolate(self._parties)
            yield
            self._relays.heal()
            return
        pids = [self._supervisor.pid(party) for party in self._parties]
        for pid in pids:
            os.killpg(pid, signal.SIGKILL if self._way == "killed" else signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids if self._way == "hung" else ():
                os.killpg(pid, signal.SIGCONT)


async def run(directory: Path, outage: _Outage, options: argparse.Namespace) -> dict[str, Any]:
    """Return what became of the requests of all devices."""
    parameters = ParameterSet.from_name(options.parameters)
    gallery = Gallery(parameters, 20)
    clients = [AsyncClient(DeviceSettings.load(directory / f"device-{1 + i}" / "device.toml")) for i in range(DEVICES)]
    try:
        for number, vector in enumerate(gallery.vectors):
            await clients[0].enrol_embedding(f"p{number}", vector, model=MODEL)
        await asyncio.sleep(FILLED_S)
        plain = ["verify", "identify", "enrol", "erase"] * BEFORE
        before = await asyncio.gather(*(device(c, i, gallery, plain, time.monotonic()) for i, c in enumerate(clients)))
        usual = {
            name: statistics.median(call.took_s for calls in before for call in calls if call.operation == name)
            for name in set(plain)
        }
        with outage.lasting():
            began = time.monotonic()
            plans = plan(options.verifications, options.enrolments)
            devices = zip(range(DEVICES), clients, plans, strict=True)
            after = await asyncio.gather(*(device(c, 100 + i, gallery, todo, began) for i, c, todo in devices))
        return summary([call for calls in after for call in calls], usual)
    finally:
        for client in clients:
            await client.aclose()


def plan(verifications: int, enrolments: int) -> list[list[str]]:
    """Return what each device does: enrolments among the verifications, every other one erased, some identified."""
    plans = []
    for i in range(DEVICES):
        verify, enrol = verifications // DEVICES, enrolments // DEVICES
        every = max(1, verify // max(1, enrol))
        todo = ["verify"]
        for n in range(verify - 1):
            todo += ["enrol"] * (n % every == 0) + ["erase"] * (n % (2 * every) == every // 2) + ["verify"]
            todo += ["identify"] * (n % 10 == 5)
        plans.append(todo if i % 2 == 0 else ["enrol", *todo])
    return plans


async def device(client: AsyncClient, number: int, gallery: Gallery, todo: Sequence[str], began: float) -> list[Call]:
    """Do one call after the other; return what became of each."""
    done, mine = [], []
    for at, operation in enumerate(todo):
        subject, probe, genuine = gallery.probe(at + number)
        failed, wrong, started = "", False, time.monotonic()
        try:
            match operation:
                case "verify":
                    answer = await client.verify_embedding(subject, probe, model=MODEL, threshold=THRESHOLD)
                    wrong = bool(answer.decision != genuine)
                case "identify":
                    best = await client.identify_embedding(probe, model=MODEL, threshold=THRESHOLD)
                    wrong = (
                        best.subject != f"p{next(i for i, v in enumerate(gallery.vectors) if np.array_equal(v, probe))}"
                    )
                case "enrol":
                    mine.append(f"d{number}-{at}")
                    await client.enrol_embedding(mine[-1], -probe, model=MODEL)
                case "erase":
                    await client.erase(mine.pop())
        except VeilmatchError as error:
            failed = error.code
        now = time.monotonic()
        done.append(Call(operation, at, now - started, now - began, failed, wrong))
    return done


def summary(calls: Sequence[Call], usual: dict[str, float]) -> dict[str, Any]:
    """Return the figures of one outage; what a call waits is what it takes beyond the usual."""
    waited = {call: max(0.0, call.took_s - usual[call.operation]) for call in calls}
    first, later = [c for c in calls if c.number == 0], [c for c in calls if c.number > 0]
    counts = {name: sum(call.operation == name for call in calls) for name in usual}
    return {
        "calls": counts,
        "usual_s": usual,
        "failed_first": sum(bool(call.failed) for call in first),
        "failed_later": sum(bool(call.failed) for call in later),
        "codes": sorted({call.failed for call in calls} - {""}),
        "wrong": sum(call.wrong for call in calls),
        "first_waits_s": max(waited[call] for call in first),
        "served_after_s": min((call.ended_s for call in calls if not call.failed), default=float("inf")),
        "later_wait_median_s": statistics.median(waited[call] for call in later),
        "later_wait_95_s": statistics.quantiles([waited[call] for call in later], n=20)[-1],
        "later_wait_most_s": max(waited[call] for call in later),
    }


def show(figures: dict[str, Any]) -> None:
    """Print the table."""
    table = Table(
        "organisation is", "calls", "failed, first calls", "failed, later", "wrong", "first call waits at most",
        "later calls wait: median, 95 %, most",
        title=f"organisation {figures['organisation']} down; {figures['cores']} cores of {figures['cpu']}",
    )  # fmt: skip
    for way in WAYS:
        f = figures[way]
        table.add_row(
            way, ", ".join(f"{n} {name}" for name, n in sorted(f["calls"].items())), str(f["failed_first"]),
            f"{f['failed_later']} {' '.join(f['codes'])}", str(f["wrong"]), f"{f['first_waits_s']:.2f} s",
            f"{f['later_wait_median_s']:.2f}, {f['later_wait_95_s']:.2f}, {f['later_wait_most_s']:.2f} s",
        )  # fmt: skip
    Console().print(table)


if __name__ == "__main__":
    main()
