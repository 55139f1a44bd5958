"""A key ceremony of three organisations: seconds, CPU, bytes, rounds of each step; candidates against expectation.

    python benchmarks/ceremony.py                              3072 bits, no delay and 10 ms each way: some minutes
    python benchmarks/ceremony.py --quick                      1024 bits (UNSAFE), the same delays
    python benchmarks/ceremony.py --bits 1024 2048 3072 --delays 0 1 10 50 --ceremonies 3
    python benchmarks/ceremony.py --json PATH                  writes the figures as well

Three processes on this machine, over mutual TLS with authorities of their own, as on the day. Links go through relays
that delay each way (relay.py). Bytes and rounds are those that organisation a sends, CPU is that of its process;
seconds have the machine's other work in them. Where three processes share fewer cores than three, a step whose
arithmetic is the bottleneck takes up to three times as long as on machines of their own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import multiprocessing
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from machine import cpu
from relay import Relays, between_organisations
from rich.console import Console
from rich.table import Table

from veilmatch.client.demo.parties import free_base_port
from veilmatch.crypto.ceremony.joint.sizes import LARGE_BOUND, SMALL_BOUND, Sizes
from veilmatch.crypto.keys.parties import PARTIES, Party
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.server.ceremony.introduction import Introduction, file_of
from veilmatch.server.ceremony.joining import join
from veilmatch.server.ceremony.preparing import CONFIG, prepare
from veilmatch.server.ceremony.rehearsal import put_together
from veilmatch.server.ceremony.settings import CeremonySettings
from veilmatch.server.installation.plan import Plan

PASSPHRASE = "benchmark"
_EULER = 1.7810724
#: The part of a ceremony that a step of it belongs to, by how its name begins.
PARTS = {
    "meeting": "meeting",
    "small candidates": "p and q: search",
    "large candidates": "P and Q: search",
    "modulus": "N, two primes, generator",
    "key shares": "shares and test conversions",
    "writing": "writing",
}


@dataclass
class Measured:
    """What one organisation's process has measured, by step: name, seconds, CPU seconds, rounds, bytes."""

    steps: list[list[Any]] = field(default_factory=list)
    rounds: int = 0
    sent_bytes: int = 0

    def __post_init__(self) -> None:
        self.steps.append(["meeting", time.monotonic(), time.process_time(), 0, 0])

    def reached(self, part: str, rounds: int) -> None:
        self.steps.append([part, time.monotonic(), time.process_time(), self.rounds, self.sent_bytes])

    def sent(self, total_bytes: int) -> None:
        self.rounds, self.sent_bytes = self.rounds + 1, total_bytes

    def waiting(self, peer: Party, why: str) -> None: ...

    def say(self, text: str) -> None: ...

    def of_parts(self) -> dict[str, dict[str, float]]:
        """Return the figures of each part; the last step ends now."""
        ends = [*self.steps[1:], ["", time.monotonic(), time.process_time(), self.rounds, self.sent_bytes]]
        found: dict[str, dict[str, float]] = {}
        for begun, ended in zip(self.steps, ends, strict=True):
            part = next(name for start, name in PARTS.items() if begun[0].startswith(start))
            row = found.setdefault(part, dict.fromkeys(("seconds", "cpu_s", "rounds", "bytes"), 0.0))
            for name, before, after in zip(row, begun[1:], ended[1:], strict=True):
                row[name] += after - before
        return found


