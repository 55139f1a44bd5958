"""Either matcher dies in the middle of a rotation, at a random message of it; repeating the call ends it."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from tests.faults.rotation import MATCHERS, RotationFaults, rotation_faults


@pytest.fixture(scope="module")
def dying(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RotationFaults]:
    with rotation_faults(tmp_path_factory.mktemp("rotation-faults")) as made:
        yield made


@pytest.mark.parametrize("party", MATCHERS)
def test_a_matcher_that_dies_in_a_rotation_leaves_nothing_half_done(dying: RotationFaults, party: str) -> None:
    messages = dying.messages_of_a_rotation(party)
    assert messages > 8
    at = random.randint(1, messages)
    print(f"killed at message {at} of {messages}")  # pytest shows it if the test fails
    assert dying.kill_during_rotation(party, at).died
