"""The table of faults: `python -m tests.faults [--runs 50] [--json PATH]`, or `make faults`.

Every daemon is killed as by `kill -9`, and hangs as by SIGSTOP, in the middle of every operation, `runs` times each,
spread evenly over the messages that it receives and answers; key holder and matcher c, who take no part, die at times
over half a second as well. Whoever died or hung is started again, or goes on, and decisions, subjects, stock and the
copies of the gallery are checked (harness.py). A matcher that catches up, and each of the others meanwhile, dies and
hangs at every message of that (catching_up.py), and every daemon at every message of a rotation (rotation.py). Key
holders die at every message of a recovery and of a renewal, after which the same command at all three has to finish
it, and all pairs serve (recoveries.py). A network loses everything between each two matchers, each two key holders,
and around each organisation, at times over the length of three requests
(partitions.py). After that one key holder is stopped while 200 verifications run, four at a time: once killed, once as
if it hung (outage.py).
"""

from __future__ import annotations

import argparse
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from tests.e2e.world import KEY_HOLDERS, MATCHERS
from tests.faults import catching_up
from tests.faults.harness import OPERATIONS, PARTIES, Faults, Outcome, faults, moments
from tests.faults.outage import outage
from tests.faults.partitions import CUTS, FILLING_S, MANY, MANY_BLOCKS, Partitions, partitions, stock
from tests.faults.recoveries import KINDS, RecoveryFaults, recovery_faults
from tests.faults.rotation import RotationFaults, rotation_faults
from tests.faults.table import Cell, Kept, Row, row_of, show

THIRD_S = 0.5
REQUESTS, AT_ONCE = 200, 4
#: Over so long a cut comes after three requests have begun.
CUT_S = 1.5
#: A fault of a request, and a fault of a rotation: what party, in what, at which message.
_Strike = Callable[[str, str, int], Outcome]


