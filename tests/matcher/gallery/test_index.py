"""SlotIndex against a model that is nothing but a dict from (pack, slot) to subject."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from veilmatch.crypto.errors import IntegrityError, UnknownSubjectError
from veilmatch.server.matcher.gallery.index import SlotIndex

SLOTS = 3
SUBJECTS = st.sampled_from(["ada", "bela", "cid", "dora"])


class IndexAgainstModel(RuleBasedStateMachine):
    """Places are a dict; packs are a number."""

    def __init__(self) -> None:
        super().__init__()
        self.index = SlotIndex(SLOTS)
        self.model: dict[tuple[int, int], str] = {}
        self.packs = 0

    @rule(subject=SUBJECTS, count=st.integers(1, 5))
    def enrol(self, subject: str, count: int) -> None:
        every = [(p, s) for p in range(self.packs + count) for s in range(SLOTS)]
        expected = [place for place in every if place not in self.model][:count]
        assert self.index.allocate(count) == expected
        assert self.index.allocate(count) == expected
        for pack, slot in expected:
            self.index.add(subject, pack, slot)
            self.model[pack, slot] = subject
            self.packs = max(self.packs, pack + 1)

    @rule(count=st.integers(1, 2), filled=st.integers(1, SLOTS), subject=SUBJECTS)
    def enrol_bulk(self, count: int, filled: int, subject: str) -> None:
        packs = self.index.allocate_packs(count)
        assert packs == list(range(self.packs, self.packs + count))
        for pack in packs:
            for slot in range(filled):
                self.index.add(subject, pack, slot)
                self.model[pack, slot] = subject
        self.packs += count

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def erase(self, data: st.DataObject) -> None:
        pack, slot = data.draw(st.sampled_from(sorted(self.model)))
        assert self.index.remove(pack, slot) == self.model.pop((pack, slot))

    @rule(pack=st.integers(-1, 6), slot=st.integers(-1, SLOTS))
    def remove_what_is_not_there(self, pack: int, slot: int) -> None:
        if (pack, slot) not in self.model:
            with pytest.raises(IntegrityError):
                self.index.remove(pack, slot)

    @rule(pack=st.integers(-1, 6), slot=st.integers(-1, SLOTS))
    def add_where_nothing_fits(self, pack: int, slot: int) -> None:
        fits = 0 <= pack <= self.packs and 0 <= slot < SLOTS and (pack, slot) not in self.model
        if not fits:
            with pytest.raises(IntegrityError):
                self.index.add("eve", pack, slot)

    @rule()
    def reload(self) -> None:
        listed = [(pack, slot, subject) for (pack, slot), subject in self.model.items()]
        self.index = SlotIndex.load(SLOTS, self.packs, listed)

    @invariant()
    def answers_are_those_of_the_model(self) -> None:
        assert self.index.pack_count == self.packs
        assert len(self.index) == len(self.model)
        names = sorted(set(self.model.values()))
        assert self.index.subjects() == [(n, list(self.model.values()).count(n)) for n in names]
        for name in ["ada", "bela", "cid", "dora", "eve"]:
            assert self.index.slots_of(name) == sorted(p for p, n in self.model.items() if n == name)
        every = [(p, s) for p in range(self.packs) for s in range(SLOTS)]
        assert list(self.index.labels()) == [self.model[place] for place in every if place in self.model]
        occupied = self.index.occupied()
        assert (occupied.dtype, occupied.shape) == (np.bool_, (self.packs, SLOTS))
        assert [tuple(place) for place in np.argwhere(occupied).tolist()] == sorted(self.model)
        for name in names:
            assert [tuple(p) for p in np.argwhere(self.index.occupied_by(name)).tolist()] == self.index.slots_of(name)


IndexAgainstModel.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestIndexAgainstModel = IndexAgainstModel.TestCase


def test_unknown_subject_is_required_in_vain() -> None:
    index = SlotIndex(SLOTS)
    index.add("ada", 0, 0)
    assert index.require("ada") == [(0, 0)]
    with pytest.raises(UnknownSubjectError):
        index.require("bela")
    index.remove(0, 0)
    with pytest.raises(UnknownSubjectError):
        index.require("ada")


def test_an_emptied_pack_is_filled_again_before_a_new_one() -> None:
    index = SlotIndex.load(2, 2, [(0, 0, "ada"), (0, 1, "bela"), (1, 0, "cid")])
    index.remove(0, 0)
    index.remove(0, 1)
    assert index.allocate(4) == [(0, 0), (0, 1), (1, 1), (2, 0)]
    assert index.allocate_packs(1) == [2]


def test_packs_without_templates_count_after_a_restart() -> None:
    assert SlotIndex(2, pack_count=3).allocate_packs(2) == [3, 4]
    assert SlotIndex.load(2, 3, [(0, 0, "ada")]).allocate(1) == [(0, 1)]


def test_a_refused_addition_changes_nothing() -> None:
    index = SlotIndex(2)
    index.add("ada", 0, 0)
    for subject, pack, slot in [("bela", 0, 0), ("bela", 2, 0), ("bela", 1, 2), ("", 1, 0)]:
        with pytest.raises(IntegrityError):
            index.add(subject, pack, slot)
    assert (index.subjects(), index.pack_count) == ([("ada", 1)], 1)


def test_changing_an_occupancy_does_not_change_the_index() -> None:
    index = SlotIndex(2)
    index.add("ada", 0, 0)
    index.occupied()[:] = True
    index.occupied_by("ada")[:] = True
    assert index.occupied().tolist() == index.occupied_by("ada").tolist() == [[True, False]]


def test_occupancy_of_an_unknown_subject_is_refused() -> None:
    with pytest.raises(UnknownSubjectError):
        SlotIndex(2).occupied_by("ada")


@pytest.mark.parametrize("templates", [[(0, 0, "ada"), (0, 0, "bela")], [(1, 0, "ada")], [(0, 2, "ada")]])
def test_a_contradictory_list_is_not_loaded(templates: list[tuple[int, int, str]]) -> None:
    with pytest.raises(IntegrityError):
        SlotIndex.load(2, 1, templates)
