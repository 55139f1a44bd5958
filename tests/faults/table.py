"""The table of faults as it grows: kept in a file after every row, so that it can be gone on with, and shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.faults.harness import Outcome
from tests.faults.outage import STOPPED

Row = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """One row that can be made: who, during what, how it was struck."""

    party: str
    operation: str
    how: str
    make: Callable[[], Row | None]
    """Does it, and returns the row; None if the party has no part in that."""


class Kept:
    """Rows in a file, if there is one. A row that is there with as many runs is not made again."""

    def __init__(self, path: Path | None, runs: int) -> None:
        self._path, self._runs = path, runs
        self.figures: dict[str, Any] = {"faults": [], "finished": [], "outages": {}}
        if path is not None and path.exists():
            self.figures |= json.loads(path.read_text())

    def make(self, cell: Cell) -> None:
        """Make a row, unless it is there; an error ends the run, and what there is stays."""
        named = cell.party, cell.operation, cell.how
        rows = [row for row in self.figures["faults"] if (row["party"], row["operation"], row["how"]) != named]
        if any(row["runs"] >= self._runs for row in self.figures["faults"] if row not in rows):
            return
        if (row := cell.make()) is not None:
            Console(stderr=True).print(row)
            self.figures["faults"] = [*rows, row]
            self.write()

    def is_finished(self, part: str) -> bool:
        """Return whether all rows of a part were there with so many runs."""
        return [part, self._runs] in self.figures["finished"]

    def finish(self, part: str) -> None:
        """Note that they are."""
        self.figures["finished"].append([part, self._runs])
        self.write()

    def write(self) -> None:
        """Write what there is, whole or not at all."""
        if self._path is not None:
            partial = self._path.with_suffix(".partial")
            partial.write_text(json.dumps(self.figures, indent=1) + "\n")
            partial.rename(self._path)


def row_of(party: str, operation: str, how: str, messages: int, outcomes: list[Outcome]) -> Row:
    """Return the row of so many runs of one fault. messages: that the party has in such a request."""
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
    for how, found in figures["outages"].items():
        console.print(
            f"{STOPPED} stopped by {how} while {found['requests']} verifications ran: {found['failed']} failed, "
            f"{found['wrong']} wrong, the other pair served after {found['other_pair_after_s']:.2f} s, "
            f"the slowest answer took {found['slowest_s']:.2f} s"
        )
