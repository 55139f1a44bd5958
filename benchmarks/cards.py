"""Cards: their sizes, and a verification with a card beside one with an enrolled subject, in turn.

    python benchmarks/cards.py                 D = 128 and 512, 60 of each; four minutes
    python benchmarks/cards.py --quick         D = 128, 20 of each
    python benchmarks/cards.py --json PATH     writes the figures as well

Six daemons over loopback and one device. Every answer is compared with that of the integers in clear.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from installation import MODEL, THRESHOLD, Gallery, installed
from machine import cpu
from rich.console import Console
from rich.table import Table
from scaling import SETS

from veilmatch.client.card import QR_BYTES, Card
from veilmatch.client.client import Client
from veilmatch.crypto.rings.choice import choose
from veilmatch.server.supervisor import Supervisor

PEOPLE = 8
RIGHTS = ("issue", "present", "enrol", "verify")


def main() -> None:
    """Measure, print, write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="D = 128, 20 of each")
    parser.add_argument("--dimensions", type=int, nargs="+", choices=tuple(SETS), default=[128, 512])
    parser.add_argument("--rounds", type=int, default=60, help="verifications of each way (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    if options.quick:
        options.dimensions, options.rounds = [128], 20
    found = {d: measure(SETS[d].name, options.rounds) for d in options.dimensions}
    if options.json:
        figures = {"cpu": cpu(), "cores": os.cpu_count(), "backend": choose().backend, "cards": found}
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    show(found)


def measure(parameters: str, rounds: int) -> dict[str, Any]:
    """Return sizes in bytes, and seconds of every call, by what was called."""
    with installed(parameters) as (directory, environment):
        device = _device(directory, environment)
        with Supervisor(directory, environment) as parties:
            parties.start()
            parties.wait_ready()
            with Client.from_config(device) as client:
                return _measured(client, rounds)


def _device(directory: Path, environment: dict[str, str]) -> Path:
    """Return the configuration of a device that has the rights of cards, which are none of the usual ones."""
    veilmatch, rights = Path(sys.executable).parent / "veilmatch", [f"--right={right}" for right in RIGHTS]
    command = [str(veilmatch), "device", "issue", str(directory), "desk", *rights, "--lowest", "0", "--json"]
    done = subprocess.run(command, env=os.environ | environment, check=True, capture_output=True, text=True)
    return Path(json.loads(done.stdout)["directory"]) / "device.toml"


def _measured(client: Client, rounds: int) -> dict[str, Any]:
    gallery = Gallery(client._client._device.parameters, PEOPLE)
    seconds: dict[str, list[float]] = {"enrol": [], "issue": [], "verify": [], "verify with a card": []}
    cards: list[Card] = []
    for number, vector in enumerate(gallery.vectors):
        seconds["enrol"].append(_timed(client.enrol_embedding, f"p{number}", vector, model=MODEL)[0])
        took, card = _timed(client.issue_embedding, f"p{number}", vector, model=MODEL, days=365)
        seconds["issue"].append(took)
        cards.append(card)
    for number in range(rounds + 1):
        who = number % PEOPLE
        probe = gallery.vectors[who if number % 2 else (who + 1) % PEOPLE]
        for way, claimed in (("verify", f"p{who}"), ("verify with a card", cards[who])):
            took, answer = _timed(client.verify_embedding, claimed, probe, model=MODEL, threshold=THRESHOLD)
            if answer.decision != bool(number % 2):
                raise RuntimeError(f"{way} said {answer.decision}")
            if number:  # the first one opens connections
                seconds[way].append(took)
    card = cards[0]
    return {
        "card_bytes": len(card.encode()),
        "record_bytes": len(card.signed.statement.record),
        "text_characters": len(card.text),
        "qr_version": _qr_version(card),
        "probe_bytes": {"verify": _probe_bytes(client, "p0", gallery), "card": _probe_bytes(client, card, gallery)},
        "seconds": seconds,
    }


def _probe_bytes(client: Client, claimed: str | Card, gallery: Gallery) -> int:
    return client.verify_embedding(claimed, gallery.vectors[0], model=MODEL, threshold=THRESHOLD).probe_bytes


def _qr_version(card: Card) -> int | None:
    """Return how large its QR code is, 1 to 40; None if it fits none."""
    import segno

    return int(segno.make_qr(card.encode(), error="l", mode="byte").version) if len(card.encode()) <= QR_BYTES else None


def _timed(call: Callable[..., Any], *arguments: Any, **options: Any) -> tuple[float, Any]:
    started = time.perf_counter()
    result = call(*arguments, **options)
    return time.perf_counter() - started, result


def show(found: dict[int, dict[str, Any]]) -> None:
    """Print a table of sizes and one of times."""
    console = Console(file=sys.stdout, width=110)
    sizes = Table("", *(f"D = {dimension}" for dimension in found), title="Sizes")
    for name in ("record_bytes", "card_bytes", "text_characters", "qr_version"):
        sizes.add_row(name.replace("_", " "), *(str(one[name] or "none") for one in found.values()))
    for way in ("verify", "card"):
        sizes.add_row(f"request to each matcher, {way}", *(str(one["probe_bytes"][way]) for one in found.values()))
    console.print(sizes)
    times = Table("ms, median (least)", *(f"D = {dimension}" for dimension in found), title="Times")
    for name in next(iter(found.values()))["seconds"]:
        cells = [one["seconds"][name] for one in found.values()]
        times.add_row(name, *(f"{1e3 * statistics.median(c):.0f} ({1e3 * min(c):.0f})" for c in cells))
    console.print(times)


if __name__ == "__main__":
    main()
