"""How long the event loop of this process has stood still: by the machine's load, or by what does not let go of it.

Whoever waits for another server counts with a clock that goes on meanwhile. An answer that came long ago looks late
then, and the other one would be blamed for the load here. So time in which this loop did nothing is not counted against
anybody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

#: How often it is looked at; and what a look may come late without being a stall.
_EVERY_S, _USUAL_S = 0.25, 0.05


class Stalls:
    """Of the loop that `watch` runs in. Before that, and without it, nothing has stood still."""

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        """clock: in seconds, for tests; None is that of the loop."""
        self._clock = clock
        self._total_s = 0.0
        #: When the next look is due.
        self._due_s: float | None = None

    def total_s(self) -> float:
        """Return for how long it has stood still in all, the stall included that whoever asks has just come out of."""
        if self._due_s is None:
            return self._total_s
        late_s = self._now() - self._due_s
        return self._total_s + (late_s if late_s > _USUAL_S else 0.0)

    async def watch(self) -> None:
        """Look again and again. Never ends."""
        while True:
            self._due_s = self._now() + _EVERY_S
            await asyncio.sleep(_EVERY_S)
            self._total_s = self.total_s()

    def _now(self) -> float:
        return asyncio.get_running_loop().time() if self._clock is None else self._clock()
