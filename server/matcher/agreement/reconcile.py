"""What two matchers do about a pending mutation when they meet again after a crash.

The rule: a mutation is committed if and only if both prepared it. A matcher commits only after it
has seen the other's acknowledged prepare, so the two are never more than one mutation apart, and
the one behind then holds that mutation as pending. Each side calls `reconcile` with its own and the
other's state and acts on its own gallery; afterwards both are equal, or both saw the mismatch.
"""

from __future__ import annotations

from enum import Enum

from veilmatch.crypto.errors import GalleryMismatchError
from veilmatch.server.matcher.gallery.mutation import GalleryState


class Action(Enum):
    """What a matcher does with its own gallery."""

    COMMIT_PENDING = "commit pending"
    DISCARD_PENDING = "discard pending"
    NOTHING = "nothing"


def reconcile(mine: GalleryState, theirs: GalleryState) -> Action:
    """Return what the matcher in state `mine` does; the other one calls this with the arguments swapped.

    Raises GalleryMismatchError (got: their state, expected: mine) if no crash explains the two states:
    different histories, more than one mutation apart, or two different mutations pending on one state.
    """
    if (mine.sequence, mine.chain) == (theirs.sequence, theirs.chain):
        if mine.pending_chain is None:
            return Action.NOTHING
        if theirs.pending_chain is None:
            return Action.DISCARD_PENDING
        if mine.pending_chain == theirs.pending_chain:
            return Action.COMMIT_PENDING
    elif _is_one_behind(mine, theirs):
        return Action.COMMIT_PENDING
    elif _is_one_behind(theirs, mine):
        # What I prepared on top of a mutation that they have not committed, they cannot have prepared.
        return Action.NOTHING if mine.pending_chain is None else Action.DISCARD_PENDING
    raise GalleryMismatchError("the two matchers do not hold the same gallery", got=theirs, expected=mine)


def _is_one_behind(behind: GalleryState, ahead: GalleryState) -> bool:
    return ahead.sequence == behind.sequence + 1 and behind.pending_chain == ahead.chain
