"""What two matchers do about a pending mutation when they meet again after a crash.

The rule: a mutation is committed if and only if both prepared it. A matcher commits only after it
has seen the other's acknowledged prepare, so the two are never more than one mutation apart, and
the one behind then holds that mutation as pending. Each side calls `reconcile` with its own and the
other's state and acts on its own gallery; afterwards both are equal, or both saw the mismatch.
"""

from __future__ import annotations

from enum import Enum

from veilmatch.crypto.errors import GalleryMismatchError, UnavailableError
from veilmatch.server.matcher.gallery.mutation import GalleryState

#: When to ask again while a change is not settled.
_SETTLED_S = 2.0


class Action(Enum):
    """What a matcher does with its own gallery."""

    COMMIT_PENDING = "commit pending"
    DISCARD_PENDING = "discard pending"
    NOTHING = "nothing"


def reconcile(mine: GalleryState, theirs: GalleryState, me: str = "this matcher", peer: str = "the other") -> Action:
    """Return what the matcher in state `mine` does; the other one calls this with the arguments swapped.

    Raises GalleryMismatchError (got: their state, expected: mine, each with whose it is) if no crash explains the two:
    different histories, more than one mutation apart, or two different mutations pending on one state.
    me, peer: names of the two matchers.
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
    raise GalleryMismatchError(
        "the two matchers do not hold the same gallery", got=f"{theirs} at {peer}", expected=f"{mine} at {me}"
    )


def unsettled(mine: GalleryState, theirs: GalleryState, me: str, peer: str) -> UnavailableError:
    """Return the error for two states that `reconcile` explains and that could not be made one.

    It names the matcher that has still to write: the one behind, or the one that did not get to prepare.
    """
    behind = me if _is_one_behind(mine, theirs) else peer if _is_one_behind(theirs, mine) else None
    if behind is None:
        behind = me if mine.pending_chain is None else peer
    return UnavailableError(
        f"a change of the gallery that was interrupted is not settled yet: {behind} has still to write",
        party=behind,
        needed="the same state at both matchers",
        available=f"{mine} at {me}; {theirs} at {peer}",
        retry_after_s=_SETTLED_S,
    )


def _is_one_behind(behind: GalleryState, ahead: GalleryState) -> bool:
    return ahead.sequence == behind.sequence + 1 and behind.pending_chain == ahead.chain
