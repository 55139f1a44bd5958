"""What an assured answer costs beside a plain one: time and CPU of `verify`, all six daemons on this machine.

    python benchmarks/assured.py                 (about two minutes)
    python benchmarks/assured.py --json PATH     writes the figures as well

An assured verification asks all three pairs at once. Each organisation takes part in two of them, so it has twice the
work of a plain one that it serves. Where one machine runs everything, all of that shares its cores. Where each
organisation has a machine, an answer takes as long as the busiest organisation needs: from the CPU time of each daemon
in this run, `derived` is the time of a plain answer and what the busiest organisation computes more, on as many cores
as this machine has.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from daemons import cpu_seconds, wait_until_idle
from installation import Gallery, hold_ceremony
from machine import cpu
from rich.console import Console
from rich.table import Table

from veilmatch.client.async_client import AsyncClient
from veilmatch.client.config import DeviceSettings
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.server.supervisor import Supervisor

THRESHOLD = 0.40
MODEL = "random"


def main() -> None:
    """Measure, print a table, write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parameters", default="d128-s126-c38-l46-n3072", help="parameter set (default: %(default)s)")
    parser.add_argument("--verifications", type=int, default=30)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    figures = measure(options)
    show(figures)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Make an installation and return the figures."""
    passphrase = secrets.token_urlsafe(24)
    with tempfile.TemporaryDirectory(prefix="veilmatch-assured-") as scratch:
        directory = Path(scratch) / "installation"
        hold_ceremony(directory, options.parameters, passphrase)
        with Supervisor(directory, {"VEILMATCH_PASSPHRASE": passphrase}) as parties:
            parties.start()
            parties.wait_ready()
            figures = asyncio.run(_ask(directory, parties, options))
    return {"cpu": cpu(), "cores": os.cpu_count(), "parameter_set": options.parameters} | figures


async def _ask(directory: Path, parties: Supervisor, options: argparse.Namespace) -> dict[str, Any]:
    gallery = Gallery(ParameterSet.from_name(options.parameters), 10)
    figures: dict[str, Any] = {}
    async with AsyncClient(DeviceSettings.load(directory / "device-1" / "device.toml")) as client:
        for number, vector in enumerate(gallery.vectors):
            await client.enrol_embedding(f"p{number}", vector, model=MODEL)
        for name, assured in (("plain", False), ("assured", True)):
            await asyncio.to_thread(wait_until_idle, parties)
            before, times = cpu_seconds(parties), []
            for number in range(-3, options.verifications):
                if number == 0:
                    before = cpu_seconds(parties)
                subject, probe, genuine = gallery.probe(number)
                started = time.perf_counter()
                answer = await client.verify_embedding(
                    subject, probe, model=MODEL, threshold=THRESHOLD, assured=assured
                )
                if number >= 0:
                    times.append(time.perf_counter() - started)
                if answer.decision != genuine:
                    raise AssertionError("a wrong decision")
            after = cpu_seconds(parties)
            by_daemon = {party: (after[party] - before[party]) / options.verifications for party in after}
            figures[name] = {"median_s": statistics.median(times), "cpu_s": by_daemon}
    return figures | {"derived_s": _derived(figures, os.cpu_count() or 1)}


def _derived(figures: dict[str, Any], cores: int) -> float:
    """Return the time of an assured answer where each organisation has a machine like this one."""

    def busiest(name: str) -> float:
        by_daemon = figures[name]["cpu_s"]
        return max(sum(s for party, s in by_daemon.items() if party.endswith(f"-{x}")) for x in "abc")

    return float(figures["plain"]["median_s"] + (busiest("assured") - busiest("plain")) / cores)


def show(f: dict[str, Any]) -> None:
    """Print the table."""
    table = Table("", "plain", "assured", "ratio", title=f"{f['parameter_set']}, {f['cores']} cores of {f['cpu']}")
    plain, assured = f["plain"], f["assured"]
    rows = (
        ("time on this machine", plain["median_s"], assured["median_s"]),
        ("CPU time of all daemons", sum(plain["cpu_s"].values()), sum(assured["cpu_s"].values())),
        ("time with a machine for each organisation, derived", plain["median_s"], f["derived_s"]),
    )
    for name, one, three in rows:
        table.add_row(name, f"{1e3 * one:.0f} ms", f"{1e3 * three:.0f} ms", f"{three / one:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
