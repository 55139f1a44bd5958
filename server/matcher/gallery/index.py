"""Which subject occupies which slot of one gallery. In memory, public to all matchers, no I/O.

Built from `store.Store.templates` at start-up and changed when a mutation is committed. Both
matchers allocate with the same rule on the same content, so they choose the same slots.

Slots are numbered through all packs, place = pack * slots + slot. There is one array, the subject of
every place, and every question reads all of it: 0.8 ms for a hundred thousand places, 16 bytes each
(numpy keeps short strings in the array itself). Python strings in a dict were ten times as large.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from veilmatch.crypto.errors import IntegrityError, UnknownSubjectError

_FREE = ""


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
        # The subject of every place, and room for packs to come.
        self._room: NDArray[Any] = np.empty(pack_count * slots, dtype=np.dtypes.StringDType())
        self._retired: set[int] = set()

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

    def __len__(self) -> int:
        """Number of occupied slots."""
        return int(np.count_nonzero(self._occupied))

    # -- where the next templates go --------------------------------------------------------

    def allocate(self, count: int) -> list[tuple[int, int]]:
        """Return the `count` lowest free (pack, slot), ascending, new packs following the last one.

        Reserves nothing: the same call returns the same until `add`.
        """
        free = ~self._occupied
        free[list(self._retired)] = False
        places = np.flatnonzero(free)[:count].tolist()
        end = self.pack_count * self.slots
        places += range(end, end + count - len(places))
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
        elif self._room[place] != _FREE:
            raise IntegrityError("a slot is occupied already", got=(pack, slot))
        self._room[place] = subject

    def remove(self, pack: int, slot: int) -> str:
        """Free a slot and return the subject it held. Raises IntegrityError if it is not occupied."""
        place = pack * self.slots + slot
        in_range = 0 <= pack < self.pack_count and 0 <= slot < self.slots
        subject = str(self._room[place]) if in_range else _FREE
        if subject == _FREE:
            raise IntegrityError("a slot is not occupied", got=(pack, slot))
        self._room[place] = _FREE
        return subject

    def retire(self, pack: int, slot: int) -> None:
        """Give a free slot up: its column stays in the pack, and no template goes there again.

        Raises IntegrityError if it is occupied or out of range.
        """
        if not 0 <= pack < self.pack_count or not 0 <= slot < self.slots:
            raise IntegrityError("a slot out of range", got=(pack, slot), expected=(self.pack_count, self.slots))
        place = pack * self.slots + slot
        if self._room[place] != _FREE:
            raise IntegrityError("a slot is occupied", got=(pack, slot))
        self._retired.add(place)

    # -- questions --------------------------------------------------------------------------

    def slots_of(self, subject: str) -> list[tuple[int, int]]:
        """Return the (pack, slot) of every template of `subject`, ascending; empty if there is none."""
        places = np.flatnonzero(self._subjects == subject).tolist() if subject else []
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
        return self._occupied.reshape(-1, self.slots)

    def occupied_by(self, subject: str) -> NDArray[np.bool_]:
        """Return a new array bool[pack_count, slots]: which slots hold a template of `subject`.

        Raises UnknownSubjectError if there is none.
        """
        found = np.zeros((self.pack_count, self.slots), dtype=np.bool_)
        for pack, slot in self.require(subject):
            found[pack, slot] = True
        return found

    def labels(self) -> Iterator[str]:
        """Yield the subject of every occupied slot, ascending by (pack, slot), from the index as it is now."""
        return (subject for subject in self._subjects[self._occupied])

    @property
    def _subjects(self) -> NDArray[Any]:
        return self._room[: self.pack_count * self.slots]

    @property
    def _occupied(self) -> NDArray[np.bool_]:
        return np.asarray(self._subjects != _FREE)

    def _append_pack(self) -> None:
        self.pack_count += 1
        if len(self._room) < self.pack_count * self.slots:
            # An eighth more than is needed, so that a bulk enrolment does not copy everything for every pack.
            room = self._room
            self._room = np.empty((self.pack_count + self.pack_count // 8) * self.slots, dtype=room.dtype)
            self._room[: len(room)] = room
