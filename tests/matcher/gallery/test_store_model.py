"""The store against dictionaries, over any order of calls and restarts."""

from __future__ import annotations

import itertools
import tempfile
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from tests.matcher.galleries import KEY_ID, PARAMETERS, Model, accept, commit, mutation, run
from tests.storage.backends import Backend
from veilmatch.crypto.errors import DuplicateTokenError, IntegrityError
from veilmatch.crypto.gallery_change import next_chain
from veilmatch.server.config import GalleriesIn
from veilmatch.server.matcher.agreement.ballots import Ballot
from veilmatch.server.matcher.gallery.changes import by_leaf
from veilmatch.server.matcher.gallery.disk.store import Store
from veilmatch.server.matcher.gallery.index import SlotIndex
from veilmatch.server.matcher.gallery.mutation import Mutation

SLOTS = PARAMETERS.slots


class StoreAgainstModel(RuleBasedStateMachine):
    """One gallery; slots are chosen by an index that is loaded from the store, as the matcher does it.

    where: an empty place for it.
    """

    def __init__(self, where: GalleriesIn) -> None:
        super().__init__()
        self.where = where
        self.store = Store(self.where, KEY_ID, PARAMETERS)
        self.store.open_gallery("staff")
        self.model = Model("staff")
        self.accepted: Mutation | None = None
        self.round = 1
        self.number = 0

    def teardown(self) -> None:
        self.store.close()

    def index(self) -> SlotIndex:
        return SlotIndex.load(SLOTS, len(list(self.store.packs("staff"))), self.store.templates("staff"))

    def accept(self, wanted: Mutation) -> None:
        state = accept(self.store, "staff", wanted, Ballot(self.round, "ab"))
        assert state.accepted is not None
        assert state.accepted.chain == next_chain(self.model.chain(), state.sequence + 1, wanted.digest())
        self.accepted = wanted

    @rule()
    def promise_a_higher_ballot(self) -> None:
        self.round += 1
        self.store.promise("staff", Ballot(self.round, "ab"))

    @precondition(lambda self: self.accepted is None)
    @rule(count=st.integers(1, SLOTS + 2), subject=st.sampled_from(["ada", "bela"]))
    def accept_an_enrolment(self, count: int, subject: str) -> None:
        self.number += 1
        self.accept(mutation(self.number, added=[(p, s, subject) for p, s in self.index().allocate(count)]))

    @precondition(lambda self: self.accepted is None and self.model.templates)
    @rule(subject=st.sampled_from(["ada", "bela"]))
    def accept_an_erasure(self, subject: str) -> None:
        if places := self.index().slots_of(subject):
            self.number += 1
            self.accept(mutation(self.number, removed=places))

    @precondition(lambda self: self.accepted is not None)
    @rule(rises=st.booleans())
    def accept_another_one(self, rises: bool) -> None:
        self.number += 1
        another = mutation(self.number, added=[(len(self.model.packs), 0, "cid")])
        if rises:
            self.round += 1
        state = self.store.state("staff")
        if state.accepted is not None and state.accepted.ballot == Ballot(self.round, "ab"):
            with pytest.raises(IntegrityError):
                self.accept(another)
        else:
            self.accept(another)

    @precondition(lambda self: self.model.committed)
    @rule(data=st.data())
    def use_a_token_again(self, data: st.DataObject) -> None:
        self.round += 1
        with pytest.raises(DuplicateTokenError):
            self.accept(data.draw(st.sampled_from(self.model.committed)))

    @precondition(lambda self: self.accepted is not None)
    @rule()
    def commit(self) -> None:
        assert self.accepted is not None
        commit(self.store, "staff")
        self.model.commit(self.accepted)
        self.accepted = None

    @rule(kept=st.integers(0, 3))
    def let_another_one_catch_up(self, kept: int) -> None:
        """A copy that stopped after some of the changes takes the others at once, and is the same."""
        with tempfile.TemporaryDirectory() as folder, closing(Store(Path(folder), KEY_ID, PARAMETERS)) as copy:
            copy.open_gallery("staff")
            for done in self.model.committed[:kept]:
                run(copy, "staff", done)
            after = min(kept, len(self.model.committed))
            changes = self.store.changes_after("staff", after, 1000)
            copy.apply("staff", changes, by_leaf(self.store.contents_after("staff", after)))
            self.model.check(copy)
            assert copy.changes_after("staff", 0, 1000)[after:] == changes
            assert copy.open_gallery("staff").chain == self.model.chain()

    @rule()
    def restart(self) -> None:
        self.store.close()
        self.store = Store(self.where, KEY_ID, PARAMETERS)
        self.store.open_gallery("staff")

    @invariant()
    def the_store_holds_what_the_model_holds(self) -> None:
        self.model.check(self.store)
        state = self.store.state("staff")
        assert (state.accepted is None) == (self.accepted is None)
        if self.accepted is not None:
            assert self.store.find_token("staff", self.accepted.token) is None
            assert self.store.accepted("staff")[0].body == self.accepted.body


def test_the_store_holds_what_the_model_holds(backend: Backend) -> None:
    numbers = itertools.count()
    # A server is asked for each statement, so that a step takes longer.
    examples = 15 if isinstance(backend.where, Path) else 4
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        lambda: StoreAgainstModel(backend.another(str(next(numbers)))),
        settings=settings(max_examples=examples, stateful_step_count=15, deadline=None),
    )
