"""Turns: how many requests are served at once, who waits, who goes next, and who is told to come later.

Without a bound a server that is asked more than it can do finishes nothing in time: all requests go on side by side
and all of them too late. So the matcher that leads takes a few at once, lets a few more wait for a short time, and
refuses the rest at once with an `OverloadedError` that says when to come again. Its other pairs are as busy, so that
is no reason to try one. The matcher that follows lets the leader choose: were both to choose, they would choose
differently and wait for each other.

A turn is for work: whoever has one waits for servers alone, and keeps it until the work is over, whatever its device
does meanwhile. What waits for its device, to bring the request to the other matcher too, waits before (entrance.py).

What is refused has to cost little, or a server that is asked ten times what it can do does nothing but refuse. So a
request is refused as it comes if its turn is not going to come in time: by those before it, what comes before them in
fair turns, and how long turns take. It counts from then on, while the other matcher is met about it (`coming`).

Fair: whoever has least in progress goes next, and of those whoever has waited longest since a turn. A device that asks
sixteen times at once holds others up until one of its requests in progress ends, and not until all have. Whoever comes
when all places to wait are taken gets one of the device that has most, if that has two more than itself.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from veilmatch.crypto.errors import OverloadedError

#: Weight of the latest request in the average length of one.
_LATEST = 0.1
#: Nobody is told to come again sooner.
_SOONEST_S = 0.5


class Turns:
    """at_once: requests in progress. waiting: most that wait, of all devices. One device has half of all these places
    at most, and of those in progress all only while nobody else waits.

    wait_s: how long a request waits for its turn. server: its name, for errors. For one event loop.
    """

    def __init__(
        self, at_once: int, waiting: int, wait_s: float, server: str, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._at_once = at_once
        self._waiting = waiting
        self._wait_s = wait_s
        self._server = server
        self._now = now
        self._in_progress: Counter[str] = Counter()
        #: Devices that wait, longest since a turn first, and their requests in order.
        self._queues: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        #: Requests of each device that are on their way to wait.
        self._coming: Counter[str] = Counter()
        #: Seconds that one request takes, on average.
        self._length_s = wait_s / max(1, at_once)

    @asynccontextmanager
    async def turn(self, device: str) -> AsyncIterator[None]:
        """Hold a turn. device: whose request it is. Raises OverloadedError if there is none in time."""
        await self._get(device)
        began = self._now()
        try:
            yield
        finally:
            self._length_s += _LATEST * (self._now() - began - self._length_s)
            self._give_back(device)

    @contextmanager
    def coming(self, device: str) -> Iterator[None]:
        """Count a request of this device in the block, after which it asks for its turn.

        Raises OverloadedError if it would be told to come later: there is no room, or its turn would come too late.
        """
        self._require_room(device)
        if not self._is_free() and self._expected_s(device) > self._wait_s:
            raise self._too_long("is not going to come")
        self._coming[device] += 1
        try:
            yield
        finally:
            self._coming -= Counter({device: 1})

    def _expected_s(self, device: str) -> float:
        """Return when the turn of another request of this device is going to come. No less than a round is waited."""
        own = self._on_the_way(device)
        others = (self._on_the_way(other) for other in self._queues.keys() | self._coming.keys() if other != device)
        # In fair turns: of each of the others as many as this device has come with, this one included.
        ahead = own + sum(min(count, own + 1) for count in others)
        return 0.0 if ahead < self._at_once else (ahead + 1) * self._length_s / self._at_once

    def _on_the_way(self, device: str) -> int:
        return len(self._queues.get(device, ())) + self._coming[device]

    def _require_room(self, device: str) -> None:
        """Raise OverloadedError if there is no place for a request of this device."""
        queued = sum(map(len, self._queues.values()))
        own = self._in_progress[device] + self._on_the_way(device)
        if own >= self._of_one_device:
            raise self._too_many_of_one(own)
        if not self._is_free() and queued >= self._waiting and self._pushed_out_by(device) is None:
            raise self._full()

    async def _get(self, device: str) -> None:
        self._require_room(device)
        if self._is_free():
            self._in_progress[device] += 1
            return
        if sum(map(len, self._queues.values())) >= self._waiting:
            self._push_out(device)
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queues.setdefault(device, deque()).append(mine)
        try:
            async with asyncio.timeout(self._wait_s):
                await mine
        except BaseException as error:
            if mine.done() and not mine.cancelled() and mine.exception() is None:
                self._give_back(device)  # it came in the moment in which the wait ended
            else:
                self._leave(device, mine)
            if isinstance(error, TimeoutError):
                raise self._too_long("did not come") from None
            raise

    @property
    def counts(self) -> tuple[int, int]:
        """How many requests have their turn, and how many wait."""
        return self._in_progress.total(), sum(map(len, self._queues.values()))

    @property
    def limits(self) -> tuple[int, int]:
        """The most of them."""
        return self._at_once, self._waiting

    def _is_free(self) -> bool:
        return not self._queues and self._in_progress.total() < self._at_once

    def _pushed_out_by(self, device: str) -> str | None:
        """Return whose request makes room for one of this device, if anybody's does."""
        most = max(self._queues, key=lambda one: len(self._queues[one]), default=None)
        if most is None or len(self._queues[most]) < len(self._queues.get(device, ())) + 2:
            return None
        return most

    def _push_out(self, device: str) -> None:
        most = self._pushed_out_by(device)
        if most is not None:
            latest = self._queues[most].pop()
            if not latest.done():
                latest.set_exception(self._pushed())

    def _give_back(self, device: str) -> None:
        self._in_progress -= Counter({device: 1})
        while self._queues and self._in_progress.total() < self._at_once:
            # The first of several least ones: the order of the dictionary is that of the last turns.
            following = min(self._queues, key=lambda one: self._in_progress[one])
            queue = self._queues[following]
            first = queue.popleft()
            if not first.done():  # else its request has just left
                self._in_progress[following] += 1
                first.set_result(None)
            if queue:
                self._queues.move_to_end(following)
            else:
                del self._queues[following]

    def _leave(self, device: str, mine: asyncio.Future[None]) -> None:
        queue = self._queues.get(device)
        if queue is not None and mine in queue:
            queue.remove(mine)
            if not queue:
                del self._queues[device]

    @property
    def _of_one_device(self) -> int:
        return (self._at_once + self._waiting + 1) // 2

    def _overloaded(self, what: str, got: str, expected: str) -> OverloadedError:
        queued = sum(map(len, self._queues.values()))
        after_s = max(_SOONEST_S, self._wait_s / 2, (queued + 1) * self._length_s / self._at_once)
        return OverloadedError(
            f"{self._server} is asked more than it can do: {what}",
            got=got,
            expected=expected,
            party=self._server,
            retry_after_s=round(after_s, 1),
        )

    def _too_many_of_one(self, own: int) -> OverloadedError:
        most = f"at most {self._of_one_device} requests of one device"
        return self._overloaded("this device has too many requests there", f"{own} of this device", most)

    def _full(self) -> OverloadedError:
        return self._overloaded("all places to wait are taken", self._load(), f"at most {self._waiting} that wait")

    def _pushed(self) -> OverloadedError:
        what = "a device with fewer requests there took the place of this one"
        return self._overloaded(what, self._load(), f"at most {self._waiting} that wait")

    def _too_long(self, has: str) -> OverloadedError:
        what = f"the turn of the request {has} in time"
        return self._overloaded(what, self._load(), f"a turn within {self._wait_s:g} s")

    def _load(self) -> str:
        queued = sum(map(len, self._queues.values()))
        return f"{self._in_progress.total()} requests in progress and {queued} that wait"
