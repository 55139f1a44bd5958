"""A matcher dies in the middle of a rotation, at a random message of it; repeating the call brings it to its end."""

from __future__ import annotations

import random
from pathlib import Path

from tests.faults.rotation import MATCHERS, rotation_faults

#: Either matcher receives and answers more messages than that.
MESSAGES = 15


def test_a_matcher_that_dies_in_a_rotation_leaves_nothing_half_done(tmp_path: Path) -> None:
    with rotation_faults(tmp_path) as dying:
        party, at = random.choice(MATCHERS), random.randint(1, MESSAGES)
        print(f"{party} killed at message {at}")  # pytest shows it if the test fails
        assert dying.kill_during_rotation(party, at).died
