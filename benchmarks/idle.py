"""What six daemons take that nobody asks anything: CPU time, and how often they wake.

    python benchmarks/idle.py                       one minute, after their stock is complete
    python benchmarks/idle.py --seconds 20
    python benchmarks/idle.py --json PATH           writes the figures as well

With toy keys: what is idle computes nothing with them. A daemon wakes as often as its threads, and those of its
workers, give up a core to wait.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
from daemons import cpu_seconds, wait_until_idle
from installation import installed
from rich.console import Console
from rich.table import Table

from veilmatch.crypto.parameters import ParameterSet
from veilmatch.server.supervisor import Supervisor

TOY = ParameterSet(modulus_bits=1024)
_WAKES = re.compile(r"^voluntary_ctxt_switches:\s+(\d+)", re.M)


def wakes(pid: int) -> int:
    """Return how often the threads of a daemon and of its workers have given up a core to wait."""
    processes = [psutil.Process(pid)]
    processes += processes[0].children(recursive=True)
    found = 0
    for process in processes:
        for status in Path(f"/proc/{process.pid}/task").glob("*/status"):
            found += int(_WAKES.findall(status.read_text())[0])
    return found


def measured(parties: Supervisor, names: Sequence[str], seconds: float) -> list[dict[str, float | str]]:
    """Return, for each daemon, milliseconds of CPU time and wakes in a second of doing nothing."""
    woken, used, began = {name: wakes(parties.pid(name)) for name in names}, cpu_seconds(parties), time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - began
    later = cpu_seconds(parties)
    return [
        {
            "daemon": name,
            "cpu_ms": 1e3 * (later[name] - used[name]) / took,
            "wakes": (wakes(parties.pid(name)) - woken[name]) / took,
        }
        for name in names
    ]


def main(arguments: Sequence[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long nothing is asked (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args(arguments)
    with installed(TOY.name) as (directory, environment), Supervisor(directory, environment) as parties:
        parties.start()
        parties.wait_ready()
        wait_until_idle(parties)
        names = [f"{kind}-{party}" for kind in ("keyholder", "matcher") for party in "abc"]
        figures = measured(parties, names, options.seconds)
    table = Table("daemon", "CPU, ms a second", "wakes a second", title=f"nothing asked for {options.seconds:.0f} s")
    for one in figures:
        table.add_row(str(one["daemon"]), f"{one['cpu_ms']:.1f}", f"{one['wakes']:.0f}")
    total = {name: sum(float(one[name]) for one in figures) for name in ("cpu_ms", "wakes")}
    table.add_row("all six", f"{total['cpu_ms']:.1f}", f"{total['wakes']:.0f}", style="bold")
    Console().print(table)
    if options.json:
        options.json.write_text(json.dumps({"seconds": options.seconds, "daemons": figures}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
