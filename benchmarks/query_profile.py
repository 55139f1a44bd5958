"""Where the CPU time of a query goes, by party and step, and the share of modular multiplication.

    python benchmarks/query_profile.py                 verify and candidates over 10,000, D = 128 and 512
    python benchmarks/query_profile.py --quick         D = 128 over 1,000
    python benchmarks/query_profile.py --plots FOLDER  draws query_profile.svg and .png there
    python benchmarks/query_profile.py --json PATH     writes the figures as well

What each daemon takes from rest to answer is counted by the operating system, on six daemons over loopback. Steps
are measured one by one in this process, with the functions that the daemons run, on as many ciphertexts and slots, and
are laid into that total; "everything else" is what remains: TLS, gRPC, databases, Python. Dealt randomness is made at
rest and not in the profile. The share of modular multiplication in the daemons' time is that of benchmarks/system.py:
exponentiation of packs, encryptions of zero, secret powers, proofs and the key-safety check; "of all" counts the
device, and the joining of results, which is modular multiplications too.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from daemons import cpu_seconds, wait_until_idle
from gates import decision, validity
from machine import cpu
from profile_chart import MULTIPLICATIONS, PARTIES, STYLES, draw, lay
from rich.console import Console
from rich.table import Table
from system import enrol, limits, median

from veilmatch.client.client import Client
from veilmatch.client.demo.parties import fresh_passphrase, hold_ceremony
from veilmatch.client.evaluation.figures.curves import png, svg
from veilmatch.client.wire.encryption import Encryptor
from veilmatch.crypto.arithmetic import random_bits
from veilmatch.crypto.encryption.paillier import Paillier, PublicKey
from veilmatch.crypto.encryption.public_key_format import PublicFile
from veilmatch.crypto.parameters import D512, DEFAULT, ParameterSet
from veilmatch.crypto.rings.choice import choose
from veilmatch.server.supervisor import Supervisor

THRESHOLD = 0.40
#: Of each step, after a first time that is not counted.
_TIMES = 7
REPEATS = {"verify": 15, "candidates": 5}


def main() -> None:
    """Measure, print, draw and write what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--identities", type=int, default=10_000, help="size of the gallery (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="D = 128 over 1,000 identities")
    parser.add_argument("--plots", type=Path, help="folder for the chart")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    sets = (DEFAULT,) if options.quick else (DEFAULT, D512)
    identities = 1_000 if options.quick else options.identities
    console = Console(stderr=True)
    profiles = [profile for p in sets for profile in measure(p, identities, console)]
    figures = {"cpu": cpu(), "cores": os.cpu_count(), "backend": choose().backend, "profiles": profiles}
    show(figures)
    if options.plots:
        options.plots.mkdir(parents=True, exist_ok=True)
        figure = draw(profiles)
        (options.plots / "query_profile.svg").write_text(svg(figure))
        (options.plots / "query_profile.png").write_bytes(png(figure))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


def measure(parameters: ParameterSet, identities: int, console: Console) -> list[dict[str, Any]]:
    """Return the profiles of verify and candidates."""
    passphrase, profiles = fresh_passphrase(), []
    with tempfile.TemporaryDirectory(prefix="veilmatch-bench-") as scratch:
        directory = Path(scratch) / "installation"
        console.print(f"{parameters.name}: key ceremony, steps one by one")
        hold_ceremony(directory, parameters.name, passphrase)
        key = PublicFile.decode((directory / "public.json").read_bytes()).public_key
        steps = _steps(key, identities)
        with Supervisor(directory, {"VEILMATCH_PASSPHRASE": passphrase}) as parties:
            parties.start()
            parties.wait_ready()
            with Client.from_config(directory / "device-1" / "device.toml") as client:
                enrol(client, parameters, identities, console)
                for operation in REPEATS:
                    console.print(f"{parameters.name}: {operation}")
                    total_s, measured = _query(client, parties, operation, parameters)
                    profiles.append(lay(parameters, operation, identities, total_s, measured, steps[operation]))
    return profiles


