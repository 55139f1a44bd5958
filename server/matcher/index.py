"""Which subject occupies which slot of one gallery. In memory, public to both matchers, no I/O.

Built from `store.Store.templates` at start-up and changed when a mutation is committed. Both
matchers allocate with the same rule on the same content, so they choose the same slots.

Slots are numbered through all packs, place = pack * slots + slot. The places of a subject are
chained: one number a subject and one a slot, for galleries of a hundred thousand.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from itertools import islice, pairwise

import numpy as np
from numpy.typing import NDArray

from veilmatch.crypto.errors import IntegrityError, UnknownSubjectError

_END = -1


class SlotIndex:
    """The occupied slots of packs 0 .. pack_count - 1, each of `slots` slots.

    pack_count: packs that exist although no template of theirs is listed (all their slots are free).
    A pack never goes away: erasing its last template leaves it with free slots only.
    """

    def __init__(self, slots: int, pack_count: int = 0) -> None:
        if slots < 1 or pack_count < 0:
            raise IntegrityError("an index without slots", got=(slots, pack_count))
        self.slots = slots
        self._labels: list[str | None] = []
        self._next = array("q")  # the place of the subject's next template
        self._occupied = bytearray()
        self._first: dict[str, int] = {}
        self._retired: set[int] = set()
        self._count = 0
        for _ in range(pack_count):
            self._append_pack()

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
        for pack, slot, subject in templates:
            if pack >= pack_count:
                raise IntegrityError("a template in a pack that does not exist", got=pack, expected=f"< {pack_count}")
            index.add(subject, pack, slot)
        for pack, slot in retired:
            index.retire(pack, slot)
        return index

    @property
    def pack_count(self) -> int:
        """Number of packs, those with free slots only included."""
        return len(self._labels) // self.slots

    def __len__(self) -> int:
        """Number of occupied slots."""
        return self._count

    # -- where the next templates go --------------------------------------------------------

    def allocate(self, count: int) -> list[tuple[int, int]]:
        """Return the `count` lowest free (pack, slot), ascending, new packs following the last one.

        Reserves nothing: the same call returns the same until `add`.
        """
        free = (p for p, label in enumerate(self._labels) if label is None and p not in self._retired)
        places = list(islice(free, count))
        missing = count - len(places)
        places += range(len(self._labels), len(self._labels) + missing)
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
        if pack < self.pack_count and self._labels[place] is not None:
            raise IntegrityError("a slot is occupied already", got=(pack, slot))
        if place in self._retired:
            raise IntegrityError("a slot was given up", got=(pack, slot))
        if pack == self.pack_count:
            self._append_pack()
        self._labels[place], self._occupied[place] = subject, 1
        self._next[place], self._first[subject] = self._first.get(subject, _END), place
        self._count += 1

    def remove(self, pack: int, slot: int) -> str:
        """Free a slot and return the subject it held. Raises IntegrityError if it is not occupied."""
        place = pack * self.slots + slot
        in_range = 0 <= pack < self.pack_count and 0 <= slot < self.slots
        subject = self._labels[place] if in_range else None
        if subject is None:
            raise IntegrityError("a slot is not occupied", got=(pack, slot))
        self._labels[place], self._occupied[place] = None, 0
        rest = [other for other in self._places_of(subject) if other != place]
        for other, following in pairwise([*rest, _END]):
            self._next[other] = following
        if rest:
            self._first[subject] = rest[0]
        else:
            del self._first[subject]
        self._count -= 1
        return subject

    def retire(self, pack: int, slot: int) -> None:
        """Give a free slot up: its column stays in the pack, and no template goes there again.

        Raises IntegrityError if it is occupied or out of range.
        """
        if not 0 <= pack < self.pack_count or not 0 <= slot < self.slots:
            raise IntegrityError("a slot out of range", got=(pack, slot), expected=(self.pack_count, self.slots))
        place = pack * self.slots + slot
        if self._labels[place] is not None:
            raise IntegrityError("a slot is occupied", got=(pack, slot))
        self._retired.add(place)

    # -- questions --------------------------------------------------------------------------

    def slots_of(self, subject: str) -> list[tuple[int, int]]:
        """Return the (pack, slot) of every template of `subject`, ascending; empty if there is none."""
        return [divmod(place, self.slots) for place in sorted(self._places_of(subject))]

    def require(self, subject: str) -> list[tuple[int, int]]:
        """Return `slots_of(subject)`. Raises UnknownSubjectError if there is none."""
        places = self.slots_of(subject)
        if not places:
            raise UnknownSubjectError("the gallery has no such subject")
        return places

    def subjects(self) -> list[tuple[str, int]]:
        """Return every subject with the number of its templates, sorted by subject."""
        return sorted((subject, sum(1 for _ in self._places_of(subject))) for subject in self._first)

    def subject(self, pack: int, slot: int) -> str:
        """Return the subject of an occupied slot. Raises IntegrityError if it is free."""
        label = self._labels[pack * self.slots + slot]
        if label is None:
            raise IntegrityError("a slot is not occupied", got=(pack, slot))
        return label

    def occupied(self) -> NDArray[np.bool_]:
        """Return a new array bool[pack_count, slots]: which slots hold a template."""
        return np.frombuffer(self._occupied, dtype=np.bool_).reshape(-1, self.slots).copy()

    def occupied_by(self, subject: str) -> NDArray[np.bool_]:
        """Return a new array bool[pack_count, slots]: which slots hold a template of `subject`.

        Raises UnknownSubjectError if there is none.
        """
        found = np.zeros((self.pack_count, self.slots), dtype=np.bool_)
        for pack, slot in self.require(subject):
            found[pack, slot] = True
        return found

    def labels(self) -> list[str | None]:
        """Return the subject of every slot, None for a free one; (pack, slot) is at pack * slots + slot."""
        return list(self._labels)

    def _places_of(self, subject: str) -> Iterator[int]:
        place = self._first.get(subject, _END)
        while place != _END:
            yield place
            place = self._next[place]

    def _append_pack(self) -> None:
        self._labels.extend([None] * self.slots)
        self._next.extend([_END] * self.slots)
        self._occupied.extend(bytes(self.slots))
