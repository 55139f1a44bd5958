"""What connections cost a matcher that say nothing, garbage, too little or too much; and a device served beside them.

    python benchmarks/hostile.py               a thousand connections of each kind (five minutes)
    python benchmarks/hostile.py --quick       fifty of each
    python benchmarks/hostile.py --count 5000 --kinds half handshake
    python benchmarks/hostile.py --json PATH   writes the figures as well

Against a matcher of a whole installation, with toy keys and the usual limits ([connections] of matcher.toml). For each
kind: how many there are open at most as the matcher sees it, how much memory and CPU time it takes, within what time
half of the verifications of another device are answered meanwhile, and when the last connection is gone. They are made
by one device, or by nobody where no certificate is shown. CPU time is for all of them together, verifications included.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from attacker import MATCHER, Attacker
from daemons import cpu_seconds, memory
from installation import installed
from rich.console import Console
from rich.table import Table

from veilmatch.client.client import Client
from veilmatch.client.config import DeviceSettings
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.server.supervisor import Supervisor

TOY = ParameterSet(modulus_bits=1024)
#: Methods of Attacker, in this order.
KINDS = (
    "nothing", "slowly", "garbage", "half", "handshake", "stranger", "no_call", "one_call", "pings", "resets",
)  # fmt: skip
#: Longest that connections are waited for to be closed.
CLOSED_S = 60.0


def connections(pid: int) -> int:
    """Return how many sockets a daemon has open."""
    return sum(_is_socket(file) for file in Path(f"/proc/{pid}/fd").iterdir())


def _is_socket(file: Path) -> bool:
    try:
        return str(file.readlink()).startswith("socket:")
    except OSError:
        return False


@contextmanager
def verifying(client: Client, face: Any) -> Iterator[list[float]]:
    """Verify all the time, as another device; yields how long each took."""
    times, over = list[float](), threading.Event()

    def ask() -> None:
        while not over.is_set():
            began = time.perf_counter()
            assert client.verify_embedding("ada", face, model="random").decision
            times.append(time.perf_counter() - began)
            over.wait(0.05)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield times
    finally:
        over.set()
        asking.join()


def tried(
    parties: Supervisor, attacker: Attacker, kind: Callable[[], None], client: Client, face: Any
) -> dict[str, Any]:
    """Return what one kind of connections costs."""
    pid = parties.pid(MATCHER)
    before, held, began_s = connections(pid), memory(pid), cpu_seconds(parties)[MATCHER]
    most, grown = 0, 0
    with verifying(client, face) as times:
        attacking = threading.Thread(target=kind)
        began = time.monotonic()
        attacking.start()
        while attacking.is_alive() or connections(pid) > before + 4:
            most, grown = max(most, connections(pid) - before), max(grown, memory(pid) - held)
            if time.monotonic() - began > CLOSED_S:
                break
            time.sleep(0.05)
        lasted_s = time.monotonic() - began
        attacking.join()
    left = max(0, connections(pid) - before)
    attacker.close()
    return {
        "kind": (kind.__doc__ or "").strip(), "open_at_most": most, "left": left, "gone_after_s": lasted_s,
        "memory_mb": grown / 1e6, "cpu_s": cpu_seconds(parties)[MATCHER] - began_s,
        "verifications": len(times), "p50_s": statistics.median(times), "most_s": max(times),
    }  # fmt: skip


def main(arguments: Sequence[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fifty connections of each kind")
    parser.add_argument("--count", type=int, help="connections of each kind")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="default: all")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args(arguments)
    count = options.count or (50 if options.quick else 1000)
    face = np.random.default_rng(1).standard_normal(TOY.dimension)
    figures = []
    with installed(TOY.name, 2) as (directory, environment), Supervisor(directory, environment) as parties:
        parties.start()
        parties.wait_ready()
        settings = [DeviceSettings.load(directory / f"device-{n}" / "device.toml") for n in (1, 2)]
        attacker = Attacker(settings[1], count)
        with Client(settings[0]) as client:
            client.enrol_embedding("ada", face, model="random")
            with verifying(client, face) as alone:
                time.sleep(5.0)
            kinds = [getattr(attacker, name) for name in options.kinds]
            figures = [tried(parties, attacker, kind, client, face) for kind in kinds]
    show(figures, count, statistics.median(alone))
    if options.json:
        options.json.write_text(
            json.dumps({"count": count, "alone_s": statistics.median(alone), "kinds": figures}) + "\n"
        )


def show(figures: Sequence[dict[str, Any]], count: int, alone_s: float) -> None:
    """Print the table."""
    table = Table(
        "connections", "open at most", "gone after", "left", "memory", "CPU", "served beside: half in", "longest",
        title=f"{count} of each kind at {MATCHER}; a verification alone takes {1e3 * alone_s:.0f} ms",
    )  # fmt: skip
    for one in figures:
        table.add_row(
            one["kind"], str(one["open_at_most"]), f"{one['gone_after_s']:.1f} s", str(one["left"]),
            f"{one['memory_mb']:.1f} MB", f"{one['cpu_s']:.2f} s", f"{1e3 * one['p50_s']:.0f} ms",
            f"{1e3 * one['most_s']:.0f} ms",
        )  # fmt: skip
    Console(width=150).print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