def main() -> None:
    """Run everything, print the table, write JSON if asked. A check that fails ends the run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=50, help="of each daemon or cut in each operation")
    parser.add_argument("--part", choices=[*PARTS, "outages"], action="append", help="only this; may be given again")
    parser.add_argument("--party", choices=PARTIES, action="append", help="kills and stops of only this; as often")
    parser.add_argument("--json", type=Path, help="keep the figures in this file, and go on with those in it")
    options = parser.parse_args()
    parts, kept = options.part or [*PARTS, "outages"], Kept(options.json, options.runs)
    with tempfile.TemporaryDirectory(prefix="veilmatch-faults-") as folder:
        for part in (part for part in PARTS if part in parts and not kept.is_finished(part)):
            with PARTS[part](Path(folder) / part, options.party or PARTIES, options.runs) as cells:
                for cell in cells:
                    kept.make(cell)
            if options.party is None:
                kept.finish(part)
        if "outages" in parts:
            kept.figures["outages"] = outages(Path(folder))
            kept.write()
    show(kept.figures)


@contextmanager
def _of_requests(
    cells: Callable[[Faults, Sequence[str], int], Iterator[Cell]], folder: Path, parties: Sequence[str], runs: int
) -> Iterator[Iterator[Cell]]:
    # While the dealer of a pair hangs or is dead, that pair goes on with the stock that it has.
    with faults(folder / "x", FILLING_S, **MANY) as dying:
        yield cells(dying, parties, runs)
        dying.reserved()


def kills(dying: Faults, parties: Sequence[str], runs: int) -> Iterator[Cell]:
    """Yield each daemon killed in each operation; those of an organisation that takes no part at times over it."""
    yield from _requests(dying, parties, runs, "kill", dying.kill_during)
    for party in (party for party in ("keyholder-c", "matcher-c") if party in parties):
        for operation in OPERATIONS:
            yield Cell(party, f"{operation} of ab", "kill", partial(_third, dying, party, operation, runs))


def stops(dying: Faults, parties: Sequence[str], runs: int) -> Iterator[Cell]:
    """Yield each daemon stopped in each operation."""
    yield from _requests(dying, parties, runs, "stop", dying.stop_during)


def _requests(dying: Faults, parties: Sequence[str], runs: int, how: str, do: _Strike) -> Iterator[Cell]:
    for party, operation in product(parties, OPERATIONS):

        def make(party: str = party, operation: str = operation) -> Row | None:
            if not (messages := dying.messages(party, operation)):
                return None
            outcomes = [do(party, operation, at) for at in moments(messages, runs)]
            return row_of(party, operation, how, messages, outcomes)

        yield Cell(party, operation, how, make)


def _third(dying: Faults, party: str, operation: str, runs: int) -> Row:
    outcomes = [dying.kill_after(party, operation, THIRD_S * i / runs) for i in range(runs)]
    return row_of(party, f"{operation} of ab", "kill", 0, outcomes)


def catching(dying: Faults, parties: Sequence[str], runs: int) -> Iterator[Cell]:
    """Yield each matcher that catches up, and each of the two others meanwhile; killed, and stopped."""
    strikes = {"kill": catching_up.kill_catching_up, "stop": catching_up.stop_catching_up}
    for matcher, party, how in product(MATCHERS, MATCHERS, strikes):
        during = "catch up" if party == matcher else f"{matcher} catches up"

        def make(matcher: str = matcher, party: str = party, how: str = how, during: str = during) -> Row:
            messages = len(catching_up.messages(dying, matcher, party))
            caught = [strikes[how](dying, matcher, at, party) for at in moments(messages, runs)]
            outcomes = [Outcome(party, during, one.at, one.struck, answered=True) for one in caught]
            return row_of(party, during, how, messages, outcomes) | {"level_s": max(one.level_s for one in caught)}

        yield Cell(party, during, how, make)


@contextmanager
def _rotations(folder: Path, parties: Sequence[str], runs: int) -> Iterator[Iterator[Cell]]:
    with rotation_faults(folder) as rotating:
        yield rotations(rotating, runs)


def rotations(rotating: RotationFaults, runs: int) -> Iterator[Cell]:
    """Yield each daemon that has a part in one, killed, and stopped."""
    strikes = {"kill": rotating.kill_during_rotation, "stop": rotating.stop_during_rotation}
    for party, how in product(PARTIES, strikes):

        def make(party: str = party, how: str = how) -> Row:
            messages, outcomes = rotating.messages_of(party), []
            rotating.give_up()
            for at in moments(messages, runs):
                outcomes.append(strikes[how](party, at))
                rotating.give_up()
            return row_of(party, "rotate", how, messages, outcomes)

        yield Cell(party, "rotate", how, make)


@contextmanager
def _recoveries(folder: Path, parties: Sequence[str], runs: int) -> Iterator[Iterator[Cell]]:
    with recovery_faults(folder / "x") as recovering:
        yield recoveries(recovering, runs)


def recoveries(recovering: RecoveryFaults, runs: int) -> Iterator[Cell]:
    """Yield each key holder killed in a recovery and in a renewal."""
    for kind, party in product(KINDS, KEY_HOLDERS):

        def make(kind: str = kind, party: str = party) -> Row:
            messages = recovering.messages_of(party, kind)
            outcomes = [recovering.kill_during_recovery(party, kind, at) for at in moments(messages, runs)]
            return row_of(party, kind, "kill", messages, outcomes)

        yield Cell(party, kind, "kill", make)


@contextmanager
def _partitions(folder: Path, parties: Sequence[str], runs: int) -> Iterator[Iterator[Cell]]:
    # Who is cut off from the dealer of a pair lives on its stock, which is not filled in between.
    blocks = max(MANY_BLOCKS // 2, 4 * MANY_BLOCKS * runs // 50)
    with partitions(folder / "x", stock(blocks)) as parting:
        yield (Cell(cut, "three at once", "cut", partial(_cut, parting, cut, runs)) for cut in CUTS)


def _cut(parting: Partitions, cut: str, runs: int) -> Row:
    parted = [parting.during(cut, CUT_S * i / runs) for i in range(runs)]
    outcomes = [Outcome(cut, "", str(i), True, one.acknowledged == 3) for i, one in enumerate(parted)]
    return row_of(cut, "three at once", "cut", 0, outcomes) | {
        "level_s": max(one.level_s for one in parted),
        "errors": [error for one in parted for error in one.errors],
    }


def outages(folder: Path) -> dict[str, Any]:
    """Return what became of many requests while a key holder was stopped."""
    # The pair that is left has no dealer: it goes on with the stock that it has, here enough for all requests.
    with faults(folder / "outages" / "x", FILLING_S, **MANY) as dying:
        return {how.name: asdict(outage(dying, REQUESTS, AT_ONCE, how)) for how in (signal.SIGKILL, signal.SIGSTOP)}


PARTS: dict[str, Callable[[Path, Sequence[str], int], AbstractContextManager[Iterator[Cell]]]] = {
    "kills": partial(_of_requests, kills),
    "stops": partial(_of_requests, stops),
    "catching-up": partial(_of_requests, catching),
    "rotations": _rotations,
    "recoveries": _recoveries,
    "partitions": _partitions,
}


if __name__ == "__main__":
    main()
