"""What an organisation's configuration and clock say of how long a template is kept. Pure: no I/O.

Two organisations erase what both say is due, and nothing else. What is not known keeps a template: of one without a
time of enrolment (older clients) neither `max_days` nor a consent can say anything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from veilmatch.crypto.terms import Terms
from veilmatch.server.config import RetentionSettings
from veilmatch.server.matcher.gallery.disk.reading import Detail

DAY_S = 86400
#: consent: it has ended. age: enrolled more than max_days ago. idle: not asked for on any of the last idle_days days.
Reason = Literal["consent", "age", "idle"]
REASONS: tuple[Reason, ...] = get_args(Reason)


@dataclass(frozen=True, slots=True)
class Due:
    """Templates that are due. places: (pack, slot), by reason; each once, under the first reason that holds."""

    places: dict[tuple[int, int], Reason]
    undated: int

    def counts(self) -> dict[str, int]:
        """Return how many there are, by reason."""
        found = Counter(self.places.values())
        return {reason: found[reason] for reason in REASONS}

    def bitmap(self, packs: int, slots: int) -> bytes:
        """Return a bit for every place of a gallery, packed: as long for whoever has the same gallery."""
        bits: NDArray[np.bool_] = np.zeros(packs * slots, dtype=np.bool_)
        for pack, slot in self.places:
            bits[pack * slots + slot] = True
        return np.packbits(bits).tobytes()


def due(templates: Iterable[Detail], rules: RetentionSettings | None, now_s: float) -> Due:
    """Return what is due at a time. rules: of the gallery; None keeps everything.

    undated of the answer: how many templates have no time of enrolment.
    """
    found: dict[tuple[int, int], Reason] = {}
    undated = 0
    for one in templates:
        terms = Terms.decode(one.terms)
        undated += terms is None
        reason = None if rules is None else _reason(one, terms, rules, now_s)
        if reason is not None:
            found[one.pack, one.slot] = reason
    return Due(found, undated)


def in_both(mine: bytes, theirs: bytes, slots: int) -> list[tuple[int, int]]:
    """Return the places, ascending, that two bitmaps of one size have."""
    both = np.unpackbits(np.frombuffer(mine, np.uint8) & np.frombuffer(theirs, np.uint8))
    return [divmod(place, slots) for place in np.flatnonzero(both).tolist()]


def _reason(one: Detail, terms: Terms | None, rules: RetentionSettings, now_s: float) -> Reason | None:
    if terms is not None and terms.consent is not None and terms.consent.has_ended(now_s):
        return "consent"
    if terms is not None and rules.max_days and now_s - terms.enrolled_s >= rules.max_days * DAY_S:
        return "age"
    # The day itself counts whole: it is not known when in it.
    if rules.idle_days and int(now_s // DAY_S) - one.asked_day > rules.idle_days:
        return "idle"
    return None
