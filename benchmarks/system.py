"""The whole system on this machine: six daemons over loopback, one device, synthetic unit vectors.

    python benchmarks/system.py                     the figures that docs/figures.md quotes (about two minutes)
    python benchmarks/system.py --parameters d512-s120-c18-l46-n3072
    python benchmarks/system.py --json PATH         writes them as well
    python benchmarks/system.py --against REVISION  the same figures of another revision, in turn; see against.py

Times are medians over whole requests as the device sees them, embedding excluded. Beside each stands a limit
or a peer measured in the same run: what the modular multiplications alone cost on this machine, spread over
its cores, and python-paillier (phe), encrypting under the same key size. The CPU time of a query is that of all
six daemons, as the operating system counts it. Gallery vectors are random; for speed only their number
counts, because no step depends on a value. Queries are measured when the key holders have their stock of dealt
randomness; what it costs to deal and check more of it is in dealt.py. VEILMATCH_BACKEND chooses the arithmetic.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import against
import numpy as np
from daemons import cpu_seconds, memory, wait_until_idle
from machine import cpu
from rich.console import Console
from rich.table import Table

from veilmatch.client.client import Client
from veilmatch.client.demo.parties import fresh_passphrase, hold_ceremony
from veilmatch.client.wire.encryption import Encryptor
from veilmatch.crypto.arithmetic import random_below, random_bits
from veilmatch.crypto.encryption import knowledge
from veilmatch.crypto.encryption.paillier import Paillier, PublicKey
from veilmatch.crypto.encryption.public_key_format import PublicFile
from veilmatch.crypto.gates.answer import answer_bits
from veilmatch.crypto.keys.shares import exponent_bits, safety_exponent_bits
from veilmatch.crypto.pair.key_safety import draw_weights
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.crypto.rings.choice import choose
from veilmatch.server.installation.plan import folder_of
from veilmatch.server.supervisor import Supervisor

THRESHOLD = 0.40
#: Enrolments of one template, timed alone.
SINGLE = 9
#: Identities of one bulk enrolment, at most.
BATCH = 19_500


def main(arguments: Sequence[str]) -> None:
    """Measure, print a table, write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parameters", default="d128-s126-c38-l46-n3072", help="parameter set (default: %(default)s)")
    parser.add_argument("--identities", type=int, default=10_000, help="size of the gallery (default: %(default)s)")
    parser.add_argument("--verifications", type=int, default=21)
    parser.add_argument("--searches", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    against.add_options(parser)
    options = parser.parse_args(arguments)
    if options.against:
        against.compare(Path(__file__), headline, options, arguments)
        return
    figures = measure(options)
    show(figures)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run everything once and return the figures."""
    console, parameters = Console(stderr=True), ParameterSet.from_name(options.parameters)
    passphrase = fresh_passphrase()
    with tempfile.TemporaryDirectory(prefix="veilmatch-bench-") as scratch:
        directory = Path(scratch) / "installation"
        console.print("key ceremony")
        figures = {
            "parameter_set": parameters.name,
            "identities": options.identities,
            "cpu": cpu(),
            "cores": os.cpu_count(),
            "backend": choose().backend,
            "ceremony_s": hold_ceremony(directory, parameters.name, passphrase)["ceremony_s"],
        }
        key = PublicFile.decode((directory / "public.json").read_bytes()).public_key
        console.print("limits and peers")
        figures |= limits(key, options.identities) | _encryption(key)
        with Supervisor(directory, {"VEILMATCH_PASSPHRASE": passphrase}) as parties:
            parties.start()
            parties.wait_ready()
            idle = memory(parties.pid("matcher-a"))
            with Client.from_config(directory / "device-1" / "device.toml") as client:
                console.print("filling the stock")
                wait_until_idle(parties)
                figures |= enrol(client, parameters, options.identities, console)
                console.print("restart of a matcher")
                figures |= _restart(parties, directory)
                figures["loaded_memory_bytes"] = memory(parties.pid("matcher-a"))
                console.print("filling the stock")
                wait_until_idle(parties)
                console.print("queries")
                figures |= {"idle_memory_bytes": idle} | _queries(client, parties, parameters, options)
        figures |= _storage(directory, parameters, options.identities)
    return figures


def limits(key: PublicKey, identities: int, clock: Callable[[], float] = time.perf_counter) -> dict[str, Any]:
    """What the modular multiplications of a search and of a verification cost here, without everything else.

    Of the servers: exponentiations of packs, encryptions of zero, secret powers, proofs and the key-safety check.
    """
    p, scheme, cores = key.parameters, Paillier(key), os.cpu_count() or 1
    lanes, packs = scheme.ring.lanes, -(-identities // p.slots)
    group = scheme.pack_group()
    pack = [random_below(key.modulus**2) for _ in range(p.dimension)]
    for lane in range(lanes):
        group.put(lane, pack)
    exponents = [secrets.randbelow(1 << p.ring_bits) for _ in pack]
    secret = random_bits(exponent_bits(key)) | 1 << (exponent_bits(key) - 1)
    scheme.encrypt_zeros(lanes)
    products_s = median(lambda: group.products_of_powers(exponents, p.ring_bits), 9, clock)
    zeros_s = median(lambda: scheme.encrypt_zeros(lanes), 9, clock)
    powers_s = median(lambda: scheme.ring.powers_secret(pack[:lanes], secret), 9, clock)
    probe, context = Encryptor(key).lanes(np.zeros(p.dimension, dtype=np.int64)), bytes(32)
    proof = probe.prove(context)
    figures: dict[str, Any] = {
        "ring_lanes": lanes,
        "pack_s": products_s / lanes,
        "rerandomise_s": zeros_s / lanes,
        "conversion_s": powers_s / lanes,
        "check_proof_s": median(lambda: knowledge.check(key, context, probe.ciphertexts, proof), 9, clock),
    }
    # Of a verification the record of one template is converted with the probe, and no pack is multiplied.
    for operation, count, together in (
        ("candidates", packs, p.lane_ciphertexts),
        ("verify", 0, 2 * p.lane_ciphertexts),
    ):
        groups, converted = -(-count // lanes), -(-count // lanes) + -(-together // lanes)
        safety_s = _safety_s(scheme, together + count, clock)
        # Two matchers and two key holders.
        cpu_s = 2 * (groups * (products_s + zeros_s) + converted * powers_s + figures["check_proof_s"] + safety_s)
        # The two organisations work side by side, but each step of a verification waits for the one before.
        side_by_side = cores if operation == "candidates" else min(cores, 2)
        figures |= {
            f"{operation}_safety_s": safety_s,
            f"{operation}_multiplications_s": cpu_s,
            f"{operation}_limit_s": cpu_s / side_by_side,
        }
    return figures


def _safety_s(scheme: Paillier, conversions: int, clock: Callable[[], float]) -> float:
    """The key-safety check at one key holder: combine all ciphertexts, and two secret powers of the combination."""
    ciphertexts = [random_below(scheme.modulus**2) for _ in range(conversions)]
    weights = draw_weights(b"benchmark", secrets.token_bytes(32), b"", conversions).rho
    bits = safety_exponent_bits(scheme.public_key)
    secret = random_bits(bits) | 1 << (bits - 1)
    combine_s = median(lambda: scheme.combine(ciphertexts, weights), 9, clock)
    return combine_s + median(lambda: scheme.local_shares_each([ciphertexts[0]] * 2, [secret] * 2), 9, clock)


def _encryption(key: PublicKey) -> dict[str, Any]:
    encryptor = Encryptor(key)
    vector, context = np.zeros(key.parameters.dimension, dtype=np.int64), bytes(32)
    # What a proof begins with is made with its probe, once.
    probes = iter([encryptor.lanes(vector) for _ in range(16)])
    proof = next(probes).prove(context)  # builds its table
    figures: dict[str, Any] = {
        "encrypt_probe_s": median(lambda: encryptor.lanes(vector), 15),
        "proof_bytes": len(proof),
        "prove_s": median(lambda: next(probes).prove(context), 15),
    }
    try:
        from phe import paillier
    except ImportError:
        return figures | {"phe_encrypt_probe_s": None}
    theirs = paillier.PaillierPublicKey(int(key.modulus))
    count = key.parameters.lane_ciphertexts
    return figures | {"phe_encrypt_probe_s": median(lambda: [theirs.raw_encrypt(5) for _ in range(count)], 3)}


def enrol(client: Client, parameters: ParameterSet, identities: int, console: Console) -> dict[str, Any]:
    """Fill the gallery with `p0`, `p1`, ... and time that; the first few, `single-0`, ..., alone."""
    rng = np.random.default_rng(1)
    single = []
    for i in range(SINGLE):
        started = time.perf_counter()
        client.enrol_embedding(f"single-{i}", rng.standard_normal(parameters.dimension), model="random")
        single.append(time.perf_counter() - started)
    vectors = rng.standard_normal((identities - SINGLE, parameters.dimension))
    with console.status("bulk enrolment") as status:
        started = time.perf_counter()
        batch = BATCH - BATCH % parameters.slots  # whole packs
        for first in range(0, len(vectors), batch):
            client.enrol_many_embeddings(
                [(f"p{first + i}", v) for i, v in enumerate(vectors[first : first + batch])],
                model="random",
                progress=lambda stage, done, total: status.update(f"bulk enrolment: {stage} {done}/{total}"),
                timeout_s=600.0,
            )
    return {"enrol_s": sorted(single)[SINGLE // 2], "bulk_enrol_s": time.perf_counter() - started}


def _restart(parties: Supervisor, directory: Path) -> dict[str, Any]:
    parties.stop("matcher-a")
    started = time.perf_counter()
    parties.start("matcher-a")
    parties.wait_ready()
    ready = time.perf_counter() - started
    lines = [json.loads(line) for line in (directory / folder_of("matcher-a") / "log.jsonl").read_text().splitlines()]
    loads = [line["seconds"] for line in lines if line.get("event") == "gallery loaded"]
    return {"matcher_ready_s": ready, "gallery_load_s": loads[-1]}


def _queries(
    client: Client, parties: Supervisor, parameters: ParameterSet, options: argparse.Namespace
) -> dict[str, Any]:
    probe = np.random.default_rng(2).standard_normal(parameters.dimension)
    operations: dict[str, tuple[int, Callable[[], Any]]] = {
        "verify": (
            options.verifications,
            lambda: client.verify_embedding("p0", probe, model="random", threshold=THRESHOLD, timeout_s=60.0),
        ),
        "candidates": (
            options.searches,
            lambda: client.candidates_embedding(probe, model="random", threshold=THRESHOLD, timeout_s=120.0),
        ),
        "identify": (
            options.searches,
            lambda: client.identify_embedding(probe, model="random", threshold=THRESHOLD, timeout_s=120.0),
        ),
        "known": (
            options.searches,
            lambda: client.known_embedding(probe, model="random", threshold=THRESHOLD, timeout_s=120.0),
        ),
    }
    figures: dict[str, Any] = {}
    for name, (count, ask) in operations.items():
        ask()
        before = cpu_seconds(parties)
        results = [ask() for _ in range(count)]
        after = cpu_seconds(parties)
        figures["probe_bytes"] = results[0].probe_bytes
        for step in ("device", "convert", "match", "decide", "total"):
            values = sorted(getattr(r.timings, f"{step}_s") for r in results)
            figures[f"{name}_{step}_s"] = values[len(values) // 2]
        figures[f"{name}_cpu_s"] = {party: (after[party] - before[party]) / count for party in parties.names}
    figures["memory_bytes"] = {party: memory(parties.pid(party)) for party in parties.names}
    return figures


def _storage(directory: Path, parameters: ParameterSet, identities: int) -> dict[str, Any]:
    packs = -(-identities // parameters.slots)
    return {
        "pack_bytes_per_identity": packs * parameters.dimension * parameters.ciphertext_bytes / identities,
        "record_bytes_per_identity": parameters.lane_ciphertexts * parameters.ciphertext_bytes,
        "database_bytes": (directory / folder_of("matcher-a") / "data" / "gallery.db").stat().st_size,
    }


def headline(figures: dict[str, Any]) -> dict[str, float]:
    """Return the figures that are compared with those of another revision."""
    times = ("encrypt_probe_s", "prove_s", "check_proof_s", "verify_total_s", "candidates_total_s", "enrol_s")
    found = {f"{name.removesuffix('_s')} [ms]": 1e3 * figures[name] for name in times}
    for operation in ("verify", "candidates"):
        for kind in ("matcher", "keyholder"):
            spent = sum(s for party, s in figures[f"{operation}_cpu_s"].items() if party.startswith(kind))
            found[f"{operation}, {kind}s [ms of CPU]"] = 1e3 * spent
    return found | {
        "bulk enrolment [s]": figures["bulk_enrol_s"],
        "loading the gallery [s]": figures["gallery_load_s"],
        "storage in packs [bytes an identity]": figures["pack_bytes_per_identity"],
        "memory of a matcher [MB]": figures["memory_bytes"]["matcher-a"] / 1e6,
    }


def show(f: dict[str, Any]) -> None:
    """Print the table."""
    title = f"{f['parameter_set']}, {f['identities']:,} identities, {f['cores']} cores of {f['cpu']}, {f['backend']}"
    table = Table("figure", "measured", "beside it, same run", title=title)
    peer = f["phe_encrypt_probe_s"]
    ms = lambda s: f"{1e3 * s:,.1f} ms"  # noqa: E731
    rows = (
        ("key ceremony", f"{f['ceremony_s']:.1f} s", ""),
        (
            "encrypting a probe on the device",
            ms(f["encrypt_probe_s"]),
            "phe is not installed"
            if peer is None
            else f"phe: {ms(peer)}, {peer / f['encrypt_probe_s']:.0f} times longer",
        ),
        ("proving to know it", ms(f["prove_s"]), f"{f['proof_bytes']} bytes"),
        ("checking that proof at a key holder", ms(f["check_proof_s"]), ""),
        ("probe, signed request", f"{f['probe_bytes']:,} bytes", ""),
        ("verification 1:1", ms(f["verify_total_s"]), _beside(f["verify_total_s"], f["verify_limit_s"])),
        (
            "candidates 1:N",
            f"{f['candidates_total_s']:.2f} s",
            _beside(f["candidates_total_s"], f["candidates_limit_s"]),
        ),
        ("  of it: convert the probe", ms(f["candidates_convert_s"]), ""),
        ("  of it: match", ms(f["candidates_match_s"]), ""),
        ("  of it: decide", ms(f["candidates_decide_s"]), ""),
        (
            "  CPU time, all daemons",
            ms(sum(f["candidates_cpu_s"].values())),
            _share(f["candidates_multiplications_s"], sum(f["candidates_cpu_s"].values())),
        ),
        *(
            (
                f"{name} 1:N",
                f"{f[f'{name}_total_s']:.2f} s, {ms(sum(f[f'{name}_cpu_s'].values()))} of CPU",
                f"{answer_bits(name, f['identities'])} answer bits; candidates has "
                f"{answer_bits('candidates', f['identities']):,}",
            )
            for name in ("identify", "known")
        ),
        ("one enrolment", ms(f["enrol_s"]), ""),
        ("bulk enrolment of all", f"{f['bulk_enrol_s']:.1f} s", ""),
        ("storage in packs", f"{f['pack_bytes_per_identity']:,.0f} bytes an identity", ""),
        ("storage of records", f"{f['record_bytes_per_identity']:,} bytes an identity", ""),
        (
            "memory of a matcher",
            f"{f['loaded_memory_bytes'] / 1e6:,.0f} MB, {f['memory_bytes']['matcher-a'] / 1e6:,.0f} MB after queries",
            f"{f['idle_memory_bytes'] / 1e6:,.0f} MB without a gallery; "
            f"the rest is {_growth(f):.2f} times the size of its packs",
        ),
        ("loading the gallery", f"{f['gallery_load_s']:.2f} s", f"matcher serving after {f['matcher_ready_s']:.2f} s"),
    )
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def _beside(measured: float, limit: float) -> str:
    return f"its modular multiplications alone: {1e3 * limit:,.0f} ms ({100 * limit / measured:.0f}%)"


def _share(multiplications: float, cpu: float) -> str:
    return f"modular multiplications: {1e3 * multiplications:,.0f} ms ({100 * multiplications / cpu:.0f}%)"


def _growth(f: dict[str, Any]) -> float:
    """Memory that the gallery takes, per byte of its packs."""
    growth = f["loaded_memory_bytes"] - f["idle_memory_bytes"]
    return float(growth / (f["pack_bytes_per_identity"] * f["identities"]))


def median(work: Callable[[], object], repeats: int, clock: Callable[[], float] = time.perf_counter) -> float:
    """Return the median time of the work by that clock, in seconds."""
    times = []
    for _ in range(repeats):
        started = clock()
        work()
        times.append(clock() - started)
    return sorted(times)[repeats // 2]


if __name__ == "__main__":
    main(sys.argv[1:])
