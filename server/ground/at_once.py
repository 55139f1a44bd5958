"""How much may be under way at once, and how much of it of one name: what is beyond is refused, at once.

For servers that another server sends requests to, of its devices: that one has let them wait, in turns
(matcher/turns.py), and they have begun elsewhere. To let them wait here as well would make both wait for each other. So
there is no queue, and the bound is far above what an honest one sends.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from veilmatch.crypto.errors import OverloadedError

#: Weight of the latest in the average time that one takes.
_LATEST = 0.1
#: Nobody is told to come again sooner, or later.
_SOONEST_S, _LATEST_S = 0.5, 10.0
_NAME_CHARACTERS = 60


class AtOnce:
    """count: the most of all names together; of one name half of them. server: its name, for errors. For one thread."""

    def __init__(self, count: int, server: str, now: Callable[[], float] = time.monotonic) -> None:
        self._count = count
        self._server = server
        self._now = now
        self._under_way: Counter[str] = Counter()
        self._length_s = 0.0

    @property
    def count(self) -> int:
        """How much is under way."""
        return self._under_way.total()

    @property
    def limit(self) -> int:
        """The most of it."""
        return self._count

    @contextmanager
    def one(self, name: str) -> Iterator[None]:
        """Be under way in the block. name: whose it is. Raises OverloadedError if there is too much already."""
        name = name[:_NAME_CHARACTERS]
        own, of_one = self._under_way[name], (self._count + 1) // 2
        if self.count >= self._count:
            raise self._overloaded("asked more than it can do", self.count, self._count)
        if own >= of_one:
            raise self._overloaded("asked for this device more than for others", own, of_one)
        self._under_way[name] += 1
        began = self._now()
        try:
            yield
        finally:
            self._under_way -= Counter({name: 1})
            self._length_s += _LATEST * (self._now() - began - self._length_s)

    def _overloaded(self, what: str, got: int, most: int) -> OverloadedError:
        # By then those that are under way have ended, on average.
        after_s = min(_LATEST_S, max(_SOONEST_S, self._length_s))
        return OverloadedError(
            f"{self._server} is {what}",
            got=f"{got} requests in progress", expected=f"at most {most}", party=self._server,
            retry_after_s=round(after_s, 1),
        )  # fmt: skip
