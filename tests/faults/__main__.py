"""The table of faults: `python -m tests.faults [--runs 50] [--json PATH]`, or `make faults`.

Every daemon is killed as by `kill -9`, and hangs as by SIGSTOP, in the middle of every operation, `runs` times each,
spread evenly over the messages that it receives and answers; key holder and matcher c, who take no part, die at times
over half a second as well. Whoever died or hung is started again, or goes on, and decisions, subjects, stock and the
copies of the gallery are checked (harness.py). Matchers die at every message of catching up (catching_up.py), and at
every message of a rotation (rotation.py). A network loses everything between each two matchers, each two key holders,
and around each organisation, at times over the length of three requests (partitions.py). After that one key holder is
stopped while 200 verifications run, four at a time: once killed, once as if it hung (outage.py).
"""

from __future__ import annotations

import argparse
import json
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.e2e.world import MATCHERS
from tests.faults import catching_up
from tests.faults.harness import OPERATIONS, PARTIES, Faults, Outcome, faults, moments
from tests.faults.outage import STOPPED, outage
from tests.faults.partitions import CUTS, FILLING_S, MANY, MANY_BLOCKS, partitions, stock
from tests.faults.rotation import rotation_faults

THIRD_S = 0.5
REQUESTS, AT_ONCE = 200, 4
#: Over so long a cut comes after three requests have begun.
CUT_S = 1.5
#: A rotation of one template has about so many messages at a matcher.
ROTATION_MESSAGES = 24
PARTS = ("kills", "stops", "catching-up", "rotations", "partitions", "outages")


def main() -> None:
    """Run everything, print the table, write JSON if asked. A check that fails ends the run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=50, help="of each daemon or cut in each operation")
    parser.add_argument("--part", choices=PARTS, action="append", help="only this; may be given again")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    parts = options.part or PARTS
    console, rows, figures = Console(stderr=True), [], dict[str, Any]()
    with tempfile.TemporaryDirectory(prefix="veilmatch-faults-") as folder:
        for row in _rows(Path(folder), parts, options.runs):
            console.print(row)
            rows.append(row)
        if "outages" in parts:
            figures["outages"] = outages(Path(folder))
    figures |= {"faults": rows, "handed_out_twice": 0}
    show(figures)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


def _rows(folder: Path, parts: Sequence[str], runs: int) -> Iterator[dict[str, Any]]:
    if {"kills", "stops", "catching-up"} & set(parts):
        # While the dealer of a pair hangs or is dead, that pair goes on with the stock that it has.
        with faults(folder / "requests" / "x", FILLING_S, **stock(4 * MANY_BLOCKS)) as dying:
            if "kills" in parts:
                yield from requests(dying, runs, "kill", dying.kill_during)
                yield from third(dying, runs)
            if "stops" in parts:
                yield from requests(dying, runs, "stop", dying.stop_during)
            if "catching-up" in parts:
                yield from catching(dying, runs)
            dying.reserved()
    if "rotations" in parts:
        with rotation_faults(folder / "rotation") as rotating:
            for party in MATCHERS:
                outcomes = []
                for at in moments(ROTATION_MESSAGES, runs):
                    outcomes.append(rotating.kill_during_rotation(party, at))
                    rotating.give_up()
                yield _row(party, "rotate", "kill", ROTATION_MESSAGES, outcomes)
    if "partitions" in parts:
        with partitions(folder / "partitions" / "x", stock(4 * MANY_BLOCKS)) as parting:
            for cut in CUTS:
                parted = [parting.during(cut, CUT_S * i / runs) for i in range(runs)]
                yield {
                    "party": cut, "operation": "three at once", "how": "cut", "messages": 0, "moments": runs,
                    "runs": runs, "took_place": runs, "answered": sum(one.acknowledged == 3 for one in parted),
                    "level_s": max(one.level_s for one in parted), "errors": [e for one in parted for e in one.errors],
                }  # fmt: skip


def requests(dying: Faults, runs: int, how: str, do: Callable[[str, str, int], Outcome]) -> Iterator[dict[str, Any]]:
    """Yield one row for each daemon and operation."""
    for party in PARTIES:
        for operation in OPERATIONS:
            if messages := dying.messages(party, operation):
                outcomes = [do(party, operation, at) for at in moments(messages, runs)]
                yield _row(party, operation, how, messages, outcomes)


def third(dying: Faults, runs: int) -> Iterator[dict[str, Any]]:
    """Yield one row for each daemon of an organisation that takes no part, and operation."""
    for party in ("keyholder-c", "matcher-c"):
        for operation in OPERATIONS:
            outcomes = [dying.kill_after(party, operation, THIRD_S * i / runs) for i in range(runs)]
            yield _row(party, f"{operation} of ab", "kill", 0, outcomes)


def catching(dying: Faults, runs: int) -> Iterator[dict[str, Any]]:
    """Yield one row for each matcher."""
    for matcher in MATCHERS:
        messages = len(catching_up.messages(dying, matcher))
        caught = [catching_up.kill_catching_up(dying, matcher, at) for at in moments(messages, runs)]
        outcomes = [Outcome(matcher, "catch up", one.at, one.died, answered=True) for one in caught]
        yield _row(matcher, "catch up", "kill", messages, outcomes) | {"level_s": max(one.level_s for one in caught)}


def outages(folder: Path) -> dict[str, Any]:
    """Return what became of many requests while a key holder was stopped."""
    # The pair that is left has no dealer: it goes on with the stock that it has, here enough for all requests.
    with faults(folder / "outages" / "x", FILLING_S, **MANY) as dying:
        return {how.name: asdict(outage(dying, REQUESTS, AT_ONCE, how)) for how in (signal.SIGKILL, signal.SIGSTOP)}


def _row(party: str, operation: str, how: str, messages: int, outcomes: list[Outcome]) -> dict[str, Any]:
    return {
        "party": party,
        "operation": operation,
        "how": how,
        "messages": messages,
        "moments": len({outcome.at for outcome in outcomes if outcome.died}),
        "runs": len(outcomes),
        "took_place": sum(outcome.died for outcome in outcomes),
        "answered": sum(outcome.answered for outcome in outcomes),
    }


def show(figures: dict[str, Any]) -> None:
    """Print the figures. A wrong decision, a lost change or stock used twice would have ended the run."""
    console = Console()
    table = Table("who", "during", "how", "messages", "moments", "faults", "answered all the same", "level after")
    for row in figures["faults"]:
        level = f"{row['level_s']:.1f} s" if "level_s" in row else ""
        table.add_row(
            row["party"], row["operation"], row["how"], str(row["messages"] or "-"), str(row["moments"]),
            f"{row['took_place']} of {row['runs']}", str(row["answered"]), level,
        )  # fmt: skip
    console.print(table)
    console.print("0 wrong decisions, 0 changes lost or done twice; no range of stock was handed out twice")
    for how, found in figures.get("outages", {}).items():
        console.print(
            f"{STOPPED} stopped by {how} while {found['requests']} verifications ran: {found['failed']} failed, "
            f"{found['wrong']} wrong, the other pair served after {found['other_pair_after_s']:.2f} s, "
            f"the slowest answer took {found['slowest_s']:.2f} s"
        )


if __name__ == "__main__":
    main()
