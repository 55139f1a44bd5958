"""Work that waits for a worker: whole groups of lanes of whatever waits, and everybody in turn.

A worker computes with several numbers at the cost of one, side by side in its *lanes*. What one request wants fills a
part of a group, so a worker that is free takes what several requests want, of one kind. Nothing is kept back to fill a
group: what waits is taken, and a group stays part-empty only if nothing else waits.

Fair: owners (devices) have turns, and within an owner its jobs have. A turn is one group of lanes. So a job of
thousands of numbers goes on between others and holds nobody up for longer than a worker takes for one batch, which is
two groups at most. Who has begun a turn ends it before the next one begins.

Without any thread or event loop: gathered.py has those.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import NamedTuple, Protocol

#: Groups of lanes that a worker takes at once, at most.
GROUPS_AT_ONCE = 2


class Ended(Protocol):
    """What says whether anybody still waits for a job: a future."""

    def done(self) -> bool:
        """Return whether the job has ended, however it did."""


class Job:
    """What one request wants computed.

    owner: whose turn it takes. kind: what is computed together with it. items: what is computed of it side by side,
    each `width` lanes wide. outcome: once it is done, what is left of the job is dropped.
    """

    __slots__ = ("items", "kind", "outcome", "owner", "taken", "turn_left", "width")

    def __init__(self, owner: str, kind: bytes, items: Sequence[bytes], width: int, outcome: Ended) -> None:
        self.owner, self.kind, self.items, self.width, self.outcome = owner, kind, items, width, outcome
        #: How many items were taken, and how many lanes are left of its turn.
        self.taken = self.turn_left = 0

    @property
    def left(self) -> int:
        """How many items were not taken yet."""
        return len(self.items) - self.taken


class Part(NamedTuple):
    """Items start .. stop of a job."""

    job: Job
    start: int
    stop: int

    @property
    def items(self) -> Sequence[bytes]:
        """The items themselves."""
        return self.job.items[self.start : self.stop]


class Waiting:
    """The jobs that wait for workers with so many lanes. For one thread at a time."""

    def __init__(self, lanes: int) -> None:
        self._lanes = lanes
        #: By kind, the kind that was taken from longest ago first; by owner, whose turn is next first; in order.
        self._kinds: OrderedDict[bytes, OrderedDict[str, deque[Job]]] = OrderedDict()
        #: How many lanes all jobs of a kind want.
        self._wanted: dict[bytes, int] = {}

    def __bool__(self) -> bool:
        return bool(self._kinds)

    @property
    def groups(self) -> int:
        """How many groups what waits fills, at most."""
        return sum(-(-wanted // self._lanes) for wanted in self._wanted.values())

    def put(self, job: Job) -> None:
        """Have a job wait, behind the others of its owner."""
        job.turn_left = self._lanes
        self._kinds.setdefault(job.kind, OrderedDict()).setdefault(job.owner, deque()).append(job)
        self._wanted[job.kind] = self._wanted.get(job.kind, 0) + job.left * job.width

    def take(self, workers: int) -> list[Part]:
        """Return what one of `workers` free workers is to compute together, all of one kind; nothing if nothing waits.

        That is its share of what waits, in whole groups, up to GROUPS_AT_ONCE.
        """
        while self._kinds:
            kind, owners = self._kinds.popitem(last=False)
            groups = -(-self._wanted[kind] // self._lanes)
            room = self._lanes * min(GROUPS_AT_ONCE, -(-groups // workers))
            parts = self._filled(owners, room)
            if owners:
                self._kinds[kind] = owners
            else:
                del self._wanted[kind]
            if parts:
                return parts
        return []

    def _filled(self, owners: OrderedDict[str, deque[Job]], room: int) -> list[Part]:
        """Return parts for so many lanes; one item is taken even if it is wider."""
        parts: list[Part] = []
        while owners and room > 0:
            owner, jobs = next(iter(owners.items()))
            job = jobs[0]
            if job.outcome.done():
                self._leave(owners, owner, job.left)
                continue
            count = min(job.left, max(1, job.turn_left // job.width), room // job.width)
            if not count:
                if parts:
                    break
                count = 1
            parts.append(Part(job, job.taken, job.taken + count))
            job.taken += count
            job.turn_left -= count * job.width
            room -= count * job.width
            self._wanted[job.kind] -= count * job.width
            if not job.left:
                self._leave(owners, owner, 0)
            elif job.turn_left < job.width:
                job.turn_left = self._lanes
                jobs.rotate(-1)
            else:
                break  # there was no room for the whole of its turn, and it goes on with that
            if owner in owners:
                owners.move_to_end(owner)
        return parts

    def _leave(self, owners: OrderedDict[str, deque[Job]], owner: str, left: int) -> None:
        """Forget the first job of an owner, of which so many items were not taken."""
        job = owners[owner].popleft()
        self._wanted[job.kind] -= left * job.width
        if not owners[owner]:
            del owners[owner]
