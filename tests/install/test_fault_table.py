"""Every fault of docs/faults.md and of the table of docs/load.md names a test that is there; runs are those counted."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.faults.page import table

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r"`([\w/]+\.py)::(test_\w+)`")


def section_of(page: str, heading: str | None) -> str:
    """Return what is below a heading of a page, or all of it."""
    text = (ROOT / "docs" / page).read_text()
    return text if heading is None else text.split(f"\n## {heading}\n")[1].split("\n## ")[0]


@pytest.mark.parametrize(
    ("page", "heading", "least"), [("faults.md", None, 40), ("load.md", "Faults that were tried", 15)]
)
def test_every_fault_is_tried_by_a_test_that_exists(page: str, heading: str | None, least: int) -> None:
    tables = re.findall(r"^\| fault \|.*\n\|-.*\n((?:\|.*\n)+)", section_of(page, heading) + "\n", re.MULTILINE)
    faults = [row for table in tables for row in table.splitlines()]
    assert len(faults) > least
    before: list[tuple[str, str]] = []
    for row in faults:
        tried = row.split(" | ")[3]
        before = named = NAMED.findall(tried) or (before if tried.startswith("the same") else [])
        assert named, row
        for file, test in named:
            assert f"def {test}(" in (ROOT / "tests" / file).read_text(), (file, test)


def test_the_runs_of_the_page_are_those_in_the_file() -> None:
    page = (ROOT / "docs" / "faults.md").read_text()
    rows = json.loads((ROOT / "benchmarks" / "results" / "faults.json").read_text())["faults"]
    found = re.search(r"^\| struck \|.*\n(?:\|.*\n)+", page, re.MULTILINE)
    assert found is not None and found[0].splitlines() == table(rows)
    assert f"{sum(row['took_place'] for row in rows):,} faults" in page
