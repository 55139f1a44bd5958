"""The gates: rounds, bytes, AND gates and time, and what they and other checks add to a verification.

    python benchmarks/gates.py                 both shipped parameter sets (seconds)
    python benchmarks/gates.py --verify        verifications over real daemons as well, with the checks and without
    python benchmarks/gates.py --json PATH     writes the figures as well

Gate times are medians of one holder's own computing, both holders in this process, without a network. A round is one
message each way; bytes are what one holder sends. For --verify installations of the default set run side by side and
are asked in turn; the key holders of all but the first skip something, by a patch that exists only here: the validity
gate, or the checks on deviating organisations in a session (proof of knowledge and key-safety check).
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from machine import cpu
from rich.console import Console
from rich.table import Table

from veilmatch.client.client import Client
from veilmatch.client.demo.parties import fresh_passphrase, hold_ceremony
from veilmatch.crypto import dealing
from veilmatch.crypto.arithmetic import Integer, random_below, random_bits
from veilmatch.crypto.dealing import BLOCK_UNITS, BlockName, Kind
from veilmatch.crypto.gates.boolean import Circuit, Evaluator
from veilmatch.crypto.gates.decision import decide, decide_cost, decision_input
from veilmatch.crypto.gates.validity import validate, validity_cost
from veilmatch.crypto.packing import lanes
from veilmatch.crypto.parameters import D512, DEFAULT, ParameterSet
from veilmatch.server.supervisor import Supervisor

REPEATS = 31
SUBJECTS = 8
#: Slots of one decision: a search in 10,000 templates.
SLOTS = 10_000
#: What key holders skip. Python runs this at the start of every process that has its folder in PYTHONPATH.
WITHOUT = {
    "the validity gate": """
import numpy as np
from veilmatch.crypto.pair import records

def validate(*arguments):
    yield from ()
    return np.array([arguments[-1].is_plus], dtype=np.uint8)

records.validate = validate
records.validity_cost = lambda vectors, parameters: 1
""",
    "the checks on deviating organisations": """
from veilmatch.crypto.pair import converting
from veilmatch.server.keyholder.session import serving

def nothing(converter, beside=None):
    if not converter._their_coins:
        yield from converter._receive_coins()

converting.Converter.check_key_safety = nothing
serving.check_knowledge = lambda *arguments: None
""",
}


def main() -> None:
    """Measure, print a table, write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--verify", action="store_true", help="time verifications with the checks and without")
    parser.add_argument("--verifications", type=int, default=60, help="of each kind (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    figures: dict[str, Any] = {
        "cpu": cpu(),
        "gates": [gate(p) for p in (DEFAULT, D512) for gate in (decision, validity)],
    }
    if options.verify:
        figures["verify_s"] = verifications(options.verifications)
    show(figures)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


def decision(p: ParameterSet, slots: int = SLOTS) -> dict[str, Any]:
    """The decision gate on one search in so many templates."""
    k, cost = p.ring_bits, decide_cost(slots, p.ring_bits)
    inputs = [
        decision_input(np.random.default_rng(1).integers(0, 1 << k, slots), 1, k, is_plus=plus)
        for plus in (True, False)
    ]
    run = measured(lambda evaluator, holder: decide(inputs[holder], k, evaluator), cost)
    return {"gate": "decision", "parameter_set": p.name, "of": f"{slots} slots", "products": 0} | run


def validity(p: ParameterSet) -> dict[str, Any]:
    """The validity gate on one vector."""
    N = random_bits(p.modulus_bits) | (Integer(1) << (p.modulus_bits - 1)) | 1
    minus = [random_below(N >> 1) for _ in range(p.lane_ciphertexts)]
    plus = [w + m for w, m in zip(minus, lanes.pack(np.ones(p.dimension, dtype=np.int64), p), strict=True)]
    parts = [(lanes.unpack(w, p), lanes.above(w, p)) for w in (plus, minus)]
    products = [dealing.products(block("products", plus=plus), 0, p.dimension) for plus in (True, False)]
    session_id = secrets.token_bytes(32)
    run = measured(
        lambda evaluator, holder: validate(*parts[holder], p, session_id, products[holder], evaluator),
        validity_cost(1, p),
    )
    return {"gate": "validity", "parameter_set": p.name, "of": "1 vector", "products": p.dimension} | run


def block(kind: Kind, *, plus: bool) -> dealing.Block:
    """One holder's part of a dealt block."""
    return dealing.deal(bytes(32), BlockName("ab", bytes(32), 1, kind, 0), Integer(1) << 511, for_plus=plus)


