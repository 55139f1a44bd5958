"""Every case of the table: nobody can tell two secrets apart better than the formula says."""

from __future__ import annotations

import pytest

from tests.enumeration.table import all_cases
from tests.enumeration.views import Case, ViewsDifferError

CASES = list(all_cases())
CLOSED = [case for case in CASES if not case.not_closed]
OPEN = [case for case in CASES if case.not_closed]


def name_of(case: Case) -> str:
    return f"{case.block}; {case.organisation}; {case.holds}"


@pytest.mark.parametrize("case", CLOSED, ids=name_of)
def test_secrets_are_as_far_apart_as_the_formula_says_and_no_further(case: Case) -> None:
    assert case.views().distance() == case.distance


@pytest.mark.xfail(reason="verdicts answer a plus holder that aims", strict=True, raises=ViewsDifferError)
@pytest.mark.parametrize("case", OPEN, ids=name_of)
def test_who_aims_at_a_rule_of_the_minus_holder_gets_no_more_than_who_does_not(case: Case) -> None:
    case.views().require(case.distance)


def test_cases_have_different_names() -> None:
    assert len({name_of(case) for case in CASES}) == len(CASES)
