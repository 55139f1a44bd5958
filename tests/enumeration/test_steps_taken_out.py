"""Each protective step taken out: then the views of somebody differ, and the comment says with which attack.

That is how we know that the enumeration sees what it is there for.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

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
from tests.enumeration.dealt import last_masks
from tests.enumeration.steps import MINUS, PLUS
from tests.enumeration.views import Views, ViewsDifferError

HOLDERS = pytest.mark.parametrize("holder", [PLUS, MINUS])


def refused(views: Views) -> None:
    with pytest.raises(ViewsDifferError):
        views.require()


# -- the mask ------------------------------------------------------------------------------------


@HOLDERS
def test_without_the_mask_a_dealer_with_one_share_of_a_conversion_reads_the_key(holder: int) -> None:
    # w is a known linear function of o*m and kappa for whoever dealt the triple: the key, after one enrolment of a
    # known vector, if a matcher of the dealer's organisation serves a holder of the pair.
    refused(conversion.leaving(holder, masked=False))
    refused(conversion.probe_leaving(holder, masked=False))


@HOLDERS
def test_without_the_mask_a_dealer_with_one_share_of_an_answer_reads_it(holder: int) -> None:
    # A share of AND is c + d*b + e*a + d*e, and whoever dealt a, b and c solves it: one in three answers of honest
    # searches.
    refused(answer.leaving((holder,), masked=False))


def test_without_the_mask_a_dealer_with_a_device_reads_what_the_gate_refused() -> None:
    # A device sees both shares. With what it dealt it tells a refusal by the score from one by the validity gate.
    refused(answer.leaving((PLUS, MINUS), masked=False))


@HOLDERS
def test_without_the_mask_a_dealer_with_one_share_of_a_template_reads_it(holder: int) -> None:
    refused(enrolment.leaving(holder, (holder,), words=False))


@HOLDERS
def test_without_the_mask_a_dealer_with_one_share_of_the_validity_bit_reads_it(holder: int) -> None:
    refused(enrolment.leaving(holder, (holder,), bits=False))


@HOLDERS
def test_without_the_mask_a_dealer_with_one_share_of_what_a_device_is_told_reads_who_was_known(holder: int) -> None:
    # tests/attacks/test_dealer_and_answers.py does it with real sessions.
    refused(unless_known.leaving(holder, (holder,), told=False))


@HOLDERS
def test_without_the_mask_a_dealer_with_one_share_of_what_is_stored_reads_if_it_is_zero(holder: int) -> None:
    refused(unless_known.leaving(holder, (holder,), words=False))
    # A device that knows if it was known sees which vector was not stored.
    refused(unless_known.leaving(holder, (PLUS, MINUS), words=False))


# -- single use ----------------------------------------------------------------------------------


@HOLDERS
def test_a_triple_that_is_used_twice_gives_the_key_away(holder: int) -> None:
    # Two openings with one a differ by o * (m - m').
    refused(conversion.opened_to(holder, 6, reused=True))


@HOLDERS
def test_a_bit_triple_that_is_used_twice_gives_inputs_of_gates_away(holder: int) -> None:
    refused(decision.seen_by(holder, 3, reused=True))
    refused(validity.seen_by(holder, reused=True))
    refused(lookup.seen_by(holder, reused=True))


@HOLDERS
def test_a_product_that_is_used_twice_gives_a_number_away(holder: int) -> None:
    refused(multiplication.product_seen_by(holder, 3, reused=True))
    # One that masks the probe and the template: what they differ by.
    refused(verification.inner_product_seen_by(holder, 2, reused=True))


# -- what is not opened --------------------------------------------------------------------------


def test_an_opened_validity_bit_tells_one_coordinate_from_another() -> None:
    # A holder that adds one to its own lane turns "is it a valid vector?" into "is this coordinate the largest?":
    # any predicate of a coordinate of an honest template, one a record, by a single key holder.
    refused(validity.with_validity_opened(1))


def test_an_opened_validity_bit_tells_a_holder_that_follows_the_protocol_nothing_of_valid_vectors() -> None:
    # So it went unseen: the bit is the same for all that honest devices send.
    validity.with_validity_opened(0).require()


@HOLDERS
def test_an_opened_bit_of_an_enrolment_unless_known_tells_whether_the_face_was_known(holder: int) -> None:
    # "Store it or not" would be the shortest way to do it, and the answer to whoever stands between two matchers.
    refused(unless_known.known_seen_by(holder, opened=True))
    refused(unless_known.ending_seen_by(holder, 0, opened=True))


# -- the check of blocks -------------------------------------------------------------------------


@HOLDERS
@pytest.mark.parametrize("kind", dealt_check.KINDS)
def test_without_the_commitment_of_the_dealer_a_proof_tells_what_is_kept(kind: str, holder: int) -> None:
    # The hash hides values of few bits, or of a few guesses: whoever altered its opening finds them offline. That
    # gives triples, and with them answers, scores and coordinates of honest queries.
    seen_by, alter = dealt_check.KINDS[kind]
    refused(seen_by(holder, alter, believing=True))


@HOLDERS
def test_an_opening_that_nothing_sacrificed_masks_tells_what_is_kept(holder: int) -> None:
    refused(dealt_check.triples_seen_by(holder, masked=False))


def test_a_combination_that_is_opened_without_a_mask_tells_of_what_is_kept() -> None:
    refused(dealt_check.tags_seen_by(masked=False))


# -- refreshing ----------------------------------------------------------------------------------


@pytest.mark.parametrize("of_old", [PLUS, MINUS])
def test_without_a_refresh_two_shares_are_the_key(of_old: int) -> None:
    assert refresh.exponents_stolen(of_old, refreshed=False).distance() == 1
    assert refresh.kappas_stolen(of_old, refreshed=False).distance() == 1


# -- the last mask -------------------------------------------------------------------------------


def test_a_last_mask_that_is_known_tells_a_plus_holder_that_aims_what_it_asks() -> None:
    # The key, by bisection, and a coordinate of an honest enrolment (tests/attacks/test_aimed_masks.py). A plus holder
    # that sends what it should gets at most 2 * risk / size by the same words.
    N = last_mask.N_OF_AIMED
    assert last_mask.aimed_conversion(known=True).distance() > 10 * Fraction(2, N)
    assert last_mask.aimed_enrolment(known=True).distance() >= Fraction(1, 2)


def test_a_last_mask_that_is_drawn_last_tells_it_no_more_than_that_nothing_is_at_risk() -> None:
    N = last_mask.N_OF_AIMED
    last_mask.aimed_conversion(known=False).require(Fraction(1, N - 1))
    last_mask.aimed_enrolment(known=False).require(Fraction(enrolment.RISK, enrolment.SIZE - enrolment.RISK))


# -- the enumeration itself ----------------------------------------------------------------------


def test_equal_distributions_are_0_apart_and_disjoint_ones_1() -> None:
    assert Views(np.array([[1, 2, 2], [2, 1, 2]])).distance() == 0
    assert Views(np.array([[1, 2, 2], [3, 4, 5]])).distance() == 1
    assert Views(np.array([[1, 2, 2], [1, 1, 2], [1, 2, 2]])).distance() * 3 == 1


def test_only_secrets_of_which_the_same_may_be_known_are_compared() -> None:
    codes = np.array([[1, 1], [2, 2], [1, 1]])
    assert Views(codes, ("no", "yes", "no")).distance() == 0
    assert Views(codes, ("no", "no", "yes")).distance() == 1


def test_what_is_enumerated_computes_what_the_protocol_computes() -> None:
    assert multiplication.masked_vector_opened_is_right(3)
    assert verification.scores_are_right(3) and verification.answers_are_right()
    assert unless_known.stored_is_right()
    outcomes = {}
    for m in enrolment.PLAINTEXTS:
        with last_masks(0, 6):
            run = enrolment.enrolment(0).run(2, m, [(2, 9)], ([[77]], [[3]], [[1]]))
        outcomes[m] = enrolment.opened(run)
    assert outcomes == {1: (-1, 1), 3: (1, 1), 2: (0, 0), 0: (0, 0), 4: (0, 0), 97: (0, 0)}
