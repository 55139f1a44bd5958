"""Nobody at the table can tell two secrets apart better than the formula says; with a step taken out, somebody can."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import pytest

from tests.enumeration.ceremony import blocks
from tests.enumeration.ceremony.tape import seen_by
from tests.enumeration.views import Case, ViewsDifferError
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.keys.parties import PARTIES

CASES = list(blocks.cases())


def name_of(case: Case) -> str:
    return f"{case.block}; {case.organisation}"


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_secrets_are_as_far_apart_as_the_formula_says_and_no_further(case: Case) -> None:
    assert case.views().distance() == case.distance


def test_cases_have_different_names() -> None:
    assert len({name_of(case) for case in CASES}) == len(CASES)


# -- steps taken out ---------------------------------------------------------------------------------------------

PAIRS = list(product(range(3), repeat=2))


def test_a_product_without_shares_of_zero_tells_the_party_ahead() -> None:
    for viewer in PARTIES:
        with pytest.raises(ViewsDifferError):
            seen_by(viewer, blocks.multiply(3), PAIRS, left_out={"zero"}).require()


def test_what_is_shared_without_a_mask_tells_the_party_ahead() -> None:
    with pytest.raises(ViewsDifferError):
        seen_by("b", blocks.share(3, "a"), range(3), left_out={"shared"}).require()


@pytest.mark.parametrize("steps", [blocks.times, blocks.square, blocks.square_times])
def test_without_what_is_dealt_both_who_compute_learn(steps: object) -> None:
    for viewer in blocks.ROLES[:2]:
        with pytest.raises(ViewsDifferError):
            seen_by(viewer, blocks.computation(2, steps), PAIRS, left_out={"dealt"}, holdings=1).require()  # type: ignore[arg-type]


def test_without_the_blinds_of_a_comparison_its_referee_learns() -> None:
    with pytest.raises(ViewsDifferError):
        views = seen_by(
            blocks.ROLES[2], blocks.computation(2, blocks.zeros), PAIRS, blocks.whether_zero, left_out={"zeros"}
        )
        views.require()
    with pytest.raises(ViewsDifferError):
        seen_by(
            "c", blocks.division((3,)), list(product(range(3), repeat=3)), blocks.divides((3,)), left_out={"blinds"}
        ).require()


def test_without_its_mask_a_part_of_a_number_tells_who_gets_it() -> None:
    with pytest.raises(ViewsDifferError):
        seen_by(
            "b", blocks.number(2), list(product(range(3), repeat=3)), blocks.own_number, left_out={"number"}
        ).require()
    with pytest.raises(ViewsDifferError):
        secrets = list(product(range(3), repeat=3))
        seen_by("b", blocks.division((3,)), secrets, blocks.divides((3,)), left_out={"mask"}).require()


def test_a_shorter_mask_hides_less() -> None:
    block = blocks.masked_number(16, "a", "b", lambda seat: seat.own.bits(2))
    assert seen_by("a", block, blocks.INTEGERS, holdings=1).distance() == Fraction(3, 4)
    block = blocks.masked_number(5, "a", "b", lambda seat: Integer(1))
    assert seen_by("a", block, range(5)).distance() == 1


def test_an_old_share_that_is_put_in_without_a_mask_tells_the_fresh_machine() -> None:
    secrets = [(0, x, 0, 0) for x in range(3)]
    with pytest.raises(ViewsDifferError):
        seen_by("c", blocks.old_shares(3), secrets, blocks.own_old_share, left_out={"shared"}).require()
