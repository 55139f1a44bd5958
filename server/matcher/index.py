"""Which subject occupies which slot of one gallery. In memory, public to both matchers, no I/O.

Built from `store.Store.templates` at start-up and changed when a mutation is committed. Both
matchers allocate with the same rule on the same content, so they choose the same slots.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from veilmatch.crypto.errors import IntegrityError, UnknownSubjectError


class SlotIndex:
    """The occupied slots of packs 0 .. pack_count - 1, each of `slots` slots.

    pack_count: packs that exist although no template of theirs is listed (all their slots are free).
    A pack never goes away: erasing its last template leaves it with free slots only.
    """

    def __init__(self, slots: int, pack_count: int = 0) -> None:
        if slots < 1 or pack_count < 0:
            raise IntegrityError("an index without slots", got=(slots, pack_count))
        self.slots = slots
        self._rows: list[list[str | None]] = [[None] * slots for _ in range(pack_count)]
        self._by_subject: dict[str, set[tuple[int, int]]] = {}

    @classmethod
    def load(cls, slots: int, pack_count: int, templates: Iterable[tuple[int, int, str]]) -> SlotIndex:
        """Return the index of a gallery of `pack_count` packs that holds these (pack, slot, subject).

        Raises IntegrityError if a slot is out of range or listed twice.
        """
        index = cls(slots, pack_count)
        for pack, slot, subject in templates:
            if pack >= pack_count:
                raise IntegrityError("a template in a pack that does not exist", got=pack, expected=f"< {pack_count}")
            index.add(subject, pack, slot)
        return index

    @property
    def pack_count(self) -> int:
        """Number of packs, those with free slots only included."""
        return len(self._rows)

    def __len__(self) -> int:
        """Number of occupied slots."""
        return sum(map(len, self._by_subject.values()))

    # -- where the next templates go --------------------------------------------------------

    def allocate(self, count: int) -> list[tuple[int, int]]:
        """Return the `count` lowest free (pack, slot), ascending, new packs following the last one.

        Reserves nothing: the same call returns the same until `add`.
        """
        free = (
            (pack, slot) for pack, row in enumerate(self._rows) for slot, subject in enumerate(row) if subject is None
        )
        places = list(islice(free, count))
        missing = count - len(places)
        return places + [divmod(self.pack_count * self.slots + i, self.slots) for i in range(missing)]

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
        if pack < self.pack_count and self._rows[pack][slot] is not None:
            raise IntegrityError("a slot is occupied already", got=(pack, slot))
        if pack == self.pack_count:
            self._rows.append([None] * self.slots)
        self._rows[pack][slot] = subject
        self._by_subject.setdefault(subject, set()).add((pack, slot))

    def remove(self, pack: int, slot: int) -> str:
        """Free a slot and return the subject it held. Raises IntegrityError if it is not occupied."""
        in_range = 0 <= pack < self.pack_count and 0 <= slot < self.slots
        subject = self._rows[pack][slot] if in_range else None
        if subject is None:
            raise IntegrityError("a slot is not occupied", got=(pack, slot))
        self._rows[pack][slot] = None
        places = self._by_subject[subject]
        places.remove((pack, slot))
        if not places:
            del self._by_subject[subject]
        return subject

    # -- questions --------------------------------------------------------------------------

    def slots_of(self, subject: str) -> list[tuple[int, int]]:
        """Return the (pack, slot) of every template of `subject`, ascending; empty if there is none."""
        return sorted(self._by_subject.get(subject, ()))

    def require(self, subject: str) -> list[tuple[int, int]]:
        """Return `slots_of(subject)`. Raises UnknownSubjectError if there is none."""
        places = self.slots_of(subject)
        if not places:
            raise UnknownSubjectError("the gallery has no such subject")
        return places

    def subjects(self) -> list[tuple[str, int]]:
        """Return every subject with the number of its templates, sorted by subject."""
        return sorted((subject, len(places)) for subject, places in self._by_subject.items())

    def occupancy(self, pack: int) -> NDArray[np.bool_]:
        """Return a new array of bool, shape (slots,): which slots of `pack` hold a template.

        Raises IntegrityError if there is no such pack.
        """
        if not 0 <= pack < self.pack_count:
            raise IntegrityError("a pack out of range", got=pack, expected=f"< {self.pack_count}")
        return np.array([subject is not None for subject in self._rows[pack]], dtype=np.bool_)

    def labels(self) -> list[str | None]:
        """Return the subject of every slot, None for a free one; (pack, slot) is at pack * slots + slot."""
        return [subject for row in self._rows for subject in row]
