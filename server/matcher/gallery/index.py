"""Which subject occupies which slot of one gallery. In memory, public to all matchers, no I/O.

Built from `store.Store.templates` at start-up and changed when a mutation is committed. Both
matchers allocate with the same rule on the same content, so they choose the same slots.

Slots are numbered through all packs, place = pack * slots + slot. What a change or a question about one subject takes
does not grow with its templates: where a subject is says a hash table (subject_places.py), where there is room a
number for each pack (a million templates have 9,010 of them), and both are kept up to date. Names are in one array, 16
bytes each (numpy keeps short strings in the array itself; Python strings in a dictionary were ten times as large).
What is about all slots, `asked`, `subjects`, `labels` and `places`, copies or reads arrays of a million: ask for it in
a thread.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from veilmatch.crypto.errors import IntegrityError, UnknownSubjectError
from veilmatch.server.matcher.gallery.subject_places import SubjectPlaces

_FREE = ""


class Asked(NamedTuple):
    """What a query compares: numbers of packs, ascending, and which of their slots, bool[len(packs), slots]."""

    packs: list[int]
    wanted: NDArray[np.bool_]


class SlotIndex:
    """The occupied slots of packs 0 .. pack_count - 1, each of `slots` slots.

    pack_count: packs that exist although no template of theirs is listed (all their slots are free).
    A pack never goes away: erasing its last template leaves it with free slots only.
    """

    def __init__(self, slots: int, pack_count: int = 0) -> None:
        if slots < 1 or pack_count < 0:
            raise IntegrityError("an index without slots", got=(slots, pack_count))
        self.slots = slots
        self.pack_count = pack_count  # number of packs, those with free slots only included
        # The subject of every place, whether there is one, and for each pack how many more fit: with room for packs
        # to come.
        self._room: NDArray[Any] = np.empty(pack_count * slots, dtype=np.dtypes.StringDType())
        self._taken = np.zeros(pack_count * slots, dtype=np.bool_)
        self._vacant = np.full(pack_count, slots, dtype=np.int32)
        self._count = 0
        self._retired: set[int] = set()
        self._places = SubjectPlaces(lambda place: str(self._room[place]))

    @classmethod
    def load(
        cls,
        slots: int,
        pack_count: int,
        templates: Iterable[tuple[int, int, str]],
        retired: Iterable[tuple[int, int]] = (),
    ) -> SlotIndex:
        """Return the index of a gallery of `pack_count` packs that holds these (pack, slot, subject).

        retired: slots that were given up. Raises IntegrityError if a slot is out of range or listed twice.
        """
        index = cls(slots, pack_count)
        index._fill(templates)
        for pack, slot in retired:
            index.retire(pack, slot)
        return index

    def _fill(self, templates: Iterable[tuple[int, int, str]]) -> None:
        """Add many templates at once, in an index without any; as `add` does."""
        subjects: list[str] = []
        numbers = array("q")
        for pack, slot, subject in templates:
            if not 0 <= pack < self.pack_count or not 0 <= slot < self.slots or not subject:
                raise IntegrityError("a template in no slot, or of nobody", got=(pack, slot), expected=self.pack_count)
            numbers.append(pack * self.slots + slot)
            subjects.append(subject)
        if not subjects:
            return
        places = np.array(numbers, dtype=np.int64)
        self._room[places], self._taken[places] = np.array(subjects, dtype=self._room.dtype), True
        self._count = int(np.count_nonzero(self._taken))
        if self._count != len(places):
            raise IntegrityError("a slot is occupied already", got=self._count, expected=len(places))
        self._vacant -= np.count_nonzero(self._taken.reshape(-1, self.slots), axis=1).astype(np.int32)
        self._places.fill(subjects, places)

    def __len__(self) -> int:
        """Number of occupied slots."""
        return self._count

    # -- where the next templates go --------------------------------------------------------

    def allocate(self, count: int) -> list[tuple[int, int]]:
        """Return the `count` lowest free (pack, slot), ascending, new packs following the last one.

        Reserves nothing: the same call returns the same until `add`.
        """
        places: list[int] = []
        for pack in np.flatnonzero(self._vacant[: self.pack_count]):
            if len(places) >= count:
                break
            places += self._vacant_places(int(pack))
        end = self.pack_count * self.slots
        places = [*places[:count], *range(end, end + count - len(places))]
        return [divmod(place, self.slots) for place in places]

    def allocate_packs(self, count: int) -> list[int]:
        """Return the numbers of `count` new packs after the last one, for bulk enrolment; reserve nothing."""
        return list(range(self.pack_count, self.pack_count + count))

    # -- changes ----------------------------------------------------------------------------

    def add(self, subject: str, pack: int, slot: int) -> None:
        """Let a template of `subject` occupy a free slot; `pack` may be the next new one.

        Raises IntegrityError, and changes nothing, if the slot is occupied or out of range.
        """
        if not 0 <= pack <= self.pack_count or not 0 <= slot < self.slots:
            raise IntegrityError("a slot out of range", got=(pack, slot), expected=(self.pack_count, self.slots))
        if not subject:
            raise IntegrityError("a template without a subject", got=(pack, slot))
        place = pack * self.slots + slot
        if place in self._retired:
            raise IntegrityError("a slot was given up", got=(pack, slot))
        if pack == self.pack_count:
            self._append_pack()
        elif self._taken[place]:
            raise IntegrityError("a slot is occupied already", got=(pack, slot))
        self._room[place], self._taken[place] = subject, True
        self._vacant[pack] -= 1
        self._count += 1
        self._places.add(subject, place)

    def remove(self, pack: int, slot: int) -> str:
        """Free a slot and return the subject it held. Raises IntegrityError if it is not occupied."""
        place = pack * self.slots + slot
        if not 0 <= pack < self.pack_count or not 0 <= slot < self.slots or not self._taken[place]:
            raise IntegrityError("a slot is not occupied", got=(pack, slot))
        subject = str(self._room[place])
        self._places.remove(subject, place)
        self._room[place], self._taken[place] = _FREE, False
        self._vacant[pack] += 1
        self._count -= 1
        return subject

    def retire(self, pack: int, slot: int) -> None:
        """Give a free slot up: its column stays in the pack, and no template goes there again.

        Raises IntegrityError if it is occupied or out of range.
        """
        if not 0 <= pack < self.pack_count or not 0 <= slot < self.slots:
            raise IntegrityError("a slot out of range", got=(pack, slot), expected=(self.pack_count, self.slots))
        place = pack * self.slots + slot
        if self._taken[place]:
            raise IntegrityError("a slot is occupied", got=(pack, slot))
        if place not in self._retired:
            self._retired.add(place)
            self._vacant[pack] -= 1

    # -- questions --------------------------------------------------------------------------

    def slots_of(self, subject: str) -> list[tuple[int, int]]:
        """Return the (pack, slot) of every template of `subject`, ascending; empty if there is none."""
        places = self._places.of(subject) if subject else []
        return [divmod(place, self.slots) for place in places]

    def require(self, subject: str) -> list[tuple[int, int]]:
        """Return `slots_of(subject)`. Raises UnknownSubjectError if there is none."""
        places = self.slots_of(subject)
        if not places:
            raise UnknownSubjectError("the gallery has no such subject")
        return places

    def subjects(self) -> list[tuple[str, int]]:
        """Return every subject with the number of its templates, sorted by subject."""
        found, counts = np.unique(self._subjects[self._occupied], return_counts=True)
        return list(zip(found.tolist(), counts.tolist(), strict=True))

    def subject(self, pack: int, slot: int) -> str:
        """Return the subject of an occupied slot. Raises IntegrityError if it is free."""
        label = str(self._room[pack * self.slots + slot])
        if label == _FREE:
            raise IntegrityError("a slot is not occupied", got=(pack, slot))
        return label

    def occupied(self) -> NDArray[np.bool_]:
        """Return a new array bool[pack_count, slots]: which slots hold a template."""
        return self._occupied.reshape(-1, self.slots).copy()

    def occupied_in(self, pack: int) -> list[int]:
        """Return the slots of one pack that hold a template, ascending."""
        start = pack * self.slots
        found: list[int] = np.flatnonzero(self._taken[start : start + self.slots]).tolist()
        return found

    def asked(self, without: Iterable[tuple[int, int]] = ()) -> Asked:
        """Return what a search compares: every template, without those at these (pack, slot)."""
        occupied = self._occupied.reshape(-1, self.slots)
        left_out = list(without)
        if left_out:
            occupied = occupied.copy()
            occupied[tuple(np.transpose(left_out))] = False
        packs = np.flatnonzero(occupied.any(axis=1))
        return Asked(packs.tolist(), occupied[packs])

    def labels(self) -> Iterator[str]:
        """Yield the subject of every occupied slot, ascending by (pack, slot), from the index as it is now."""
        return (subject for subject in self._subjects[self._occupied])

    def places(self) -> NDArray[Any]:
        """Return a new array of the subject of every place, "" where there is none."""
        return self._subjects.copy()

    def at(self, places: Iterable[tuple[int, int]]) -> list[tuple[int, str]]:
        """Return (place, subject) of these (pack, slot), "" where there is none now."""
        numbers = [pack * self.slots + slot for pack, slot in places]
        return [(place, str(self._room[place])) for place in numbers]

    @property
    def _subjects(self) -> NDArray[Any]:
        return self._room[: self.pack_count * self.slots]

    @property
    def _occupied(self) -> NDArray[np.bool_]:
        return self._taken[: self.pack_count * self.slots]

    def _vacant_places(self, pack: int) -> list[int]:
        start = pack * self.slots
        free = np.flatnonzero(~self._taken[start : start + self.slots])
        return [place for place in (start + free).tolist() if place not in self._retired]

    def _append_pack(self) -> None:
        self.pack_count += 1
        if len(self._vacant) < self.pack_count:
            # An eighth more than is needed, so that a bulk enrolment does not copy everything for every pack.
            packs = self.pack_count + self.pack_count // 8
            room, self._room = self._room, np.empty(packs * self.slots, dtype=self._room.dtype)
            taken, self._taken = self._taken, np.zeros(packs * self.slots, dtype=np.bool_)
            vacant, self._vacant = self._vacant, np.full(packs, self.slots, dtype=np.int32)
            self._room[: len(room)], self._taken[: len(taken)], self._vacant[: len(vacant)] = room, taken, vacant
