"""The store against dictionaries, over any order of calls and restarts."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.matcher.galleries import KEY_ID, PARAMETERS, Model, mutation
from veilmatch.crypto.errors import DuplicateTokenError, IntegrityError
from veilmatch.server.matcher.gallery.index import SlotIndex
from veilmatch.server.matcher.gallery.mutation import Mutation, next_chain
from veilmatch.server.matcher.gallery.store import Store

SLOTS = PARAMETERS.slots


class StoreAgainstModel(RuleBasedStateMachine):
    """One gallery; slots are chosen by an index that is loaded from the store, as the matcher does it."""

    def __init__(self) -> None:
        super().__init__()
        self.data_dir = Path(tempfile.mkdtemp())
        self.store = Store(self.data_dir, KEY_ID, PARAMETERS)
        self.store.open_gallery("staff")
        self.model = Model("staff")
        self.pending: Mutation | None = None
        self.number = 0

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.data_dir)

    def index(self) -> SlotIndex:
        return SlotIndex.load(SLOTS, len(list(self.store.packs("staff"))), self.store.templates("staff"))

    def prepare(self, wanted: Mutation) -> None:
        state = self.store.prepare("staff", wanted)
        assert state.pending_chain == next_chain(self.model.chain(), state.sequence + 1, wanted.digest())
        self.pending = wanted

    @precondition(lambda self: self.pending is None)
    @rule(count=st.integers(1, SLOTS + 2), subject=st.sampled_from(["ada", "bela"]))
    def prepare_enrolment(self, count: int, subject: str) -> None:
        self.number += 1
        self.prepare(mutation(self.number, added=[(p, s, subject) for p, s in self.index().allocate(count)]))

    @precondition(lambda self: self.pending is None and self.model.templates)
    @rule(subject=st.sampled_from(["ada", "bela"]))
    def prepare_erasure(self, subject: str) -> None:
        if places := self.index().slots_of(subject):
            self.number += 1
            self.prepare(mutation(self.number, removed=places))

    @precondition(lambda self: self.pending is not None)
    @rule()
    def prepare_a_second_one(self) -> None:
        with pytest.raises(IntegrityError):
            self.store.prepare("staff", mutation(self.number + 1, added=[(len(self.model.packs), 0, "cid")]))

    @precondition(lambda self: self.pending is None and self.model.committed)
    @rule(data=st.data())
    def use_a_token_again(self, data: st.DataObject) -> None:
        with pytest.raises(DuplicateTokenError):
            self.store.prepare("staff", data.draw(st.sampled_from(self.model.committed)))

    @precondition(lambda self: self.pending is not None)
    @rule()
    def commit(self) -> None:
        assert self.pending is not None
        pending_chain = self.store.state("staff").pending_chain
        assert pending_chain is not None
        self.store.commit("staff", pending_chain)
        self.model.commit(self.pending)
        self.pending = None

    @rule()
    def discard(self) -> None:
        self.store.discard("staff")
        self.pending = None

    @rule()
    def restart(self) -> None:
        self.store.close()
        self.store = Store(self.data_dir, KEY_ID, PARAMETERS)
        self.store.open_gallery("staff")

    @invariant()
    def the_store_holds_what_the_model_holds(self) -> None:
        self.model.check(self.store)
        state = self.store.state("staff")
        assert (state.pending_chain is None) == (self.pending is None)
        if self.pending is not None:
            assert self.store.find_token("staff", self.pending.token) is None


StoreAgainstModel.TestCase.settings = settings(max_examples=15, stateful_step_count=15, deadline=None)
TestStoreAgainstModel = StoreAgainstModel.TestCase
