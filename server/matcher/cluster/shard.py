"""One shard: the packs of a gallery that are its part, and proof that they are those of one state of the gallery.

A shard follows the log of a gallery. The bodies of the log give the chain value, and name every pack by its leaf
(gallery/body.py), so a shard knows which contents a state has before it has them, and takes no other ones. Whatever
file or message they come from, it answers for exactly the state (sequence, chain) that it is asked for, or not at all.

No I/O, and no word of Ray.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from veilmatch.crypto.encryption.paillier import Paillier
from veilmatch.crypto.errors import IntegrityError, UnavailableError
from veilmatch.crypto.gallery_change import next_chain
from veilmatch.crypto.packing.fields import Array
from veilmatch.server.matcher.gallery.body import Body, digest_of, pack_leaf
from veilmatch.server.matcher.gallery.locks import ReadWriteLock
from veilmatch.server.matcher.gallery.mutation import GalleryState, initial_chain
from veilmatch.server.matcher.query.pack_worker import PackWorkers
from veilmatch.server.workers.threads import Pool

#: Packs that stay together: as many as the kernel works on at once, whatever backend a machine has.
RUN = 8


class State(NamedTuple):
    """What a gallery is at: number of its last change, and its chain value, 32 bytes."""

    sequence: int
    chain: bytes


@dataclass(frozen=True)
class Part:
    """Number `index` of `count` parts of a gallery: every count-th run of packs, so that parts grow evenly."""

    index: int
    count: int

    def holds(self, pack: int) -> bool:
        """Return whether a pack belongs to this part."""
        return shard_of(pack, self.count) == self.index

    def within(self, pack: int) -> int:
        """Return which one it is of the packs of this part, from 0 without gaps."""
        run, at = divmod(pack, RUN)
        return run // self.count * RUN + at


def shard_of(pack: int, count: int) -> int:
    """Return which of `count` parts a pack belongs to."""
    return pack // RUN % count


@dataclass
class _Held:
    """What is held of a gallery. missing: leaves of the packs that it has at `state` and that are not here."""

    state: State
    missing: dict[int, bytes] = field(default_factory=dict)
    packs: int = 0
    lock: ReadWriteLock = field(default_factory=ReadWriteLock)


class Shard:
    """A part of every gallery of a matcher, in the workers of one pool. names: of the galleries, by number.

    For one event loop.
    """

    def __init__(self, part: Part, pool: Pool, scheme: Paillier, names: Sequence[str]) -> None:
        self._part = part
        self._workers = PackWorkers(pool, scheme)
        key_id, parameters = scheme.public_key.key_id, scheme.parameters
        self._held = [_Held(State(0, initial_chain(name, key_id, parameters))) for name in names]

    def state(self, gallery: int) -> State:
        """Return how far the log of a gallery was followed."""
        return self._held[gallery].state

    def missing(self, gallery: int) -> list[int]:
        """Return the numbers of the packs that are to be `put` before anything is answered, ascending."""
        return sorted(self._held[gallery].missing)

    def is_at(self, gallery: int, state: State) -> bool:
        """Return whether it can answer for this state."""
        held = self._held[gallery]
        return held.state == state and not held.missing

    def packs(self, gallery: int) -> int:
        """Return how many packs of a gallery it has, missing ones included."""
        return self._held[gallery].packs

    async def extend(self, gallery: int, bodies: Iterable[tuple[int, bytes]], state: State) -> None:
        """Follow the log to `state`. bodies: (sequence, encoded body) of every change after the present one, in order.

        Raises IntegrityError, and changes nothing, unless they are all of them and lead to this chain value;
        UnavailableError if it is past that state.
        """
        held = self._held[gallery]
        before = held.state
        if before.sequence > state.sequence:
            raise UnavailableError("a shard is ahead of the query", got=before.sequence, expected=state.sequence)
        leaves = await asyncio.to_thread(self._leaves, before, bodies, state)
        async with held.lock.exclusive():
            if held.state != before:
                raise UnavailableError("a shard has changed meanwhile", got=held.state.sequence)
            held.state = state
            held.missing |= leaves
            # A pack never goes away, and new ones follow the last one.
            held.packs = max([held.packs, *(self._part.within(pack) + 1 for pack in leaves)])

    def _leaves(self, before: State, bodies: Iterable[tuple[int, bytes]], state: State) -> dict[int, bytes]:
        """Return the leaves of the packs of its part that are others after these changes."""
        sequence, chain = before
        leaves: dict[int, bytes] = {}
        for number, encoded in bodies:
            if number != sequence + 1:
                raise IntegrityError("a mutation is missing in the log", got=number, expected=sequence + 1)
            sequence, chain = number, next_chain(chain, number, digest_of(encoded))
            leaves |= {pack: leaf for pack, leaf in Body.decode(encoded).packs if self._part.holds(pack)}
        if (sequence, chain) != state:
            raise IntegrityError("the log leads to another state", got=sequence, expected=state.sequence)
        return leaves

    async def put(self, gallery: int, packs: Sequence[tuple[int, bytes]]) -> None:
        """Take contents of missing packs, of few at a time; those that are not missing are left out.

        Raises UnavailableError, and takes none, if one is that of another state.
        """
        held = self._held[gallery]
        async with held.lock.exclusive():
            wanted = {pack: content for pack, content in packs if pack in held.missing}
            for pack, content in wanted.items():
                if pack_leaf(content) != held.missing[pack]:
                    raise UnavailableError("a pack of another state of the gallery", got=pack)
            # Together: the kernel lays a whole run out at once.
            await self._workers.load(gallery, {self._part.within(pack): content for pack, content in wanted.items()})
            for pack in wanted:
                del held.missing[pack]

    async def match(self, gallery: int, state: State, packs: Sequence[int], exponents: Array) -> list[bytes]:
        """Return R of these packs of its part. Raises UnavailableError unless it is at `state` in all of them."""
        held = self._held[gallery]
        async with held.lock.shared():
            if not self.is_at(gallery, state):
                raise UnavailableError("a shard at another state", got=held.state.sequence, expected=state.sequence)
            wrong = [pack for pack in packs if not self._part.holds(pack) or self._part.within(pack) >= held.packs]
            if wrong:
                raise IntegrityError("a pack that is not of this shard", got=wrong[0])
            within = [self._part.within(pack) for pack in packs]
            async with aclosing(self._workers.match(gallery, GalleryState(*state), within, exponents)) as parts:
                return [result async for part in parts for result in part]


def exponents_of(data: bytes) -> Array:
    """Return exponents as they come to a shard."""
    return np.frombuffer(data, dtype="<i8").astype(np.int64)
