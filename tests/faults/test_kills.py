"""Every daemon dies, and hangs, in the middle of requests, once each at a random message of a random one.

`python -m tests.faults` does it many times, at every message of every operation.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest

from tests.e2e.world import MATCHERS
from tests.faults.catching_up import kill_catching_up, messages, stop_catching_up
from tests.faults.harness import OPERATIONS, PARTIES, Faults, Outcome, faults, moments

#: Of each daemon.
KILLED_IN, STOPPED_IN = 2, 1
#: Faults while a matcher catches up.
CATCHING_UP = 3


@pytest.fixture(scope="module")
def dying(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faults]:
    with faults(tmp_path_factory.mktemp("faults") / "installation") as made:
        yield made


def chosen(dying: Faults, party: str, operation: str) -> int:
    messages = dying.messages(party, operation)
    # Packs of a bulk enrolment pass by the key holders.
    if not messages and party.startswith("keyholder") and operation == "bulk":
        return 0
    assert messages > 2
    at = random.randint(1, messages)
    print(f"{operation}, message {at} of {messages}")  # pytest shows it if the test fails
    return at


def dies(fault: Callable[[str, str, int], Outcome], party: str, operation: str, at: int) -> None:
    """Have it die at this message, or at an earlier one: slow ones are asked for signs of life, which are messages."""
    while not fault(party, operation, at).died:
        assert at > 2
        at //= 2


@pytest.mark.parametrize("party", PARTIES)
def test_a_kill_changes_no_decision_and_loses_no_change(dying: Faults, party: str) -> None:
    for operation in random.sample(OPERATIONS, KILLED_IN):
        if at := chosen(dying, party, operation):
            dies(dying.kill_during, party, operation, at)


@pytest.mark.parametrize("party", PARTIES)
def test_who_hangs_changes_no_decision_loses_no_change_and_is_missed_by_nobody(dying: Faults, party: str) -> None:
    for operation in random.sample(OPERATIONS, STOPPED_IN):
        if at := chosen(dying, party, operation):
            dies(dying.stop_during, party, operation, at)


@pytest.mark.parametrize("party", ["keyholder-c", "matcher-c"])
def test_the_third_organisation_may_die_as_well(dying: Faults, party: str) -> None:
    outcome = dying.kill_after(party, "enrol", random.uniform(0.0, 0.1))
    assert outcome.died and outcome.answered


def test_a_matcher_that_dies_while_it_catches_up_becomes_level_when_it_is_started_again(dying: Faults) -> None:
    matcher = random.choice(MATCHERS)
    names = messages(dying, matcher)
    assert "ChangePart" in names
    chosen = random.sample(range(1, len(names) + 1), CATCHING_UP)
    print(f"{matcher} at messages {chosen} of {names}")  # pytest shows it if the test fails
    assert any(kill_catching_up(dying, matcher, at).struck for at in chosen)


def test_who_hangs_while_a_matcher_catches_up_is_missed_by_nobody(dying: Faults) -> None:
    """It, or one of the two that it catches up from."""
    matcher, party = random.choice(MATCHERS), random.choice(MATCHERS)
    count = len(messages(dying, matcher, party))
    assert count > 2
    chosen = [1, *random.sample(range(2, count + 1), CATCHING_UP - 2)]
    print(f"{matcher} catches up, {party} hangs at messages {chosen} of {count}")  # pytest shows it if the test fails
    assert any(stop_catching_up(dying, matcher, at, party).struck for at in chosen)


def test_no_stock_was_handed_out_twice(dying: Faults) -> None:
    assert dying.reserved() > 20


def test_moments_are_all_messages_if_there_are_runs_enough() -> None:
    assert moments(9, 3) == [1, 4, 7]
    assert moments(3, 6) == [1, 1, 2, 2, 3, 3]
    assert set(moments(7, 50)) == set(range(1, 8))
