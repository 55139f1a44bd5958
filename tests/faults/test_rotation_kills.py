"""A daemon dies, or hangs, in a rotation, at a random message of it; repeating the call brings it to its end."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from tests.e2e.world import MATCHERS
from tests.faults.harness import PARTIES
from tests.faults.rotation import RotationFaults, rotation_faults
from veilmatch.crypto.errors import GalleryRotatedError, UnavailableError

#: Every matcher of the pair receives and answers more messages than that, every key holder as many.
MESSAGES = {"matcher": 15, "keyholder": 5}
#: Acceptances of the closing of the old gallery: before them are those of the only step. Of the matcher that leads a
#: pair those are counted that it receives; of one that follows those as well that it answers with.
CLOSING = {"matcher-a": (2,), "matcher-b": (3, 4), "matcher-c": (3, 4)}
#: On a busy machine a request may go to another pair before it comes to that message.
ATTEMPTS = 3


@pytest.fixture(scope="module")
def dying(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RotationFaults]:
    with rotation_faults(tmp_path_factory.mktemp("rotation")) as made:
        yield made


def test_a_matcher_that_dies_as_the_old_gallery_is_closed_leaves_it_open_to_no_change(dying: RotationFaults) -> None:
    """What was changed in the old gallery then would be lost: an enrolment, or an erasure."""
    party = random.choice(MATCHERS)
    at = random.choice(CLOSING[party])
    print(f"{party} killed at acceptance {at}")  # pytest shows it if the test fails
    for _ in range(ATTEMPTS):
        if dying.kill_in_rotation(party, at, only="accepted"):
            break
        dying.finish_rotation()
        dying.give_up()
    else:
        pytest.fail("no rotation came so far")
    with dying.client() as client:
        for change in (
            lambda: client.enrol_embedding("late", dying.face(genuine=False), model="toy"),
            lambda: client.erase("known"),
        ):
            with pytest.raises((GalleryRotatedError, UnavailableError)):
                change()
        assert client.verify_embedding("known", dying.face(genuine=True), model="toy").decision
    assert dying.finish_rotation() == 1
    dying.give_up()


@pytest.mark.parametrize("how", ["dies", "hangs"])
def test_who_dies_or_hangs_in_a_rotation_leaves_nothing_half_done(dying: RotationFaults, how: str) -> None:
    party = random.choice(PARTIES)
    at = random.randint(1, MESSAGES[party.split("-")[0]])
    print(f"{party} {how} at message {at}")  # pytest shows it if the test fails
    during = dying.kill_during_rotation if how == "dies" else dying.stop_during_rotation
    for _ in range(ATTEMPTS):
        reached = during(party, at).died
        dying.give_up()
        if reached:
            return
    pytest.fail("no rotation came so far")
