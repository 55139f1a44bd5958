"""One gallery in service: its store, its slots, its packs in the workers, and its lock."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Protocol

from veilmatch.crypto.errors import GalleryRotatedError
from veilmatch.protos.v1 import matcher_pb2 as pb
from veilmatch.server.matcher.agreement.reconcile import Action, reconcile
from veilmatch.server.matcher.gallery.checks import DamagedRecord
from veilmatch.server.matcher.gallery.index import SlotIndex
from veilmatch.server.matcher.gallery.locks import ReadWriteLock
from veilmatch.server.matcher.gallery.mutation import GalleryState, LogEntry, Mutation, Record, require_same_model
from veilmatch.server.matcher.gallery.store import Store

#: Packs read from the store and given to the workers at a time.
_LOAD_BATCH = 4


class PackHolder(Protocol):
    """Who is given every pack that is loaded or changed; `pack_worker.PackWorkers` of a gallery in service."""

    async def load(self, gallery: int, packs: Mapping[int, bytes]) -> None:
        """Take packs, in place of what was there under these numbers."""


class Gallery:
    """A named gallery. Queries hold `lock` shared, mutations exclusively; `state` is what is committed.

    model: the embedding model of all its templates; None while there is none, so that any may be the first.
    successor: id of the key under which the gallery goes on; None while it may be changed here.
    """

    def __init__(self, name: str, number: int, store: Store, workers: PackHolder, slots: int) -> None:
        self.name = name
        self.number = number
        self.lock = ReadWriteLock()
        self.state = GalleryState(0, b"")
        self.index = SlotIndex(slots)
        self.model: str | None = None
        self.successor: bytes | None = None
        self._slots = slots
        self._store = store
        self._workers = workers

    @property
    def key_id(self) -> bytes:
        """Id of the key that the gallery is encrypted under, 16 bytes."""
        return self._store.key_id

    async def load(self) -> None:
        """Read everything from the store: slots, packs, model, and at last the state, which vouches for all of it."""
        state = await asyncio.to_thread(self._store.open_gallery, self.name)
        packs, count = self._store.packs(self.name), 0
        while batch := await asyncio.to_thread(lambda: dict(islice(packs, _LOAD_BATCH))):
            await self._workers.load(self.number, batch)
            count += len(batch)
        self.index = await asyncio.to_thread(
            lambda: SlotIndex.load(self._slots, count, self._store.templates(self.name), self._store.retired(self.name))
        )
        self.model = await asyncio.to_thread(self._store.model, self.name)
        self.state = state

    async def damaged_records(self) -> list[DamagedRecord]:
        """Return every template whose record is not what was written: it cannot be erased, nor be rotated.

        Everything else is served, comparisons of its subject included: they use the packs.
        """
        return await asyncio.to_thread(self._store.damaged_records, self.name)

    def require_model(self, model: str) -> None:
        """Raise ModelMismatchError unless embeddings of `model` can be compared with those of this gallery."""
        require_same_model(self.model, model)

    def require_changeable(self) -> None:
        """Raise GalleryRotatedError if the gallery was rotated to a new key: what changed here now would be lost."""
        if self.successor is not None:
            raise GalleryRotatedError("the gallery goes on under a new key", expected=f"key {self.successor.hex()}")

    # -- agreeing with the other matcher ------------------------------------------------------

    def to_wire(self, *, committed_before: bool = False) -> pb.GalleryState:
        """Return this side's state as it is sent to the other matcher."""
        return pb.GalleryState(
            gallery=self.name, sequence=self.state.sequence, chain=self.state.chain,
            pending_chain=self.state.pending_chain or b"", committed_before=committed_before, key_id=self.key_id,
        )  # fmt: skip

    async def reconcile(self, theirs: GalleryState, me: str, peer: str) -> None:
        """Commit or discard what is pending, as the other matcher's state demands. Hold the lock exclusively.

        me, peer: names of the two matchers. Raises GalleryMismatchError if the two have parted for good.
        """
        match reconcile(self.state, theirs, me, peer):
            case Action.COMMIT_PENDING:
                pending = self.state.pending_chain or b""
                await asyncio.to_thread(self._store.commit, self.name, pending)
            case Action.DISCARD_PENDING:
                await asyncio.to_thread(self._store.discard, self.name)
            case Action.NOTHING:
                return
        await self.load()

    # -- mutations ----------------------------------------------------------------------------

    async def find_token(self, token: bytes) -> LogEntry | None:
        """Return the committed mutation with this token, or None."""
        return await asyncio.to_thread(self._store.find_token, self.name, token)

    async def sources(self) -> list[tuple[int, int, int]]:
        """Return (pack, slot, mutation that added it) of every template; see `Store.sources`."""
        return await asyncio.to_thread(self._store.sources, self.name)

    async def places_of(self, token: bytes) -> list[tuple[int, int]]:
        """Return (pack, slot) of every template that the mutation with this token added and that is still here."""
        return await asyncio.to_thread(self._store.places_of, self.name, token)

    async def record(self, pack: int, slot: int) -> Record:
        """Return the record of a template. Raises IntegrityError if it is damaged."""
        return await asyncio.to_thread(self._store.record, self.name, pack, slot)

    async def require_intact(self, places: Sequence[tuple[int, int]]) -> None:
        """Raise IntegrityError if a record at these places is damaged; see `Store.require_intact`."""
        await asyncio.to_thread(self._store.require_intact, self.name, places)

    async def prepare(self, mutation: Mutation, valid_share: bytes = b"") -> bytes:
        """Write the mutation as pending, durably; return the chain value it leads to. valid_share: see Store."""
        self.state = await asyncio.to_thread(self._store.prepare, self.name, mutation, valid_share)
        return self.state.pending_chain or b""

    async def commit(self, mutation: Mutation, chain: bytes) -> None:
        """Make the prepared mutation count, durably, then bring slots and workers up to it, and at last the state."""
        state = await asyncio.to_thread(self._store.commit, self.name, chain)
        for pack, slot in mutation.removed:
            self.index.remove(pack, slot)
        for pack, slot in mutation.retired:
            self.index.retire(pack, slot)
        for template in sorted(mutation.added, key=lambda t: (t.pack, t.slot)):
            self.index.add(template.subject, template.pack, template.slot)
        self.model = (mutation.model or self.model) if len(self.index) else None
        await self._workers.load(self.number, mutation.packs)
        self.state = state

    async def discard(self) -> None:
        """Forget a prepared mutation. Only where the other matcher is known not to have prepared the same."""
        self.state = await asyncio.to_thread(self._store.discard, self.name)


def state_from_wire(wire: pb.GalleryState) -> GalleryState:
    """Return the other matcher's state."""
    return GalleryState(wire.sequence, wire.chain, wire.pending_chain or None)