def main(arguments: Sequence[str]) -> None:
    """Measure, print and write what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bits", type=int, nargs="+", default=[3072], help="of the modulus")
    parser.add_argument("--delays", type=float, nargs="+", default=[0.0, 10.0], help="each way, in ms")
    parser.add_argument("--ceremonies", type=int, default=1, help="of each (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="1024 bits")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args(arguments)
    console, found = Console(), []
    for bits in [1024] if options.quick else options.bits:
        parameters = ParameterSet(modulus_bits=bits)
        for delay_ms in options.delays:
            for _ in range(options.ceremonies):
                found.append(held(parameters, delay_ms))
                console.print(table(found[-1]))
    console.print(candidates(found))
    if options.json:
        document = {"cpu": cpu(), "cores": os.cpu_count(), "ceremonies": found}
        options.json.write_text(json.dumps(document, indent=1) + "\n")


def held(parameters: ParameterSet, delay_ms: float, keep: Path | None = None) -> dict[str, Any]:
    """Hold one ceremony, links delayed so long each way; return its figures.

    keep: a directory that is not there yet, for what comes of it, as one installation under `PASSPHRASE`.
    """
    with tempfile.TemporaryDirectory(prefix="veilmatch-ceremony-") as scratch:
        directory = Path(scratch)
        configs = ready(directory, parameters)
        with Relays(directory, slow=between_organisations) as relays:
            relays.delay_s = delay_ms / 1e3
            spawning = multiprocessing.get_context("spawn")
            with spawning.Pool(len(PARTIES)) as pool:
                of_all = pool.map(part_of, configs, chunksize=1)
            carried = relays.counts()
        if keep is not None:
            put_together({party: one[3] for party, one in zip(PARTIES, of_all, strict=True)}, keep)
    parts, steps, key_id, _ = of_all[0]
    tested = [re.search(r"(small|large).*: (\d+) (tested|prime)", step) for step in steps]
    counts = {(one[1], one[3]): 0 for one in tested if one}
    for one in filter(None, tested):
        counts[one[1], one[3]] += int(one[2])
    return {
        "parameter_set": parameters.name,
        "modulus_bits": parameters.modulus_bits,
        "delay_ms": delay_ms,
        "key_id": key_id,
        "parts": parts,
        "batches": sum(bool(re.fullmatch(r"large candidates, batch \d+", step)) for step in steps),
        "small_tested": counts["small", "tested"],
        "large_tested": counts["large", "tested"],
        "large_prime": counts["large", "prime"],
        "carried_bytes": {f"{caller} {called}": size for (caller, called), size in sorted(carried.items())},
    }


def part_of(config: Path) -> tuple[dict[str, dict[str, float]], list[str], str, Path]:
    """Take part for one organisation, in this process."""
    measured = Measured()
    joined = asyncio.run(join(CeremonySettings.load(config), PASSPHRASE, measured))
    key_id = joined.public.public_key.key_id.hex()
    return measured.of_parts(), [step[0] for step in measured.steps], key_id, joined.installation


def ready(directory: Path, parameters: ParameterSet) -> list[Path]:
    """Prepare three organisations that know each other, and where they are; return their configurations."""
    base_port = free_base_port()
    plan = Plan("127.0.0.1", base_port, 1)
    homes = {party: directory / f"organisation-{party}" / "ceremony" for party in PARTIES}
    more = {"allow_unsafe": True, "wait_s": 300.0, "patience_s": 600.0}
    made: dict[Party, Introduction] = {}
    for party, home in homes.items():
        addresses = {other: plan.address(f"keyholder-{other}") for other in PARTIES if other != party}
        made[party] = prepare(home, party, parameters, plan, PASSPHRASE, more | {"addresses": addresses})
    for party, home in homes.items():
        lines = [f'{other} = "{one.fingerprint}"' for other, one in made.items() if other != party]
        (home / CONFIG).write_text("\n".join([(home / CONFIG).read_text(), *lines, ""]))
        for other in made:
            if other != party:
                shutil.copy(file_of(homes[other], other), file_of(home, other))
    return [home / CONFIG for home in homes.values()]


def expected_tests(parameters: ParameterSet) -> tuple[float, float]:
    """Return how many p, and how many P, are tested for one that is prime: density of primes, sieved to the bounds."""
    sizes = Sizes(parameters)
    small, large = (
        bits * math.log(2) / (_EULER * math.log(bound))
        for bits, bound in ((sizes.small_bits, SMALL_BOUND), (sizes.large_bits, LARGE_BOUND))
    )
    return small, large


def table(found: dict[str, Any]) -> Table:
    """Return one ceremony as people read it."""
    title = f"{found['parameter_set']}, {found['delay_ms']:g} ms each way, {found['batches']} batch(es)"
    shown = Table("", "seconds", "CPU s of one", "rounds", "MB sent by one", title=title)
    rows = [*found["parts"].items()]
    rows.append(("all", {k: sum(row[k] for _, row in rows) for k in ("seconds", "cpu_s", "rounds", "bytes")}))
    for name, row in rows:
        shown.add_row(
            name, f"{row['seconds']:.1f}", f"{row['cpu_s']:.1f}", f"{row['rounds']:.0f}", f"{row['bytes'] / 1e6:.1f}"
        )
    return shown


def candidates(found: list[dict[str, Any]]) -> Table:
    """Return how many candidates were tested for one prime, over all ceremonies of a size, against expectation."""
    shown = Table("bits", "P tested", "prime", "one in", "expected one in", title="candidates")
    for bits in dict.fromkeys(one["modulus_bits"] for one in found):
        same = [one for one in found if one["modulus_bits"] == bits]
        tested, prime = (sum(one[name] for one in same) for name in ("large_tested", "large_prime"))
        _, expected = expected_tests(ParameterSet(modulus_bits=bits))
        shown.add_row(str(bits), str(tested), str(prime), f"{tested / prime:.1f}", f"{expected:.1f}")
    return shown


if __name__ == "__main__":
    main(sys.argv[1:])
