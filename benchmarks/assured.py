"""What an assured answer costs beside a plain one: time and CPU of `verify`, all six daemons on this machine.

    python benchmarks/assured.py                 (about two minutes)
    python benchmarks/assured.py --powers        what it would save if work of both sessions met in the kernel; seconds
    python benchmarks/assured.py --json PATH     writes the figures as well

An assured verification asks all three pairs at once. Each organisation takes part in two of them, so it has twice the
work of a plain one that it serves, and all six daemons together have three times the work. What that makes of the time
depends on how many cores there are. From the CPU time of each daemon in this run the time on other machines is derived:
that of a plain answer here, and what has to be computed more, spread over the cores (R. L. Graham, Bounds on
multiprocessing timing anomalies, 1969: no schedule that leaves no core idle takes longer than the longest chain and an
even share of all the rest). For one machine with as many cores as this one the same run measures it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
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
from veilmatch.crypto.arithmetic import Integer, random_bits
from veilmatch.crypto.encryption.paillier import PublicKey
from veilmatch.crypto.keys.shares import exponent_bits, safety_exponent_bits
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.crypto.rings.choice import make_ring
from veilmatch.server.supervisor import Supervisor

THRESHOLD = 0.40
MODEL = "random"
#: Of machines that times are derived for.
_CORES = (2, 4, 8)
#: Of powers, in turn.
_TRIALS = 25


def main() -> None:
    """Measure, print a table, write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parameters", default="d128-s126-c38-l46-n3072", help="parameter set (default: %(default)s)")
    parser.add_argument("--verifications", type=int, default=30)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--powers", action="store_true", help="only powers of two sessions, apart and together")
    options = parser.parse_args()
    if options.powers:
        figures = {"powers": powers(ParameterSet.from_name(options.parameters))}
        show_powers(figures["powers"])
    else:
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
    return figures | {"derived": [_derived(figures, cores) for cores in _CORES]}


def _derived(figures: dict[str, Any], cores: int) -> dict[str, float]:
    """Return the times of an assured answer on one machine with so many cores, and with such a machine for each."""

    def busiest(name: str) -> float:
        by_daemon = figures[name]["cpu_s"]
        return max(sum(s for party, s in by_daemon.items() if party.endswith(f"-{x}")) for x in "abc")

    def everybody(name: str) -> float:
        return float(sum(figures[name]["cpu_s"].values()))

    plain_s = figures["plain"]["median_s"]
    return {
        "cores": cores,
        "one_machine_s": plain_s + (everybody("assured") - everybody("plain")) / cores,
        "machine_each_s": plain_s + (busiest("assured") - busiest("plain")) / cores,
    }


def powers(parameters: ParameterSet) -> list[dict[str, Any]]:
    """Return the CPU time of the powers of two sessions at one key holder, apart and together: the shortest in turn."""
    modulus = random_bits(parameters.modulus_bits) | Integer(1) | (Integer(1) << (parameters.modulus_bits - 1))
    public_key, ring = PublicKey(parameters, modulus, Integer(1)), make_ring(modulus)
    found = []
    for name, count, bits in (
        ("conversions", 2 * parameters.lane_ciphertexts, exponent_bits(public_key)),
        ("key-safety checks", 2, safety_exponent_bits(public_key)),
    ):
        bases = [random_bits(2 * parameters.modulus_bits - 1) for _ in range(2 * count)]
        exponents = [random_bits(bits) | (Integer(1) << (bits - 1)) for _ in bases]
        shortest = {count: math.inf, 2 * count: math.inf}
        for _ in range(_TRIALS):
            for numbers in shortest:
                started = time.thread_time()
                ring.powers_secret_each(bases[:numbers], exponents[:numbers])
                shortest[numbers] = min(shortest[numbers], time.thread_time() - started)
        apart, together = 2 * shortest[count], shortest[2 * count]
        found.append({"name": name, "numbers": count, "bits": bits, "apart_s": apart, "together_s": together})
    return found


def show_powers(found: list[dict[str, Any]]) -> None:
    """Print the table."""
    table = Table("of two sessions", "numbers of each", "bits", "apart", "together", title=cpu())
    for row in found:
        sizes = f"{1e3 * row['apart_s']:.1f} ms", f"{1e3 * row['together_s']:.1f} ms"
        table.add_row(row["name"], str(row["numbers"]), str(row["bits"]), *sizes)
    Console().print(table)


def show(f: dict[str, Any]) -> None:
    """Print the table."""
    table = Table("", "plain", "assured", "ratio", title=f"{f['parameter_set']}, {f['cores']} cores of {f['cpu']}")
    plain, assured = f["plain"], f["assured"]
    rows = (
        ("time on this machine", plain["median_s"], assured["median_s"]),
        ("CPU time of all daemons", sum(plain["cpu_s"].values()), sum(assured["cpu_s"].values())),
        *(
            (f"time on {where} with {row['cores']} cores, derived", plain["median_s"], row[which])
            for where, which in (
                ("one machine", "one_machine_s"),
                ("a machine for each organisation", "machine_each_s"),
            )
            for row in f["derived"]
        ),
    )
    for name, one, three in rows:
        table.add_row(name, f"{1e3 * one:.0f} ms", f"{1e3 * three:.0f} ms", f"{three / one:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
