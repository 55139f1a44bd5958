"""Holding a gallery alone with another organisation: in turn with the others, and not again soon for who was late.

    async with lending.turn("b"):
        async with gallery.lock.exclusive():
            if not lending.refused_s("b"):
                ...                            # a sitting
                lending.was_late("b", late_s)

While a gallery is held alone nobody else has it, and an organisation that answers nothing, or late, holds it as long as
it is waited for. One that does so on purpose must not keep the other two from their gallery, whatever devices ask its
pairs. So the sittings with one organisation wait for each other, and one of them at a time for the gallery: an honest
organisation has its turn after one sitting with a liar. And who was late is not sat with again for _TIMES as long,
while the third organisation is there to go on with: alone, a slow one is better than none. Once in such a time that is
excused, as everybody has a disk that hangs now and then: whoever is late on purpose, once in each, gains no more.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from veilmatch.crypto.keys.parties import Party

#: Who was late by a second is not sat with for so many.
_TIMES = 10.0
#: Whoever was sat with in this time is there.
_THERE_S = 60.0


class Lending:
    """Of one gallery. now: a clock that does not go back, in seconds."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._turns = defaultdict[Party, asyncio.Lock](asyncio.Lock)
        self._until_s: dict[Party, float] = {}
        #: Until when nothing more is excused.
        self._excused_s: dict[Party, float] = {}
        self._met_s: dict[Party, float] = {}

    def turn(self, party: Party) -> AbstractAsyncContextManager[None]:
        """Wait for the other sittings with this organisation, and keep the later ones waiting."""
        return self._turns[party]

    def met(self, party: Party) -> None:
        """Note that it is there."""
        self._met_s[party] = self._now()

    def was_late(self, party: Party, late_s: float) -> None:
        """Note for how long a gallery was held for this organisation alone, beyond what that takes."""
        if not late_s:
            return
        now = self._now()
        counts = self._until_s if now < self._excused_s.get(party, now) else self._excused_s
        counts[party] = max(now, counts.get(party, now)) + _TIMES * late_s

    def refused_s(self, party: Party) -> float:
        """Return for how long it is not sat with, 0 if it is: nobody else is there, or it was not late."""
        now = self._now()
        is_alone = all(now - met_s > _THERE_S for other, met_s in self._met_s.items() if other != party)
        return 0.0 if is_alone else max(0.0, self._until_s.get(party, now) - now)
