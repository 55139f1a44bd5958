"""Places to wait in, of a bounded number: whoever comes to a full house pushes out whoever has most there.

What waits costs memory, so the number is bounded. Were newcomers refused when all places are taken, those who hold them
would close the server for everybody else; so a newcomer always gets one, and the oldest place of whoever has most is
given up for it. One who holds few, for a short time, is not pushed out while anybody holds more; where all hold the
same, it takes as many newcomers as there are places.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager, suppress

from veilmatch.crypto.errors import OverloadedError

#: When whoever was pushed out may come again.
_AGAIN_S = 1.0


class _Place:
    """One that is held. `ends`: its time-out, by which it can be taken away."""

    def __init__(self, name: Hashable, within_s: float | None) -> None:
        self.name = name
        self.ends = asyncio.timeout(within_s)
        self.is_pushed_out = False


class Places:
    """count: of all holders together, at least 1. server: its name, for errors. For one event loop."""

    def __init__(self, count: int, server: str) -> None:
        self._count = count
        self._server = server
        #: In the order in which they were taken.
        self._held: dict[_Place, None] = {}

    @asynccontextmanager
    async def place(self, name: Hashable, within_s: float | None = None) -> AsyncIterator[None]:
        """Hold a place of `name` for the body. within_s: the longest; None is without end.

        Raises OverloadedError in the body if somebody else needs the place, TimeoutError if it takes too long.
        """
        if len(self._held) >= self._count:
            self._push_out(name)
        place = _Place(name, within_s)
        self._held[place] = None
        try:
            async with place.ends:
                yield
        except TimeoutError:
            if place.is_pushed_out:
                raise self._overloaded() from None
            raise
        finally:
            self._held.pop(place, None)

    def _push_out(self, newcomer: Hashable) -> None:
        counts = Counter(place.name for place in self._held)
        counts[newcomer] += 1
        most = max(counts.values())
        # The newcomer may be the one that has most, but with its first place it has none to give up.
        oldest = next((place for place in self._held if counts[place.name] == most), next(iter(self._held)))
        del self._held[oldest]
        oldest.is_pushed_out = True
        with suppress(RuntimeError):  # its time is over anyway
            oldest.ends.reschedule(asyncio.get_running_loop().time())

    def _overloaded(self) -> OverloadedError:
        return OverloadedError(
            f"{self._server} is asked by others too, and had no place left for this request",
            got=f"more than {self._count} requests that wait or are not complete",
            expected=f"at most {self._count}",
            party=self._server,
            retry_after_s=_AGAIN_S,
        )
