"""Pairs that failed are tried last for a while, and one call at a time finds out whether they are well again."""

from __future__ import annotations

from typing import Any

import pytest

from veilmatch.client.wire.pairs.health import FIRST_S, LONGEST_S, PairHealth
from veilmatch.crypto.errors import (
    BudgetExceededError,
    DealtOpeningError,
    DealtStockError,
    IntegrityError,
    RequestRefusedError,
    StorageError,
    UnavailableError,
    VeilmatchError,
)

ALL: Any = ["ab", "ac", "bc"]
A_HANGS = UnavailableError("keyholder-a does not answer", party="keyholder-a", alternatives=("bc",))


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def health(clock: Clock) -> PairHealth:
    return PairHealth(clock)


def test_without_failures_the_order_is_that_of_the_settings(health: PairHealth) -> None:
    assert health.in_order(ALL) == ALL
    assert health.in_order(["bc", "ab"]) == ["bc", "ab"]
    health.served("ab")
    assert health.in_order(ALL) == ALL


def test_all_pairs_of_a_key_holder_that_failed_come_last(health: PairHealth) -> None:
    health.failed("ab", A_HANGS)
    assert health.in_order(ALL) == ["bc", "ab", "ac"]
    assert health.in_order(["ac"]) == ["ac"]


@pytest.mark.parametrize("kind", [UnavailableError, IntegrityError])
def test_whatever_failed_is_remembered(health: PairHealth, kind: type[VeilmatchError]) -> None:
    health.failed("ab", kind("its own fault", party="keyholder-b", alternatives=("ac",)))
    assert health.in_order(ALL) == ["ac", "ab", "bc"]


def test_one_call_finds_out_while_others_go_round(health: PairHealth, clock: Clock) -> None:
    health.failed("ab", A_HANGS)
    clock.now = FIRST_S - 0.1
    assert health.in_order(ALL) == ["bc", "ab", "ac"]
    clock.now = FIRST_S
    assert health.in_order(ALL) == ALL
    assert health.in_order(ALL) == ["bc", "ab", "ac"]
    health.served("ab")
    assert health.in_order(ALL) == ALL == health.in_order(ALL)


def test_what_goes_on_failing_is_tried_less_and_less(health: PairHealth, clock: Clock) -> None:
    health.failed("ab", A_HANGS)
    waits, last = [], clock.now
    while len(waits) < 6:
        clock.now += 1
        if health.in_order(ALL) == ALL:
            waits.append(clock.now - last)
            last = clock.now
            health.failed("ab", A_HANGS)
    assert waits == [FIRST_S, 2 * FIRST_S, 4 * FIRST_S, 8 * FIRST_S, LONGEST_S, LONGEST_S]


def test_calls_that_fail_at_once_count_as_one(health: PairHealth, clock: Clock) -> None:
    for _ in range(9):
        health.failed("ab", A_HANGS)
    clock.now = FIRST_S
    assert health.in_order(ALL) == ALL


@pytest.mark.parametrize("kind", [UnavailableError, DealtStockError, DealtOpeningError])
def test_an_error_about_stock_that_says_when_makes_the_time_shorter(
    health: PairHealth, clock: Clock, kind: type[VeilmatchError]
) -> None:
    health.failed("ab", kind("no stock", alternatives=("ac", "bc"), retry_after_s=2.0))
    assert health.in_order(ALL) == ["ac", "bc", "ab"]
    clock.now = 2.0
    assert health.in_order(ALL) == ALL


@pytest.mark.parametrize("retry_after_s", [FIRST_S + 1, 300.0, 1e9])
@pytest.mark.parametrize("kind", [UnavailableError, DealtStockError, RequestRefusedError, BudgetExceededError])
def test_no_error_of_one_matcher_makes_the_time_longer(
    health: PairHealth, clock: Clock, kind: type[VeilmatchError], retry_after_s: float
) -> None:
    health.failed("ab", kind("no", party="keyholder-b", alternatives=("ac",), retry_after_s=retry_after_s))
    clock.now = FIRST_S - 0.1
    assert health.in_order(ALL) == ["ac", "ab", "bc"]
    clock.now = FIRST_S
    assert health.in_order(ALL) == ALL


@pytest.mark.parametrize("kind", [RequestRefusedError, BudgetExceededError, StorageError, IntegrityError])
def test_an_error_that_cannot_know_when_its_cause_is_over_is_not_asked(
    health: PairHealth, clock: Clock, kind: type[VeilmatchError]
) -> None:
    health.failed("ab", kind("no", party="keyholder-b", alternatives=("ac",), retry_after_s=0.0))
    clock.now = FIRST_S - 0.1
    assert health.in_order(ALL) == ["ac", "ab", "bc"]


def test_a_deviation_that_is_reported_late_counts_against_its_pair_alone(health: PairHealth, clock: Clock) -> None:
    health.failed("ab", UnavailableError("soon", alternatives=("ac", "bc"), retry_after_s=0.5))
    clock.now = 1.0
    health.deviated("ab")
    clock.now = FIRST_S
    assert health.in_order(ALL) == ["ac", "bc", "ab"]
    clock.now = FIRST_S + 1
    assert health.in_order(ALL) == ALL


def test_who_has_too_much_to_do_again_and_again_keeps_nobody_from_the_others(health: PairHealth, clock: Clock) -> None:
    """Waiting is right, once; a lying organisation could say so for ever."""
    health.overloaded("ab")
    assert health.in_order(ALL) == ALL
    health.served("ab")
    health.overloaded("ab")
    assert health.in_order(ALL) == ALL, "it was not in a row"
    health.overloaded("ab")
    assert health.in_order(ALL) == ["ac", "bc", "ab"]
    for _ in range(2):
        health.overloaded("ac")
    assert health.in_order(ALL) == ["bc", "ab", "ac"], "whatever one organisation leads"
    clock.now = FIRST_S + 1
    assert health.in_order(ALL) == ALL
    health.served("ab")
    assert health.in_order(ALL) == ALL


def test_where_all_have_failed_all_are_tried(health: PairHealth) -> None:
    health.failed("ab", A_HANGS)
    health.failed("bc", UnavailableError("keyholder-c is down", party="keyholder-c", alternatives=("ab",)))
    assert health.in_order(ALL) == ALL
    health.served("ab")
    assert health.in_order(ALL) == ["ab", "ac", "bc"]


def test_one_pair_that_serves_again_clears_its_key_holder_and_no_other(health: PairHealth) -> None:
    health.failed("ab", A_HANGS)
    health.failed("bc", UnavailableError("keyholder-c is down", party="keyholder-c", alternatives=("ab",)))
    health.served("bc")
    assert health.in_order(ALL) == ["ac", "bc", "ab"]
