"""A change that one matcher prepared and that stays pending is no mismatch: a matcher has still to write."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
from structlog.testing import capture_logs

from tests.matcher.galleries import KEY_ID, PARAMETERS
from veilmatch.crypto.errors import GalleryMismatchError, UnavailableError
from veilmatch.protos.v1 import matcher_pb2 as pb
from veilmatch.server.matcher.agreement.meeting import Meeting, Meetings
from veilmatch.server.matcher.gallery.gallery import Gallery
from veilmatch.server.matcher.gallery.mutation import GalleryState
from veilmatch.server.matcher.gallery.store import Store
from veilmatch.server.matcher.query.pack_worker import PackWorkers


class Says:
    """A link on which matcher-a says that it is in this state, whenever it is asked."""

    def __init__(self, state: GalleryState) -> None:
        self._state = state

    async def send(self, message: pb.MatcherMessage) -> None:
        pass

    async def receive(self) -> pb.MatcherMessage:
        s = self._state
        state = pb.GalleryState(sequence=s.sequence, chain=s.chain, pending_chain=s.pending_chain or b"")
        return pb.MatcherMessage(begin=state)


async def agree(folder: Path, theirs: GalleryState) -> None:
    store = Store(folder, KEY_ID, PARAMETERS)
    gallery = Gallery("staff", 0, store, cast(PackWorkers, None), PARAMETERS.slots)
    gallery.state = GalleryState(3, b"c" * 32)
    try:
        meetings = Meetings("b", stub=None, timeout_s=5.0)  # type: ignore[arg-type]
        meeting = Meeting(Says(theirs), pb.MatcherMessage(), leads=False, peer="matcher-a", timeout_s=5.0)
        async with meetings.agreed(meeting, gallery, gallery.lock.shared):
            raise AssertionError("they are not in one state")
    finally:
        store.close()


async def test_what_this_matcher_did_not_get_to_prepare_is_its_own_and_no_mismatch(tmp_path: Path) -> None:
    with capture_logs() as logged, pytest.raises(UnavailableError, match="not settled yet") as caught:
        await agree(tmp_path, GalleryState(3, b"c" * 32, b"d" * 32))
    assert (caught.value.party, logged) == ("matcher-b", [])


async def test_galleries_that_have_parted_are_one_alert_for_the_same_two_states(tmp_path: Path) -> None:
    with capture_logs() as logged:
        for sequence in (9, 9, 9, 10):
            with pytest.raises(GalleryMismatchError, match="at matcher-b"):
                await agree(tmp_path, GalleryState(sequence, b"x" * 32))
    assert [(entry["event"], entry["log_level"], entry["got"][:11]) for entry in logged] == [
        ("alert", "error", "sequence 9,"), ("alert", "error", "sequence 10"),
    ]  # fmt: skip
