"""The packs of a matcher on a cluster: the second implementation of `query.packs.Packs`.

What encrypts stays in this process, with its workers; what multiplies packs out is asked of the shards. Every question
names the state of the gallery, and a shard answers for no other one (shard.py). A shard that is lost or behind is
brought up to it: by itself, from the database, where its machine can read it, and else from here. A query waits for
that, for a time; then it is refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Protocol

import numpy as np
import structlog

from veilmatch.crypto.dealing import Words
from veilmatch.crypto.errors import IntegrityError, ProtocolError, UnavailableError
from veilmatch.crypto.gallery_change import next_chain
from veilmatch.crypto.keys.parties import Party, pairs_without
from veilmatch.crypto.packing.fields import Array
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.server.matcher.cluster import wire
from veilmatch.server.matcher.cluster.shard import State, shard_of
from veilmatch.server.matcher.cluster.wire import Status
from veilmatch.server.matcher.gallery.body import digest_of
from veilmatch.server.matcher.gallery.disk.store import Store
from veilmatch.server.matcher.gallery.gallery import Gallery
from veilmatch.server.matcher.gallery.mutation import GalleryState
from veilmatch.server.matcher.query.pack_worker import PackWorkers

_log = structlog.get_logger(__name__)
#: How often every shard is asked whether it is where it should be: one that was lost is filled before a query needs it.
FOLLOW_S = 1.0
#: A shard that is not brought up to a state in this time is asked anew; what it has by then, it keeps.
_SILENT_S = 60.0
#: Between two attempts of one query at a shard.
_AGAIN_S = 0.1


class Actors(Protocol):
    """The shards, wherever they run; `nodes.RayActors`."""

    @property
    def count(self) -> int:
        """Number of shards."""

    async def ask(self, shard: int, method: str, *parts: bytes) -> bytes:
        """Return what a method of a shard answers. Raises UnavailableError if it is lost; it is made again."""


class ClusterPacks:
    """Packs on `actors`, for galleries in `store` under these names, by number; see `packs.Packs`.

    local: workers of this process, which are given no packs. wait_s: how long a query waits for a shard. Use within
    `following`.
    """

    def __init__(
        self,
        party: Party,
        local: PackWorkers,
        actors: Actors,
        store: Store,
        names: Sequence[str],
        parameters: ParameterSet,
        wait_s: float,
    ) -> None:
        self._party = party
        self._local = local
        self._actors = actors
        self._store = store
        self._names = names
        self._parameters = parameters
        self._wait_s = wait_s
        self._catching_up = [asyncio.Lock() for _ in range(actors.count)]
        self._changed = [asyncio.Event() for _ in range(actors.count)]
        #: What was last said of each shard of each gallery.
        self._said: dict[tuple[int, int], str] = {}

    async def load(self, gallery: int, packs: Mapping[int, bytes]) -> None:
        """Let the shards look: they take what has changed from the database, not from here."""
        for changed in self._changed:
            changed.set()

    @asynccontextmanager
    async def held(self, gallery: int) -> AsyncIterator[int | None]:
        """See `Packs.held`: shards follow the gallery, and keep nothing of what it was."""
        yield None

    async def match(
        self, gallery: int, state: GalleryState, packs: Sequence[int], exponents: Array, held: int | None = None
    ) -> AsyncGenerator[list[bytes], None]:
        """Yield R of every pack, all at once: every shard answers for all of its packs; see `Packs.match`."""
        asked: dict[int, list[int]] = {}
        for pack in sorted(packs):
            asked.setdefault(shard_of(pack, self._actors.count), []).append(pack)
        at, share = State(state.sequence, state.chain), exponents.astype("<i8").tobytes()
        work = [self._of_shard(shard, gallery, at, numbers, share) for shard, numbers in asked.items()]
        answers = await _all(work)
        size = self._parameters.ciphertext_bytes
        results: dict[int, bytes] = {}
        for numbers, data in zip(asked.values(), answers, strict=True):
            if len(data) != size * len(numbers):
                raise ProtocolError("a shard's answer of the wrong size", got=len(data), expected=size * len(numbers))
            results |= {pack: data[i * size : (i + 1) * size] for i, pack in enumerate(numbers)}
        yield [results[pack] for pack in packs]

    async def column(self, values: Words, slot: int, *, is_plus: bool, erase: bool) -> bytes:
        """See `Packs.column`; in this process."""
        return await self._local.column(values, slot, is_plus=is_plus, erase=erase)

    async def record(self, values: Words, *, is_plus: bool) -> bytes:
        """See `Packs.record`; in this process."""
        return await self._local.record(values, is_plus=is_plus)

    async def apply(self, gallery: int, pack: int, columns: Sequence[bytes]) -> bytes:
        """See `Packs.apply`; in this process, with the content from the database."""
        found = await asyncio.to_thread(self._store.packs_at, self._names[gallery], [pack])
        return await self._local.apply(gallery, pack, [*(content for _, content in found), *columns])

    @asynccontextmanager
    async def following(self, galleries: Mapping[str, Gallery]) -> AsyncIterator[None]:
        """Keep every shard at the state of these galleries, as long as this lasts."""
        # Each for itself: one that is silent keeps no other one waiting.
        keeping = [asyncio.ensure_future(self._keep(shard, galleries)) for shard in range(self._actors.count)]
        try:
            yield
        finally:
            for one in keeping:
                one.cancel()
            await asyncio.gather(*keeping, return_exceptions=True)

    # -- a query ------------------------------------------------------------------------------

    async def _of_shard(self, shard: int, gallery: int, state: State, packs: list[int], exponents: bytes) -> bytes:
        """Return R of these packs of one shard; wait for it where it is lost or behind."""
        numbers = np.array(packs, dtype=">u4").tobytes()
        last: UnavailableError | None = None
        try:
            async with asyncio.timeout(self._wait_s):
                while True:
                    try:
                        return await self._ask(shard, "match", wire.head(gallery, state), numbers, exponents)
                    except UnavailableError as error:
                        last = error
                    try:
                        await self._catch_up(shard, gallery, state)
                    except UnavailableError as error:
                        last = error
                        await asyncio.sleep(_AGAIN_S)
        except TimeoutError:
            raise UnavailableError(
                f"matcher-{self._party} misses a shard of its packs",
                needed=f"shard {shard} at change {state.sequence}",
                available="no answer" if last is None else last.message,
                party=f"matcher-{self._party}",
                alternatives=pairs_without(self._party),
            ) from None

    async def _ask(self, shard: int, method: str, *parts: bytes) -> bytes:
        return wire.opened(await self._actors.ask(shard, method, *parts))

    # -- bringing shards up to a state ------------------------------------------------------------

    async def _catch_up(self, shard: int, gallery: int, state: State) -> Status:
        """Bring a shard up to a state of a gallery. Raises UnavailableError if it cannot be brought there now."""
        async with self._catching_up[shard]:
            status = Status.decode(await self._ask(shard, "follow", wire.head(gallery, state)))
            why = status.why
            while status.state != state:
                head, bodies = await asyncio.to_thread(self._bodies, gallery, status.state, state)
                status = Status.decode(await self._ask(shard, "extend", head, bodies))
            while status.missing:
                missing = list(status.missing)
                found = await asyncio.to_thread(self._store.packs_at, self._names[gallery], missing)
                if not found:
                    raise IntegrityError("a pack is missing", got=missing[0])
                status = Status.decode(await self._ask(shard, "put", wire.head(gallery, state), wire.join(found)))
            self._say(shard, gallery, status, why)
            return status

    def _bodies(self, gallery: int, here: State, wanted: State) -> tuple[bytes, bytes]:
        """Return the next changes from `here` towards `wanted`, with the state that they lead to as a head."""
        changes = self._store.changes_after(self._names[gallery], here.sequence)
        changes = [change for change in changes if change.sequence <= wanted.sequence]
        if not changes:
            raise UnavailableError("a shard at a state past that", got=here.sequence, expected=wanted.sequence)
        state = here
        for change in changes:
            state = State(change.sequence, next_chain(state.chain, change.sequence, digest_of(change.body)))
        return wire.head(gallery, state), wire.join([(change.sequence, change.body) for change in changes])

    async def _keep(self, shard: int, galleries: Mapping[str, Gallery]) -> None:
        while True:
            self._changed[shard].clear()
            await self._keep_shard(shard, galleries)
            with suppress(TimeoutError):
                async with asyncio.timeout(FOLLOW_S):
                    await self._changed[shard].wait()

    async def _keep_shard(self, shard: int, galleries: Mapping[str, Gallery]) -> None:
        for gallery in galleries.values():
            state = gallery.state  # not locked: a change in between is for the next time
            if not state.chain:
                continue
            try:
                async with asyncio.timeout(_SILENT_S):
                    await self._catch_up(shard, gallery.number, State(state.sequence, state.chain))
            except TimeoutError:
                # It may be filling itself all the same.
                self._lost(shard, gallery.number, f"not ready for {_SILENT_S:.0f} s")
            except UnavailableError as error:
                if gallery.state is state:
                    self._lost(shard, gallery.number, str(error))
            except Exception as error:
                # The next query says it as well, to whoever asks.
                self._lost(shard, gallery.number, f"{type(error).__name__}: {error}")

    def _say(self, shard: int, gallery: int, status: Status, why: str) -> None:
        if self._news(shard, gallery, f"{status.node} {status.pid} {bool(why)}"):
            _log.info(
                "shard ready", shard=shard, gallery=self._names[gallery], packs=status.packs, node=status.node,
                process=status.pid, filled_by="this matcher" if why else "its database", why=why,
            )  # fmt: skip

    def _lost(self, shard: int, gallery: int, why: str) -> None:
        if self._news(shard, gallery, "lost"):
            _log.warning("shard missing", shard=shard, gallery=self._names[gallery], why=why)

    def _news(self, shard: int, gallery: int, what: str) -> bool:
        before, self._said[shard, gallery] = self._said.get((shard, gallery)), what
        return before != what


async def _all(work: Sequence[Coroutine[Any, Any, bytes]]) -> list[bytes]:
    """Return all results, or raise the first error and give the rest up."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
