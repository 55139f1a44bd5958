"""Two matchers meet again: every pair of states, and every moment of a crash."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import pytest

from veilmatch.crypto.errors import GalleryMismatchError, UnavailableError
from veilmatch.server.matcher.agreement.reconcile import Action, reconcile, unsettled
from veilmatch.server.matcher.gallery.mutation import GalleryState

A, B, C = b"a" * 32, b"b" * 32, b"c" * 32

STATES = [
    GalleryState(sequence, chain, pending)
    for sequence in range(4)
    for chain in (A, B, C)
    for pending in (None, A, B, C)
]


def act(state: GalleryState, action: Action) -> GalleryState:
    if action is Action.COMMIT_PENDING:
        assert state.pending_chain is not None, "nothing to commit"
        return GalleryState(state.sequence + 1, state.pending_chain)
    if action is Action.DISCARD_PENDING:
        assert state.pending_chain is not None, "nothing to discard"
        return replace(state, pending_chain=None)
    return state


def outcome(mine: GalleryState, theirs: GalleryState) -> Action | None:
    try:
        return reconcile(mine, theirs)
    except GalleryMismatchError:
        return None


@pytest.mark.parametrize(
    ("mine", "theirs", "my_action", "their_action"),
    [
        (GalleryState(5, A), GalleryState(5, A), Action.NOTHING, Action.NOTHING),
        (GalleryState(5, A, B), GalleryState(5, A, B), Action.COMMIT_PENDING, Action.COMMIT_PENDING),
        (GalleryState(5, A, B), GalleryState(5, A), Action.DISCARD_PENDING, Action.NOTHING),
        (GalleryState(5, A, B), GalleryState(6, B), Action.COMMIT_PENDING, Action.NOTHING),
        (GalleryState(5, A, B), GalleryState(6, B, C), Action.COMMIT_PENDING, Action.DISCARD_PENDING),
        (GalleryState(5, A, B), GalleryState(5, A, C), None, None),
        (GalleryState(5, A), GalleryState(5, B), None, None),
        (GalleryState(5, A, C), GalleryState(5, B, C), None, None),
        (GalleryState(5, A), GalleryState(6, B), None, None),
        (GalleryState(5, A, B), GalleryState(6, C), None, None),
        (GalleryState(5, A, B), GalleryState(7, B), None, None),
        (GalleryState(5, A, B), GalleryState(4, B), None, None),
        (GalleryState(5, A), GalleryState(6, A), None, None),
    ],
)
def test_the_rules(
    mine: GalleryState, theirs: GalleryState, my_action: Action | None, their_action: Action | None
) -> None:
    assert outcome(mine, theirs) is my_action
    assert outcome(theirs, mine) is their_action


def test_every_pair_of_states_ends_equal_or_both_see_the_mismatch() -> None:
    agreed = refused = 0
    for mine, theirs in product(STATES, STATES):
        mine_does, theirs_do = outcome(mine, theirs), outcome(theirs, mine)
        assert (mine_does is None) == (theirs_do is None)
        if mine_does is None or theirs_do is None:
            refused += 1
            continue
        agreed += 1
        after = act(mine, mine_does)
        assert after == act(theirs, theirs_do)
        assert after.pending_chain is None
        assert after.sequence == max(mine.sequence, theirs.sequence) + (
            mine == theirs and mine.pending_chain is not None
        )
    assert agreed and refused


def test_nobody_loses_what_is_committed() -> None:
    for mine, theirs in product(STATES, STATES):
        if (action := outcome(mine, theirs)) is not None:
            after = act(mine, action)
            assert after.sequence >= mine.sequence
            assert after.sequence > mine.sequence or after.chain == mine.chain


def test_a_mutation_only_one_has_prepared_is_never_committed() -> None:
    for mine, theirs in product(STATES, STATES):
        if outcome(mine, theirs) is Action.COMMIT_PENDING:
            assert mine.pending_chain in (theirs.pending_chain, theirs.chain)


@dataclass(frozen=True)
class Pair:
    first: GalleryState
    second: GalleryState


def test_a_crash_at_any_moment_of_a_mutation_is_repaired() -> None:
    start = Pair(GalleryState(0, A), GalleryState(0, A))
    one_prepared = replace(start, first=GalleryState(0, A, B))
    both_prepared = replace(one_prepared, second=GalleryState(0, A, B))
    one_committed = replace(both_prepared, second=GalleryState(1, B))
    both_committed = Pair(GalleryState(1, B), GalleryState(1, B))
    # The second matcher prepares the next mutation before it hears that the first has crashed.
    next_prepared = replace(one_committed, second=GalleryState(1, B, C))
    for pair, survives in [
        (start, False),
        (one_prepared, False),
        (both_prepared, True),
        (one_committed, True),
        (next_prepared, True),
        (both_committed, True),
    ]:
        for mine, theirs in [(pair.first, pair.second), (pair.second, pair.first)]:
            assert act(mine, reconcile(mine, theirs)) == GalleryState(*((1, B) if survives else (0, A)))


def test_a_mismatch_names_both_sequence_numbers() -> None:
    with pytest.raises(GalleryMismatchError) as caught:
        reconcile(GalleryState(5, A), GalleryState(8, B, C), "matcher-b", "matcher-a")
    assert caught.value.expected == f"sequence 5, chain {A.hex()[:8]} at matcher-b"
    assert caught.value.got == f"sequence 8, chain {B.hex()[:8]}, pending {C.hex()[:8]} at matcher-a"


@pytest.mark.parametrize(
    ("mine", "theirs", "behind"),
    [
        (GalleryState(0, A, B), GalleryState(0, A), "matcher-b"),
        (GalleryState(0, A), GalleryState(0, A, B), "matcher-a"),
        (GalleryState(1, B), GalleryState(0, A, B), "matcher-b"),
        (GalleryState(0, A, B), GalleryState(1, B), "matcher-a"),
    ],
)
def test_what_is_not_settled_yet_names_the_matcher_that_has_still_to_write(
    mine: GalleryState, theirs: GalleryState, behind: str
) -> None:
    for error in (unsettled(mine, theirs, "matcher-a", "matcher-b"), unsettled(theirs, mine, "matcher-b", "matcher-a")):
        assert isinstance(error, UnavailableError)
        assert error.party == behind and error.retry_after_s and behind in str(error)
