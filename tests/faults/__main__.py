"""The table of faults: `python -m tests.faults [--runs 50] [--json PATH]`, or `make faults`.

Every daemon is killed as by `kill -9` in the middle of a verification and of an enrolment, `runs` times each, spread
evenly over the messages that it receives and answers; the dealer, who takes no part, at times over half a second. It
is started again then, and decisions, subjects and stock are checked (harness.py). After that one key holder is stopped
while 200 verifications run, four at a time: once killed, once as if it hung.
"""

from __future__ import annotations

import argparse
import json
import signal
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.faults.harness import OPERATIONS, PARTIES, Faults, Outcome, faults, moments
from tests.faults.outage import STOPPED, outage

DEALER_S = 0.5
REQUESTS, AT_ONCE = 200, 4
#: Until the stock for the requests after the stop is there.
FILLING_S = 30.0


def main() -> None:
    """Run everything, print the table, write JSON if asked. A check that fails ends the run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=50, help="kills of each daemon in each operation")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="veilmatch-faults-") as folder, faults(Path(folder) / "x") as dying:
        rows = []
        for row in kills(dying, options.runs):
            console.print(row)
            rows.append(row)
        reserved = dying.reserved()
    # The pair that is left has no dealer: it goes on with the stock that it has, here enough for all requests.
    stock = {
        "VEILMATCH_STOCK_TRIPLES": "4096",
        "VEILMATCH_STOCK_BYTES": str(12 << 17),
        "VEILMATCH_STOCK_PRODUCTS": str(4 << 14),
    }
    with (
        tempfile.TemporaryDirectory(prefix="veilmatch-faults-") as folder,
        faults(Path(folder) / "x", **stock) as dying,
    ):
        time.sleep(FILLING_S)
        stops = {how.name: asdict(outage(dying, REQUESTS, AT_ONCE, how)) for how in (signal.SIGKILL, signal.SIGSTOP)}
    figures = {"kills": rows, "ranges_of_stock": reserved, "handed_out_twice": 0, "outages": stops}
    show(figures)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


def kills(dying: Faults, runs: int) -> Iterator[dict[str, Any]]:
    """Yield one row for each daemon and operation."""
    for party in PARTIES:
        for operation in OPERATIONS:
            messages = dying.messages(party, operation)
            outcomes = [dying.kill_during(party, operation, at) for at in moments(messages, runs)]
            yield _row(party, operation, messages, outcomes)
    for operation in OPERATIONS:
        outcomes = [dying.kill_dealer_during(operation, DEALER_S * i / runs) for i in range(runs)]
        yield _row("keyholder-c", operation, 0, outcomes)


def _row(party: str, operation: str, messages: int, outcomes: list[Outcome]) -> dict[str, Any]:
    return {
        "party": party,
        "operation": operation,
        "messages": messages,
        "different_moments": len({outcome.at for outcome in outcomes if outcome.died}),
        "runs": len(outcomes),
        "died": sum(outcome.died for outcome in outcomes),
        "answered": sum(outcome.answered for outcome in outcomes),
        "wrong_decisions": 0,
        "lost_enrolments": 0,
    }


def show(figures: dict[str, Any]) -> None:
    """Print the figures. A wrong decision or a lost enrolment would have ended the run."""
    console = Console()
    table = Table("daemon", "during", "messages", "moments", "kills", "answered all the same", "wrong", "lost")
    for row in figures["kills"]:
        table.add_row(
            row["party"], row["operation"], str(row["messages"] or "-"), str(row["different_moments"]),
            f"{row['died']} of {row['runs']}", str(row["answered"]), str(row["wrong_decisions"]),
            str(row["lost_enrolments"]),
        )  # fmt: skip
    console.print(table)
    console.print(f"{figures['ranges_of_stock']} ranges of stock handed out, none of them twice")
    for how, found in figures["outages"].items():
        console.print(
            f"{STOPPED} stopped by {how} while {found['requests']} verifications ran: {found['failed']} failed, "
            f"{found['wrong']} wrong, the other pair served after {found['other_pair_after_s']:.2f} s, "
            f"the slowest answer took {found['slowest_s']:.2f} s"
        )


if __name__ == "__main__":
    main()