def _query(
    client: Client, parties: Supervisor, operation: str, parameters: ParameterSet
) -> tuple[float, dict[str, float]]:
    """Return the median seconds to an answer, and the median CPU seconds of every party."""
    probe = np.random.default_rng(2).standard_normal(parameters.dimension)

    def ask() -> Any:
        if operation == "verify":
            return client.verify_embedding("p0", probe, model="random", threshold=THRESHOLD, timeout_s=60.0)
        return client.candidates_embedding(probe, model="random", threshold=THRESHOLD, timeout_s=120.0)

    ask()
    found: dict[str, list[float]] = {party: [] for party in PARTIES}
    totals = []
    for _ in range(REPEATS[operation]):
        wait_until_idle(parties)
        before, own = cpu_seconds(parties), time.process_time()
        totals.append(ask().timings.total_s)
        found["device"].append(time.process_time() - own)
        after = cpu_seconds(parties)
        for party in set(parties.names) & set(PARTIES):
            found[party].append(after[party] - before[party])
    return statistics.median(totals), {party: statistics.median(times) for party, times in found.items()}


def _steps(key: PublicKey, identities: int) -> dict[str, dict[str, dict[str, float]]]:
    """Return the CPU seconds of every step, by operation and kind of party."""
    p, scheme = key.parameters, Paillier(key)
    found = limits(key, identities, time.process_time)
    width = found["ring_lanes"]
    encryptor, context = Encryptor(key), bytes(32)
    vector = np.zeros(p.dimension, dtype=np.int64)
    # What a proof begins with is made with its probe, once.
    probes = iter([encryptor.lanes(vector) for _ in range(1 + _TIMES)])
    device = {
        "encrypt probe": _cpu_s(lambda: encryptor.lanes(vector)),
        "prove to know it": _cpu_s(lambda: next(probes).prove(context)),
    }
    steps = {}
    # A verification converts the record of one template with the probe, and has no packs and no results.
    for operation, packs, slots in (("verify", 0, 1), ("candidates", -(-identities // p.slots), identities)):
        groups, vectors = -(-packs // width), 2 if operation == "verify" else 1
        matcher = {
            "packs to exponents": groups * width * found["pack_s"],
            "re-randomise": groups * width * found["rerandomise_s"],
            "join results": _joining_s(scheme, packs) if packs else 0.0,
        }
        holder = {
            "convert probe": -(-vectors * p.lane_ciphertexts // width) * width * found["conversion_s"],
            "convert results": groups * width * found["conversion_s"],
            "check proof": found["check_proof_s"],
            "key-safety check": found[f"{operation}_safety_s"],
            "validity gate": validity(p)["holder_s"],
            "decision gate": decision(p, slots)["holder_s"],
        }
        daemons = {"multiplications": found[f"{operation}_multiplications_s"]}
        steps[operation] = {"device": device, "matcher": matcher, "keyholder": holder, "daemons": daemons}
    return steps


def _joining_s(scheme: Paillier, packs: int) -> float:
    """Of one matcher: read the other's results, divide, and multiply a constant in."""
    data = [scheme.serialise(c) for c in scheme.encrypt_zeros(packs)]
    own, half = scheme.parse_many(data), scheme.encode(random_bits(64))

    def join() -> None:
        for score in scheme.divide_many(scheme.parse_many(data), own):
            scheme.multiply(score, half)

    return _cpu_s(join)


def _cpu_s(work: Callable[[], object]) -> float:
    work()
    return median(work, _TIMES, time.process_time)


def show(figures: dict[str, Any]) -> None:
    """Print a table for each profile."""
    console = Console(file=sys.stdout, width=120)
    for f in figures["profiles"]:
        where = f" over {f['identities']:,}" if f["operation"] == "candidates" else ""
        table = Table(
            "step, CPU ms", *PARTIES,
            title=f"{f['parameter_set']}, {f['operation']}{where}: answer after {1e3 * f['total_s']:.0f} ms",
            caption=f"modular multiplication: {f['share_of_daemons']:.0%} of the daemons' CPU time as "
            f"benchmarks/system.py counts it, {f['share_of_all']:.0%} of all with the device",
        )  # fmt: skip
        for step in STYLES:
            cells = [f["steps"][party].get(step) for party in PARTIES]
            name = f"{step} *" if step in MULTIPLICATIONS else step
            table.add_row(name, *("" if s is None else f"{1e3 * s:.2f}" for s in cells))
        table.add_row("measured", *(f"{1e3 * f['cpu_s'][party]:.2f}" for party in PARTIES), style="bold")
        console.print(table)


if __name__ == "__main__":
    main()
