"""All cases of the enumeration, measured, and the table of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from tests.enumeration import (
    answer,
    conversion,
    dealt_check,
    decision,
    enrolment,
    last_mask,
    lookup,
    multiplication,
    refresh,
    unless_known,
    validity,
    verification,
)
from tests.enumeration.views import Case

BLOCKS = (
    conversion, multiplication, lookup, validity, decision, answer, verification, enrolment, unless_known, last_mask,
    dealt_check, refresh,
)  # fmt: skip
HEADINGS = ("block", "organisation", "what it holds or does", "views", "worst distance", "formula")


def all_cases() -> Iterator[Case]:
    """Every case of every block, in the order of the protocol."""
    for block in BLOCKS:
        yield from block.cases()


@dataclass(frozen=True)
class Measured:
    """A case and what came of it."""

    case: Case
    count: int
    distance: Fraction

    @staticmethod
    def of(case: Case) -> Measured:
        """Run a case."""
        views = case.views()
        return Measured(case, views.count, views.distance())

    @property
    def cells(self) -> tuple[str, ...]:
        """A line of the table."""
        case = self.case
        return case.block, case.organisation, case.holds, f"{self.count:,}", str(self.distance), case.formula


def merged(rows: list[Measured]) -> list[tuple[str, ...]]:
    """Lines of the table: what is the same for two organisations is one line."""
    organisations: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        block, organisation, *rest = row.cells
        organisations.setdefault((block, *rest), []).append(organisation)
    return [(block, "; ".join(names), *rest) for (block, *rest), names in organisations.items()]


def markdown(lines_of_table: list[tuple[str, ...]]) -> str:
    """The table as Markdown."""
    lines = [HEADINGS, ("---", "---", "---", "---:", "---:", "---"), *lines_of_table]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
