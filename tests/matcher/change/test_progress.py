"""Whatever is changed in the old gallery between two steps, a rotation ends with exactly its templates."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from veilmatch.server.matcher.change.progress import (
    STEP_TEMPLATES,
    Close,
    Convert,
    Empty,
    Place,
    Progress,
    Source,
    converted_result,
    emptied_result,
)
from veilmatch.server.matcher.gallery.index import SlotIndex

SLOTS = 5


class Rotation:
    """Both galleries as sets; a step does what the matchers do."""

    def __init__(self, old: Iterable[Source]) -> None:
        self.old = set(old)
        self.results: list[str] = []
        self.index = SlotIndex(SLOTS)
        self.holds: dict[Place, Source] = {}

    def progress(self) -> Progress:
        """As after a restart: from the results alone."""
        progress = Progress()
        for sequence, result in enumerate(self.results, start=1):
            progress.fold(sequence, result)
        return progress

    def step(self) -> bool:
        """Do one step; return whether it was the last."""
        step = self.progress().next_step(sorted(self.old))
        match step:
            case Close():
                return True
            case Empty(pack):
                for place in [place for place in self.holds if place[0] == pack]:
                    self.index.remove(*place)
                    del self.holds[place]
                self.results.append(emptied_result(pack))
            case Convert(sources):
                assert 1 <= len(sources) <= STEP_TEMPLATES
                places = self.index.allocate(len(sources))
                for source, place in zip(sources, places, strict=True):
                    self.index.add("somebody", *place)
                    self.holds[place] = source
                self.results.append(converted_result(sources, places))
        return False

    def to_the_end(self) -> None:
        for _ in range(200):
            if self.step():
                return
        raise AssertionError("the rotation does not end")


def sources(count: int) -> list[Source]:
    return [(i // 7, i % 7, i % 3) for i in range(count)]


@settings(deadline=None)
@given(
    count=st.integers(0, 50),
    changes=st.lists(st.tuples(st.integers(0, 4), st.sets(st.integers(0, 49)), st.integers(0, 6)), max_size=5),
)
def test_whatever_changes_meanwhile_the_new_gallery_ends_as_the_templates_of_the_old(
    count: int, changes: list[tuple[int, set[int], int]]
) -> None:
    rotation = Rotation(sources(count))
    fresh = itertools.count(100)
    for steps, erased, enrolled in changes:
        for _ in range(steps):
            rotation.step()
        for source in [s for i, s in enumerate(sorted(rotation.old)) if i in erased]:
            rotation.old.remove(source)
        free = [(p, s) for p in range(20) for s in range(7) if all((p, s) != source[:2] for source in rotation.old)]
        for place in free[:enrolled]:
            rotation.old.add((*place, next(fresh)))  # a slot that was erased is filled again by another template
    rotation.to_the_end()
    assert sorted(rotation.holds.values()) == sorted(rotation.old)
    assert rotation.progress().places == {source: place for place, source in rotation.holds.items()}


def test_a_template_that_took_the_slot_of_an_erased_one_is_another_template() -> None:
    progress = Progress()
    progress.fold(1, converted_result([(0, 0, 1), (0, 1, 1)], [(0, 0), (0, 1)]))
    assert progress.next_step([(0, 0, 1), (0, 1, 1)]) == Close()
    assert progress.next_step([(0, 0, 2), (0, 1, 1)]) == Empty(0)
    progress.fold(2, emptied_result(0))
    assert progress.next_step([(0, 0, 2), (0, 1, 1)]) == Convert([(0, 0, 2), (0, 1, 1)])


def test_steps_are_bounded_and_go_on_where_the_last_one_ended() -> None:
    every = sources(2 * STEP_TEMPLATES + 1)
    progress, sizes = Progress(), []
    while isinstance(step := progress.next_step(every), Convert):
        places = [divmod(len(progress.places) + i, SLOTS) for i in range(len(step.sources))]
        progress.fold(progress.sequence + 1, converted_result(step.sources, places))
        sizes.append(len(step.sources))
    assert sizes == [STEP_TEMPLATES, STEP_TEMPLATES, 1]


@pytest.mark.parametrize("count", [0, 3])
def test_results_are_answers_of_mutations_as_well(count: int) -> None:
    chosen = sources(count)
    result = converted_result(chosen, [(0, i) for i in range(count)])
    assert json.loads(result)["templates"] == count