def measured(circuit: Callable[[Evaluator, int], Circuit], triple_bytes: int) -> dict[str, Any]:
    """Run both holders REPEATS times; the figures of one holder."""
    assert triple_bytes <= BLOCK_UNITS["bits"]
    triples = [dealing.bit_triples(block("bits", plus=plus), 0, triple_bytes) for plus in (True, False)]
    times, rounds, sent = [], 0, 0
    for _ in range(REPEATS):
        started = time.perf_counter()
        evaluators = [Evaluator(part, is_plus=holder == 0) for holder, part in enumerate(triples)]
        rounds, sent = run_both([circuit(evaluator, holder) for holder, evaluator in enumerate(evaluators)])
        times.append((time.perf_counter() - started) / 2)
    return {
        "rounds": rounds, "sent_bytes": sent, "and_gates": 8 * triple_bytes, "triple_bytes": triple_bytes,
        "holder_s": median(times),
    }  # fmt: skip


def run_both(circuits: list[Generator[bytes, bytes, Any]]) -> tuple[int, int]:
    """Return how many rounds there were and how many bytes one holder sent."""
    rounds = sent = 0
    messages = [next(circuit) for circuit in circuits]
    while True:
        rounds, sent, ended = rounds + 1, sent + len(messages[0]), 0
        received = messages[::-1]
        for holder, circuit in enumerate(circuits):
            try:
                messages[holder] = circuit.send(received[holder])
            except StopIteration:
                ended += 1
        if ended:
            return rounds, sent


def verifications(count: int) -> dict[str, Any]:
    """Medians over real daemons, asked in turn; the quartiles tell how quiet the machine is."""
    found: dict[str, list[float]] = {"with everything": []} | {f"without {what}": [] for what in WITHOUT}
    probe = np.random.default_rng(2).standard_normal(DEFAULT.dimension)
    with tempfile.TemporaryDirectory(prefix="veilmatch-bench-") as scratch, ExitStack() as stack:
        clients = {}
        for number, (name, patch) in enumerate(zip(found, ("", *WITHOUT.values()), strict=True)):
            folder = Path(scratch) / f"patch-{number}"
            folder.mkdir()
            (folder / "sitecustomize.py").write_text(patch)
            environment = {"PYTHONPATH": str(folder)}
            directory, passphrase = Path(scratch) / str(number), fresh_passphrase()
            hold_ceremony(directory, DEFAULT.name, passphrase)
            parties = stack.enter_context(Supervisor(directory, {"VEILMATCH_PASSPHRASE": passphrase} | environment))
            parties.start()
            parties.wait_ready()
            client = stack.enter_context(Client.from_config(directory / "device-1" / "device.toml"))
            for i in range(SUBJECTS):
                client.enrol_embedding(f"p{i}", probe, model="random", timeout_s=60.0)
            clients[name] = client
        for i in range(-SUBJECTS, count):
            for name, client in clients.items():
                result = client.verify_embedding(f"p{i % SUBJECTS}", probe, model="random", timeout_s=60.0)
                if i >= 0:
                    found[name].append(result.timings.total_s)
            time.sleep(0.1)
    quartiles = {name: np.quantile(times, (0.25, 0.5, 0.75)).tolist() for name, times in found.items()}
    return {name: dict(zip(("q1", "median", "q3"), q, strict=True)) for name, q in quartiles.items()}


def show(figures: dict[str, Any]) -> None:
    """Print the table."""
    columns = ("parameter set", "gate", "of", "rounds", "sent", "AND gates", "bit triples", "products", "one holder")
    table = Table(*columns, title=f"gates, {figures['cpu']}")
    for f in figures["gates"]:
        table.add_row(
            f["parameter_set"], f["gate"], f["of"], str(f["rounds"]), f"{f['sent_bytes']:,} B", f"{f['and_gates']:,}",
            f"{f['triple_bytes']:,} B", str(f["products"]), f"{1e3 * f['holder_s']:.2f} ms",
        )  # fmt: skip
    Console(file=sys.stdout, width=150).print(table)
    for name, f in figures.get("verify_s", {}).items():
        text = "{median:.1f} ms (quartiles {q1:.1f}, {q3:.1f})".format(**{x: 1e3 * v for x, v in f.items()})
        more = figures["verify_s"]["with everything"]["median"] / f["median"] - 1
        print(f"verification {name}: {text}" + (f"; with it {100 * more:.0f}% longer" if "without" in name else ""))


if __name__ == "__main__":
    main()
