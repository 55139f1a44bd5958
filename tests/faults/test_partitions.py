"""Two matchers, two key holders or one organisation and everybody else are cut off from each other, once each."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from tests.faults.partitions import CUTS, Partitions, partitions

#: Of the requests that a cut comes into.
LONGEST_S = 0.5


@pytest.fixture(scope="module")
def parting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Partitions]:
    with partitions(tmp_path_factory.mktemp("partitions") / "installation") as made:
        yield made


@pytest.mark.parametrize("cut", CUTS)
def test_a_partition_changes_no_decision_loses_no_change_and_stops_nobody(parting: Partitions, cut: str) -> None:
    after_s = random.uniform(0.0, LONGEST_S)
    print(f"cut after {after_s:.3f} s")  # pytest shows it if the test fails
    print(parting.during(cut, after_s))
