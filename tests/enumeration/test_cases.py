"""Every case of the table: nobody can tell two secrets apart better than the formula says."""

from __future__ import annotations

import pytest

from tests.enumeration.table import all_cases
from tests.enumeration.views import Case

CASES = list(all_cases())


def name_of(case: Case) -> str:
    return f"{case.block}; {case.organisation}; {case.holds}"


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_secrets_are_as_far_apart_as_the_formula_says_and_no_further(case: Case) -> None:
    assert case.views().distance() == case.distance


def test_cases_have_different_names() -> None:
    assert len({name_of(case) for case in CASES}) == len(CASES)
