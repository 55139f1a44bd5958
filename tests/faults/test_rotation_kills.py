"""A matcher dies in the middle of a rotation, at a random message of it; repeating the call brings it to its end."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.faults.rotation import MATCHERS, rotation_faults
from veilmatch.crypto.errors import GalleryRotatedError, UnavailableError

#: Either matcher receives and answers more messages than that.
MESSAGES = 15


def test_a_matcher_that_dies_in_a_rotation_leaves_nothing_half_done(tmp_path: Path) -> None:
    with rotation_faults(tmp_path) as dying:
        party, at = random.choice(MATCHERS), random.randint(1, MESSAGES)
        print(f"{party} killed at message {at}")  # pytest shows it if the test fails
        assert dying.kill_during_rotation(party, at).died


def test_a_matcher_that_dies_as_the_last_step_is_committed_leaves_no_gallery_open_to_changes(tmp_path: Path) -> None:
    """What was changed in the old gallery then would be lost: an enrolment, or an erasure."""
    with rotation_faults(tmp_path) as dying:
        names = dying.names_of_a_rotation("matcher-b")
        at = [number for number, name in enumerate(names, start=1) if name == "committed"][-2]
        assert dying.kill_in_rotation("matcher-b", at), "it received that matcher a has committed, and died"
        with dying.client() as client:
            for change in (
                lambda: client.enrol_embedding("late", dying.face(genuine=False), model="toy"),
                lambda: client.erase("known"),
            ):
                with pytest.raises((GalleryRotatedError, UnavailableError)):
                    change()
            assert client.verify_embedding("known", dying.face(genuine=True), model="toy").decision
        assert dying.finish_rotation() == 1
