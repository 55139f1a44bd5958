"""The table of docs/faults.md from the rows in a file: `python -m tests.faults.page benchmarks/results/faults.json`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.faults.table import Row

#: How something is struck, and what it is struck in, in the order of the page. What is no request has no answer.
_STRUCK = {"kill": "killed", "stop": "hangs", "cut": "cut off"}
_NOT_ASKED = {"catching up", "another one catches up", "recovery of a lost key holder", "renewal of shares"}
_DURING = {
    "verify": "verify",
    "enrol": "enrol",
    "refused": "enrol, of a vector that is none",
    "erase": "erase",
    "bulk": "bulk enrolment",
    "of ab": "any of these, that it has no part in",
    "rotate": "rotation",
    "catch up": "catching up",
    "catches up": "another one catches up",
    "recover": "recovery of a lost key holder",
    "renew": "renewal of shares",
    "three at once": "verify, enrol and erase at once",
}


def table(rows: list[Row]) -> list[str]:
    """Return the lines of a table in Markdown: rows of one kind of fault in one operation together."""
    lines = [
        "| struck | in | who | runs | faults that took place | answered all the same |",
        "|---|---|---|---:|---:|---:|",
    ]
    last = ""
    for how, struck in _STRUCK.items():
        for during in _DURING.values():
            if not (group := [row for row in rows if row["how"] == how and _during(row) == during]):
                continue
            runs, took_place, answered = (sum(row[key] for row in group) for key in ("runs", "took_place", "answered"))
            said = "" if during in _NOT_ASKED else str(answered) if answered == runs else f"**{answered}**"
            shown = "" if struck == last else struck
            lines.append(f"| {shown} | {during} | {_who(group)} | {runs:,} | {took_place:,} | {said} |")
            last = struck
    return lines


def _during(row: Row) -> str:
    operation = row["operation"]
    found = [name for end, name in _DURING.items() if operation == end or operation.endswith(f" {end}")]
    (name,) = found
    return name


def _who(group: list[Row]) -> str:
    """Return how many of each kind of party were struck."""
    parties = {row["party"] for row in group}
    kinds = {
        kind: sum(party.startswith(start) for party in parties)
        for kind, start in {
            "matcher": "matcher-", "key holder": "keyholder-", "line between matchers": "matcher ",
            "line between key holders": "keyholder ", "organisation": "organisation ",
        }.items()
    }  # fmt: skip
    assert sum(kinds.values()) == len(parties), parties
    return ", ".join(f"{count} {_plural(kind, count)}" for kind, count in kinds.items() if count)


def _plural(kind: str, count: int) -> str:
    noun, *rest = kind.split(" between ")
    return kind if count == 1 else " between ".join([f"{noun}s", *rest])


if __name__ == "__main__":
    print("\n".join(table(json.loads(Path(sys.argv[1]).read_text())["faults"])))
