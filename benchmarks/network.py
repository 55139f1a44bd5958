"""What distance between the organisations costs: time to an answer over the delay of their links, and trips in a row.

    python benchmarks/network.py                    0 to 50 ms, a gallery of 1,000 (about ten minutes)
    python benchmarks/network.py --quick            0 and 25 ms, a gallery of 120 (two minutes)
    python benchmarks/network.py --delays 0 20 --repetitions 15 --operations verify identify
    python benchmarks/network.py --plots FOLDER     draws network.svg and .png there
    python benchmarks/network.py --timeline FILE.svg --timeline-of identify --timeline-delay 25 --repetitions 0
                                                    draws one request and prints what waits for what; see timeline/
    python benchmarks/network.py --json PATH        writes the figures as well
    python benchmarks/network.py --against REVISION the same figures of another revision, in turn; see against.py

Six daemons and a device on this machine. Every link that leaves an organisation, of matchers and of key holders, goes
through a relay that delays each way (relay.py); links within an organisation and those of the device go straight. What
lies between them is distance alone: no loss, no limit of what a link carries.

Times are medians of whole requests as the device sees them, one at a time; delays take turns, so that a machine
that becomes slower does so for all of them. A line is fitted to the fastest times, because whatever else the machine
does makes them longer only: its slope is the number of *trips in a row*, messages between organisations that wait for
one another, and what it says for no delay is what is left when the organisations are in one place. Every answer is
compared with that of plain integers.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import against
import numpy as np
from daemons import wait_until_idle
from installation import CHANGES, QUERIES, Gallery, ask, installed
from machine import cpu
from relay import Relays, between_organisations
from rich.console import Console
from rich.table import Table

from veilmatch.client.async_client import AsyncClient
from veilmatch.client.config import DeviceSettings
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.server.supervisor import Supervisor

DELAYS_MS = (0.0, 5.0, 10.0, 25.0, 50.0)


def main(arguments: Sequence[str]) -> None:
    """Measure, print, draw and write what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parameters", default="d128-s126-c38-l46-n3072", help="parameter set (default: %(default)s)")
    parser.add_argument("--identities", type=int, default=1000, help="size of the gallery (default: %(default)s)")
    parser.add_argument("--delays", type=float, nargs="+", default=list(DELAYS_MS), help="each way, in ms")
    parser.add_argument(
        "--repetitions", type=int, default=9, help="of each figure; 0: no figures (default: %(default)s)"
    )
    parser.add_argument("--operations", nargs="+", choices=QUERIES + CHANGES, default=list(QUERIES + CHANGES))
    parser.add_argument("--quick", action="store_true", help="0 and 25 ms, 3 repetitions, 120 identities")
    parser.add_argument("--plots", type=Path, help="folder for the chart")
    parser.add_argument("--timeline", type=Path, help="draw one request to this file, .svg or .png")
    parser.add_argument("--timeline-of", default="verify", choices=QUERIES + CHANGES)
    parser.add_argument("--timeline-delay", type=float, default=10.0, help="in ms (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    against.add_options(parser)
    options = parser.parse_args(arguments)
    if options.against:
        against.compare(Path(__file__), headline, options, arguments)
        return
    if options.quick:
        options.identities, options.delays, options.repetitions = 120, [0.0, 25.0], 3
    figures = measure(options)
    show(figures)
    if options.plots:
        import plots
        from network_chart import draw

        plots.write(options.plots, "network", draw(figures["operations"]))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Make an installation whose organisations are apart, and return the figures."""
    gallery = Gallery(ParameterSet.from_name(options.parameters), options.identities)
    figures = {
        "cpu": cpu(), "cores": os.cpu_count(), "parameter_set": options.parameters, "identities": options.identities,
        "repetitions": options.repetitions,
    }  # fmt: skip
    with (
        installed(options.parameters) as (directory, environment),
        Relays(directory, slow=between_organisations) as relays,
    ):
        with Supervisor(directory, environment) as parties:
            parties.start()
            parties.wait_ready()
            figures["operations"] = asyncio.run(_measured(directory, parties, relays, gallery, options))
        if options.timeline:
            # It puts code into the daemons, which are started anew for that.
            from timeline.one_request import record

            figures["timeline"] = record(
                directory, environment, relays, gallery, options.timeline_of, options.timeline_delay,
                options.timeline,
            )  # fmt: skip
    return figures


async def _measured(
    directory: Path, parties: Supervisor, relays: Relays, gallery: Gallery, options: argparse.Namespace
) -> dict[str, Any]:
    """Return the times of every operation and delay, and their lines."""
    console, times = Console(stderr=True), {name: {d: [] for d in options.delays} for name in options.operations}
    async with AsyncClient(DeviceSettings.load(directory / "device-1" / "device.toml")) as client:
        console.print("bulk enrolment")
        await client.enrol_many_embeddings(gallery.named(), model="random", timeout_s=600.0)
        # Queries first: after a change the device would be sent the labels of the gallery again.
        for group in (QUERIES, CHANGES):
            # Who is to be erased is enrolled first.
            asked = [name for name in group if name in times or (name == "enrol" and "erase" in times)]
            for repetition in range(-1, options.repetitions) if asked and options.repetitions else ():
                console.print(f"{', '.join(asked)}: {max(repetition, 0)} of {options.repetitions}")
                # The first round fills caches, and is not counted.
                delays = [0.0] if repetition < 0 else options.delays[:: 1 if repetition % 2 else -1]
                for delay in delays:
                    relays.delay_s = delay / 1e3
                    await asyncio.to_thread(wait_until_idle, parties)
                    for name in asked:
                        started = time.perf_counter()
                        right = await ask(client, name, gallery, repetition + 1, f"e{repetition}-{delay:g}")
                        took_s = time.perf_counter() - started
                        if not right:
                            raise AssertionError(f"{name}: a wrong answer")
                        if repetition >= 0 and name in times:
                            times[name][delay].append(took_s)
        relays.delay_s = 0.0
    return {name: line(found) for name, found in times.items()} if options.repetitions else {}


def line(times_s: dict[float, list[float]]) -> dict[str, Any]:
    """Return medians, quartiles and the least by delay in ms, and the line through the least.

    trips: its slope; fixed_s: its value for no delay; worst_s: how far one of them is from it, at most. All three are
    None if there are no two delays.
    """
    delays, least = [d / 1e3 for d in times_s], [min(found) for found in times_s.values()]
    trips = fixed_s = worst_s = None
    if len(delays) > 1:
        trips, fixed_s = (float(x) for x in np.polyfit(delays, least, 1))
        worst_s = max(abs(m - fixed_s - trips * d) for d, m in zip(delays, least, strict=True))
    by_delay = {}
    for delay, found in times_s.items():
        low, high = np.quantile(found, (0.25, 0.75)).tolist()
        by_delay[f"{delay:g}"] = {
            "median_s": statistics.median(found), "least_s": min(found), "q1_s": low, "q3_s": high,
        }  # fmt: skip
    return {"by_delay_ms": by_delay, "trips": trips, "fixed_s": fixed_s, "worst_s": worst_s}


def headline(figures: dict[str, Any]) -> dict[str, float]:
    """Return the figures that are compared with those of another revision."""
    found = {}
    for name, operation in figures["operations"].items():
        for delay, times in operation["by_delay_ms"].items():
            found[f"{name}, {delay} ms apart [ms]"] = 1e3 * times["median_s"]
        if operation["trips"] is not None:
            found[f"{name} [trips in a row]"] = operation["trips"]
    return found


def show(f: dict[str, Any]) -> None:
    """Print the table."""
    delays = next((list(found["by_delay_ms"]) for found in f["operations"].values()), [])
    table = Table(
        "operation", *(f"{delay} ms apart" for delay in delays), "trips in a row", "line at 0 ms",
        "worst off it",
        title=f"median times to the answer, gallery of {f['identities']:,}, {f['parameter_set']}; "
        f"{f['cores']} cores of {f['cpu']}",
    )  # fmt: skip
    for name, found in f["operations"].items():
        times = (f"{1e3 * times['median_s']:,.0f} ms" for times in found["by_delay_ms"].values())
        fitted = ("", "", "")
        if found["trips"] is not None:
            fitted = f"{found['trips']:.1f}", f"{1e3 * found['fixed_s']:,.0f} ms", f"{1e3 * found['worst_s']:,.0f} ms"
        table.add_row("verify, assured" if name == "assured" else name, *times, *fitted)
    if f["operations"]:
        Console(width=140).print(table)
    if "timeline" in f:
        print(f["timeline"]["printed"])


if __name__ == "__main__":
    main(sys.argv[1:])
