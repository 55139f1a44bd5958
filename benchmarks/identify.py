"""The tournament of identify: rounds, bytes and time, by gallery size, delay between the key holders and group size.

    python benchmarks/identify.py              1,000, 10,000 and 100,000 slots; 0, 10 and 50 ms (minutes)
    python benchmarks/identify.py --slots 1000 --delays 0 25
    python benchmarks/identify.py --json PATH  writes the figures as well

Both holders' circuits run in this process and exchange messages. A round is one message each way, both at once, so
it takes one one-way delay, really slept. Times are those of the slower holder in every round, as if each had a core of
its own, and the sleep: no network, no gRPC. "chosen" is the plan of `tournament.group_sizes`; the others play every
round in groups of one size. Bytes are what one holder sends. Every outcome is compared with numpy's argmax.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from machine import cpu
from rich.console import Console
from rich.table import Table

from veilmatch.crypto.dealing import BitTriples
from veilmatch.crypto.gates import tournament
from veilmatch.crypto.gates.boolean import Evaluator
from veilmatch.crypto.gates.decision import decision_input
from veilmatch.crypto.packing.fields import Array
from veilmatch.crypto.parameters import DEFAULT

RING_BITS = DEFAULT.ring_bits
THRESHOLD = DEFAULT.threshold(0.4)
#: "chosen" and log2 of fixed sizes of groups.
PLANS: dict[str, int | None] = {"chosen": None, "2": 1, "4": 2, "8": 3, "16": 4}
RNG = np.random.default_rng(5)


def main() -> None:
    """Measure, print a table, write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slots", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--delays", type=float, nargs="+", default=[0, 10, 50], help="one way, in milliseconds")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    rows = [row(slots, plan, options.delays) for slots in options.slots for plan in PLANS]
    figures = {"cpu": cpu(), "ring_bits": RING_BITS, "round_as_gates": tournament.ROUND_AS_GATES, "tournaments": rows}
    show(figures, options.delays)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


def row(slots: int, plan: str, delays_ms: list[float]) -> dict[str, Any]:
    """One plan at one gallery size."""
    with played_as(PLANS[plan]):
        times = {f"{delay:g}": measured(slots, delay / 1e3) for delay in delays_ms}
        return {
            "slots": slots,
            "plan": plan,
            "group_sizes": [1 << size for size in tournament.group_sizes(slots + 1, RING_BITS)],
            "rounds": tournament.best_layers(slots, RING_BITS),
            "triple_bytes": tournament.best_cost(slots, RING_BITS),
            "sent_bytes": 2 * tournament.best_cost(slots, RING_BITS),
            "seconds_by_delay_ms": times,
        }


@contextmanager
def played_as(log_size: int | None) -> Iterator[None]:
    """Play every round in groups of 2^log_size; None: as the tournament chooses."""
    chosen = tournament.group_sizes

    def fixed(slots: int, ring_bits: int) -> tuple[int, ...]:
        return () if slots == 1 else (log_size, *fixed(-(-slots >> log_size), ring_bits))

    if log_size is not None:
        tournament.group_sizes = fixed  # type: ignore[assignment]
    try:
        yield
    finally:
        tournament.group_sizes = chosen


def measured(slots: int, delay_s: float) -> float:
    """Return the least time of a few runs; with a delay, of one."""
    return min(played(slots, delay_s) for _ in range(1 if delay_s else 5))


def played(slots: int, delay_s: float) -> float:
    """Run both holders once; return the seconds that it takes them."""
    scores = RNG.integers(-DEFAULT.norm_max, THRESHOLD + 400, slots)
    minus = RNG.integers(0, 1 << RING_BITS, slots)
    shares = (2 * scores + RNG.integers(0, 2, slots) + minus) % (1 << RING_BITS), minus
    circuits = []
    for mine, triples, is_plus in zip(
        shares, dealt(tournament.best_cost(slots, RING_BITS)), (True, False), strict=True
    ):
        inputs = decision_input(mine, THRESHOLD, RING_BITS, is_plus=is_plus)
        circuits.append(tournament.best_of(inputs, RING_BITS, Evaluator(triples, is_plus=is_plus)))
    received: list[bytes | None] = [None, None]
    outcome: list[Array] = []
    total_s, rounds = 0.0, 0
    while True:
        sent, worked_s = [], []
        for circuit, message in zip(circuits, received, strict=True):
            started = time.perf_counter()
            try:
                sent.append(circuit.send(message))  # type: ignore[arg-type]
            except StopIteration as stop:
                outcome.append(stop.value)
            worked_s.append(time.perf_counter() - started)
        total_s += max(worked_s)
        if outcome:
            break
        started = time.perf_counter()
        if delay_s:
            time.sleep(delay_s)
        total_s += time.perf_counter() - started
        received, rounds = [sent[1], sent[0]], rounds + 1
    assert rounds == tournament.best_layers(slots, RING_BITS)
    check(scores, outcome[0] ^ outcome[1])
    return total_s


def dealt(size: int) -> tuple[BitTriples, BitTriples]:
    """Bit triples of both holders."""
    a, b, *masks = (RNG.integers(0, 256, size, dtype=np.uint8) for _ in range(5))
    return BitTriples(a ^ masks[0], b ^ masks[1], a & b ^ masks[2]), BitTriples(*masks)


def check(scores: Array, packed: Array) -> None:
    """The outcome is that of plain integers."""
    bits = np.unpackbits(packed, count=tournament.label_bits(len(scores)), bitorder="little").astype(np.int64)
    best = int(np.argmax(scores))
    assert int((bits << np.arange(len(bits))).sum()) == (best + 1 if scores[best] >= THRESHOLD else 0)


def show(figures: dict[str, Any], delays_ms: list[float]) -> None:
    """Print the table."""
    columns = ("slots", "groups of", "rounds", "sent", "bit triples", *(f"{delay:g} ms" for delay in delays_ms))
    table = Table(*columns, title=f"tournament of identify, k = {RING_BITS}, {figures['cpu']}")
    for f in figures["tournaments"]:
        sizes = ", ".join(map(str, f["group_sizes"]))
        table.add_row(
            f"{f['slots']:,}", f"chosen: {sizes}" if f["plan"] == "chosen" else f["plan"], str(f["rounds"]),
            f"{f['sent_bytes']:,} B", f"{f['triple_bytes']:,} B",
            *(f"{1e3 * seconds:,.0f} ms" for seconds in f["seconds_by_delay_ms"].values()),
            end_section=f["plan"] == list(PLANS)[-1],
        )  # fmt: skip
    Console(file=sys.stdout, width=130).print(table)


if __name__ == "__main__":
    main()
