"""Every daemon dies in the middle of a verification and of an enrolment, once each at a random message.

`python -m tests.faults` does it many times, at every message.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from tests.faults.harness import OPERATIONS, PARTIES, Faults, faults, moments


@pytest.fixture(scope="module")
def dying(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faults]:
    with faults(tmp_path_factory.mktemp("faults") / "installation") as made:
        yield made


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("party", PARTIES)
def test_a_kill_changes_no_decision_and_loses_no_enrolment(dying: Faults, party: str, operation: str) -> None:
    messages = dying.messages(party, operation)
    assert messages > 2
    at = random.randint(1, messages)
    print(f"killed at message {at} of {messages}")  # pytest shows it if the test fails
    assert dying.kill_during(party, operation, at).died


def test_the_dealer_may_die_as_well(dying: Faults) -> None:
    outcome = dying.kill_dealer_during("verify", random.uniform(0.0, 0.1))
    assert outcome.died and outcome.answered


def test_no_stock_was_handed_out_twice(dying: Faults) -> None:
    assert dying.reserved() > 20


def test_moments_are_all_messages_if_there_are_runs_enough() -> None:
    assert moments(9, 3) == [1, 4, 7]
    assert moments(3, 6) == [1, 1, 2, 2, 3, 3]
    assert set(moments(7, 50)) == set(range(1, 8))
