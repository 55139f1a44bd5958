"""SlotIndex against a model that is nothing but a dict from (pack, slot) to subject."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from veilmatch.crypto.errors import IntegrityError, UnknownSubjectError
from veilmatch.server.matcher.gallery.index import Asked, SlotIndex
from veilmatch.server.matcher.gallery.subject_places import SubjectPlaces

SLOTS = 3
SUBJECTS = st.sampled_from(["ada", "bela", "cid", "dora"])


def asked(found: Asked) -> list[tuple[int, int]]:
    """Return the places that are asked for, in packs that all have one."""
    assert found.packs == sorted(set(found.packs)) and found.wanted.any(axis=1).all()
    return [(found.packs[row], slot) for row, slot in np.argwhere(found.wanted).tolist()]


class IndexAgainstModel(RuleBasedStateMachine):
    """Places are a dict; packs are a number."""

    def __init__(self) -> None:
        super().__init__()
        self.index = SlotIndex(SLOTS)
        self.model: dict[tuple[int, int], str] = {}
        self.retired: set[tuple[int, int]] = set()
        self.packs = 0

    @rule(subject=SUBJECTS, count=st.integers(1, 5))
    def enrol(self, subject: str, count: int) -> None:
        enough = self.packs + count + len(self.retired)
        every = [(p, s) for p in range(enough) for s in range(SLOTS)]
        expected = [place for place in every if place not in self.model and place not in self.retired][:count]
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

    @precondition(lambda self: self.model)
    @rule(data=st.data(), again=st.booleans())
    def give_up(self, data: st.DataObject, again: bool) -> None:
        pack, slot = data.draw(st.sampled_from(sorted(self.model)))
        with pytest.raises(IntegrityError):
            self.index.retire(pack, slot)
        self.index.remove(pack, slot)
        del self.model[pack, slot]
        self.index.retire(pack, slot)
        if again:
            self.index.retire(pack, slot)
        self.retired.add((pack, slot))

    @rule(pack=st.integers(-1, 6), slot=st.integers(-1, SLOTS))
    def remove_what_is_not_there(self, pack: int, slot: int) -> None:
        if (pack, slot) not in self.model:
            with pytest.raises(IntegrityError):
                self.index.remove(pack, slot)

    @rule(pack=st.integers(-1, 6), slot=st.integers(-1, SLOTS))
    def add_where_nothing_fits(self, pack: int, slot: int) -> None:
        taken = (pack, slot) in self.model or (pack, slot) in self.retired
        fits = 0 <= pack <= self.packs and 0 <= slot < SLOTS and not taken
        if not fits:
            with pytest.raises(IntegrityError):
                self.index.add("eve", pack, slot)

    @rule()
    def reload(self) -> None:
        listed = [(pack, slot, subject) for (pack, slot), subject in self.model.items()]
        self.index = SlotIndex.load(SLOTS, self.packs, listed, self.retired)

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
        assert [self.index.occupied_in(pack) for pack in range(self.packs)] == [
            [s for s in range(SLOTS) if (pack, s) in self.model] for pack in range(self.packs)
        ]
        assert asked(self.index.asked()) == sorted(self.model)
        assert self.index.places().tolist() == [self.model.get(place, "") for place in every]
        assert self.index.at(every) == [(p * SLOTS + s, self.model.get((p, s), "")) for p, s in every]


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


def test_what_was_given_does_not_change_with_the_index() -> None:
    index = SlotIndex(2)
    index.add("ada", 0, 0)
    before = index.occupied(), index.asked().wanted, index.places()
    index.occupied()[:] = True
    index.asked().wanted[:] = True
    index.places()[:] = "eve"
    assert [one.tolist() for one in before] == [[[True, False]]] * 2 + [["ada", ""]]
    index.add("bela", 0, 1)
    assert [one.tolist() for one in before] == [[[True, False]]] * 2 + [["ada", ""]]
    assert (index.places().tolist(), index.asked().wanted.tolist()) == (["ada", "bela"], [[True, True]])


def test_an_unknown_subject_is_not_asked_for() -> None:
    with pytest.raises(UnknownSubjectError):
        SlotIndex(2).require("ada")


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_places_of_subjects_are_those_of_a_dictionary(data: st.DataObject) -> None:
    """As many buckets as there come to be, subjects that share one, and one with very many places."""
    names: list[str] = []
    places, model = SubjectPlaces(lambda place: names[place]), dict[int, str]()
    for _ in range(data.draw(st.integers(1, 300))):
        if model and data.draw(st.integers(0, 3)) == 0:
            place = data.draw(st.sampled_from(sorted(model)))
            places.remove(model.pop(place), place)
        else:
            names.append(data.draw(st.one_of(st.just("ada"), st.text(max_size=2))))
            places.add(names[-1], len(names) - 1)
            model[len(names) - 1] = names[-1]
    filled = SubjectPlaces(lambda place: names[place])
    if model:
        filled.fill(list(model.values()), np.array(list(model), dtype=np.int64))
    for table in (places, filled):
        for name in {*names, "nobody"}:
            assert table.of(name) == [place for place, other in model.items() if other == name]
    for place in list(model)[::2]:
        filled.remove(model.pop(place), place)
    for name in ("ada", "ada", "new"):
        names.append(name)
        filled.add(name, len(names) - 1)
        model[len(names) - 1] = name
    for name in names:
        assert filled.of(name) == [place for place, other in model.items() if other == name]


@pytest.mark.parametrize("templates", [[(0, 0, "ada"), (0, 0, "bela")], [(1, 0, "ada")], [(0, 2, "ada")]])
def test_a_contradictory_list_is_not_loaded(templates: list[tuple[int, int, str]]) -> None:
    with pytest.raises(IntegrityError):
        SlotIndex.load(2, 1, templates)
