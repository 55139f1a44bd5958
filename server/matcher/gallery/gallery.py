"""One gallery in service: its store, its slots, its packs in the workers, and its lock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from itertools import islice
from typing import Any, Protocol
from weakref import ReferenceType, ref

from numpy.typing import NDArray

from veilmatch.crypto.errors import GalleryRotatedError
from veilmatch.crypto.keys.parties import PARTIES, Party
from veilmatch.server.ground.bell import Bell
from veilmatch.server.ground.finishing import to_the_end
from veilmatch.server.matcher.agreement.ballots import Ballot
from veilmatch.server.matcher.agreement.certificates import Certificate, Scope, Statement
from veilmatch.server.matcher.agreement.lies import Proof
from veilmatch.server.matcher.gallery.body import Body
from veilmatch.server.matcher.gallery.cards import KINDS as CARD_KINDS
from veilmatch.server.matcher.gallery.cards import CardIndex
from veilmatch.server.matcher.gallery.changes import Change, Content, Contents
from veilmatch.server.matcher.gallery.disk.checks import DamagedRecord
from veilmatch.server.matcher.gallery.disk.pending import Pending
from veilmatch.server.matcher.gallery.disk.reading import Detail, Snapshot
from veilmatch.server.matcher.gallery.disk.store import Store
from veilmatch.server.matcher.gallery.index import SlotIndex
from veilmatch.server.matcher.gallery.labels import Known, Listed, touched_since
from veilmatch.server.matcher.gallery.locks import ReadWriteLock
from veilmatch.server.matcher.gallery.mutation import GalleryState, LogEntry, Mutation, require_same_model
from veilmatch.server.matcher.gallery.prepared import FEW, Go, Prepared, few_bodies, places_of

#: Packs read from the store and given to the workers at a time: whole groups of a backend, some megabytes.
_LOAD_BATCH = 16
#: How long large changes that are written wait for queries to end. Other writers of the database wait up to 8 s.
SWITCH_S = 3.0


class PackHolder(Protocol):
    """Who is given every pack that is loaded or changed; `query.packs.Packs` of a gallery in service."""

    async def load(self, gallery: int, packs: Mapping[int, bytes]) -> None:
        """Take packs, in place of what was there under these numbers."""


class Gallery:
    """A named gallery. Queries hold `lock` shared, mutations exclusively; `state` is what is committed.

    model: the embedding model of all its templates; None while there is none, so that any may be the first.
    is_closed: whether its last change was the one that closes it. successor: id of the key under which the gallery
    goes on; None while it may be changed here, or while that is not known. heard, votes: the last
    statement and the last vote of each other organisation that is kept. head: the certificate of the last change.
    unmet: whom it has still to meet if it was restored from an old copy.
    """

    def __init__(self, name: str, number: int, store: Store, workers: PackHolder, slots: int) -> None:
        self.name = name
        self.number = number
        self.lock = ReadWriteLock()
        #: Rung whenever `state` was set, and with it `unmet`.
        self.changed = Bell()
        self._state = GalleryState(0, b"")
        self.index = SlotIndex(slots)
        #: What was issued to be carried, and is not among the slots.
        self.cards = CardIndex()
        self.model: str | None = None
        self.is_closed = False
        self.successor: bytes | None = None
        self.heard: dict[Party, Statement] = {}
        self.votes: dict[Party, Certificate] = {}
        self.head: Certificate | None = None
        self.unmet: set[Party] = set()
        #: Whether the store may hold more than is known here: after what failed between the two.
        self._is_stale = False
        #: The last copy of all subjects, as long as anybody needs it, and the state that it is of.
        self._places: tuple[GalleryState, ReferenceType[NDArray[Any]]] | None = None
        self._slots = slots
        self._store = store
        self._workers = workers

    @property
    def state(self) -> GalleryState:
        """What is promised, accepted and committed."""
        return self._state

    @state.setter
    def state(self, state: GalleryState) -> None:
        self._state = state
        self.changed.ring()

    @property
    def store(self) -> Store:
        """Where it lies on disk."""
        return self._store

    @property
    def key_id(self) -> bytes:
        """Id of the key that the gallery is encrypted under, 16 bytes."""
        return self._store.key_id

    @property
    def scope(self) -> Scope:
        """What signatures about this gallery name."""
        return Scope(self.name, self.key_id)

    @property
    def initial_chain(self) -> bytes:
        """The chain value before the first change, 32 bytes."""
        return self._store.initial_chain(self.name)

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
        await asyncio.to_thread(self._read_evidence, state.sequence)
        self.state, self._is_stale = state, False

    def _read_evidence(self, sequence: int) -> None:
        self.heard = self._store.heard(self.name)
        self.votes = self._store.last_votes(self.name)
        self.head = self._store.certificate(self.name, sequence)
        self.unmet = self._store.unmet(self.name)
        self.is_closed = bool(self._store.results(self.name, "closed"))
        self.cards = self._read_cards()

    def _read_cards(self) -> CardIndex:
        index = CardIndex()
        for kind in CARD_KINDS:
            for _, result in self._store.results(self.name, kind):
                index.take(kind, result)
        return index

    async def damaged_records(self) -> list[DamagedRecord]:
        """Return every template whose record is not what was written.

        It cannot be erased or rotated, nor its subject be verified. All else is served: searches use packs.
        """
        return await asyncio.to_thread(self._store.damaged_records, self.name)

    def require_model(self, model: str) -> None:
        """Raise ModelMismatchError unless embeddings of `model` can be compared with those of this gallery."""
        require_same_model(self.model, model)

    def require_changeable(self) -> None:
        """Raise GalleryRotatedError if the gallery was rotated to a new key: what changed here now would be lost."""
        if self.successor is not None:
            raise GalleryRotatedError("the gallery goes on under a new key", expected=f"key {self.successor.hex()}")
        if self.is_closed:
            raise GalleryRotatedError("the gallery is closed: it goes on under a new key")

    # -- subjects -----------------------------------------------------------------------------

    async def listed(self, known: Known) -> Listed:
        """Return what a device that knows this state is told of the subjects. Hold the lock, at least shared."""
        touched = await asyncio.to_thread(touched_since, self._store, self.name, self.state, known)
        return Listed(await self.places(), []) if touched is None else Listed(None, self.index.at(touched))

    async def places(self) -> NDArray[Any]:
        """Return the subject of every place, "" where there is none: one copy for all who ask in one state.

        It stays as it is when the gallery changes; write nothing to it. Hold the lock, at least shared.
        """
        places = self._places[1]() if self._places is not None and self._places[0] is self.state else None
        if places is None:
            places = await asyncio.to_thread(self.index.places)
            self._places = self.state, ref(places)
        return places

    # -- mutations ----------------------------------------------------------------------------

    async def find_token(self, token: bytes) -> LogEntry | None:
        """Return the committed mutation with this token, or None."""
        return await asyncio.to_thread(self._store.find_token, self.name, token)

    async def erased_after(self, sequence: int) -> bool:
        """Return whether a change after this one erased anything."""
        return bool(await asyncio.to_thread(self._store.results, self.name, "erase", sequence))

    async def certified(self, sequence: int) -> tuple[Change, bytes]:
        """Return a committed change, and the chain value before it; see `Store.certified`."""
        return await asyncio.to_thread(self._store.certified, self.name, sequence)

    async def sources(self) -> list[tuple[int, int, int]]:
        """Return (pack, slot, mutation that added it) of every template; see `Store.sources`."""
        return await asyncio.to_thread(self._store.sources, self.name)

    async def places_of(self, token: bytes) -> list[tuple[int, int]]:
        """Return (pack, slot) of every template that the mutation with this token added and that is still here."""
        return await asyncio.to_thread(self._store.places_of, self.name, token)

    async def records(self, places: Sequence[tuple[int, int]], read: Snapshot | None = None) -> Snapshot:
        """Return the records of the templates at these places. Raises IntegrityError if one is damaged.

        read: what was read before. It is returned if it is of the state that the gallery has now and has all of these:
        what a change left at a place stays there until the next one.
        """
        if read is not None and read.sequence == self.state.sequence and read.by_place.keys() >= set(places):
            return read
        return await asyncio.to_thread(self._store.records, self.name, places)

    async def details(self, subject: str = "") -> list[Detail]:
        """Return all that is known of each template beside its ciphertexts; see `Store.details`."""
        return await asyncio.to_thread(lambda: list(self._store.details(self.name, subject)))

    async def terms(self, places: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return the encoded terms (crypto/terms.py) of the templates at these places, in order."""
        found = await asyncio.to_thread(self._store.terms, self.name, set(places))
        return [found.get(place, b"") for place in places]

    # -- agreeing with other organisations ------------------------------------------------------

    async def refresh(self) -> None:
        """Read the store again if something failed between it and what is known here. Hold the lock exclusively."""
        if self._is_stale:
            await self.load()

    @property
    def is_stale(self) -> bool:
        """Whether `refresh` has something to do."""
        return self._is_stale

    async def promise(self, ballot: Ballot, heard: Sequence[Statement] = ()) -> None:
        """Promise a ballot, durably. heard: what is kept with it of what others have signed; so below."""
        async with self._written(heard):
            self.state = await asyncio.to_thread(self._store.promise, self.name, ballot, heard)

    async def accept(
        self, mutation: Mutation, origin: Certificate, ballot: Ballot, heard: Sequence[Statement] = ()
    ) -> None:
        """Accept the next change under a promised ballot, durably; see `Store.accept`."""
        async with self._written(heard):
            self.state = await asyncio.to_thread(self._store.accept, self.name, mutation, origin, ballot, heard)

    async def accepted(self) -> tuple[Mutation, Certificate]:
        """Return what is accepted and not committed; see `Store.accepted`."""
        return await asyncio.to_thread(self._store.accepted, self.name)

    async def commit(self, mutation: Mutation, certificate: Certificate) -> None:
        """Make the accepted mutation count, durably, then bring slots and workers up to it, and at last the state."""
        async with self._written(()):
            state = await asyncio.to_thread(self._store.commit, self.name, certificate)
            take = partial(self._take, mutation.body, {(t.pack, t.slot): t.subject for t in mutation.added})
            # Nobody reads the slots meanwhile; of a bulk enrolment others are served.
            await asyncio.to_thread(take) if len(mutation.added) > FEW else take()
            await self._workers.load(self.number, mutation.packs)
            self._know(certificate)
            self.state = state

    async def apply(self, changes: Sequence[Change], given: Contents, heard: Sequence[Statement] = ()) -> None:
        """Commit what others have committed, durably; see `Store.apply`. The signatures have been checked."""
        async with self._written(heard):
            state = await asyncio.to_thread(self._store.apply, self.name, changes, given, heard)
            # In a thread: nobody reads the slots meanwhile, and other galleries are served.
            for number in await asyncio.to_thread(self._take_all, changes):
                content = await asyncio.to_thread(self._store.pack, self.name, number)
                await self._workers.load(self.number, {number: content})
            self.state = state

    async def apply_beside(self, changes: Sequence[Change], given: Contents) -> float:
        """The same for many changes: written while queries go on with what there was before. Hold the lock, preparing.

        Only the switch is made alone; return for how many seconds. Whoever is cancelled before it leaves nothing
        changed, when all of it was written; after that it is made to its end. Raises TimeoutError, and changes nothing,
        if queries leave no time for the switch: the database waits for it, with all its galleries.
        """
        clock, written, go = asyncio.get_running_loop().time, asyncio.Event(), Go()
        notify = partial(asyncio.get_running_loop().call_soon_threadsafe, written.set)
        prepared: list[Prepared] = []
        few = await asyncio.to_thread(few_bodies, changes)

        def before_commit(pending: Pending) -> None:
            prepared.append(Prepared.of(self._slots, pending, changes, few))
            notify()
            go.wait()

        touched = None if few is None else places_of(few)
        apply = partial(self._store.apply, self.name, changes, given, (), before_commit, touched=touched)
        writing = asyncio.ensure_future(asyncio.to_thread(apply))
        writing.add_done_callback(lambda _: written.set())
        try:
            await written.wait()
            if writing.done():
                await writing  # raises
            async with AsyncExitStack() as switched:
                async with asyncio.timeout(SWITCH_S):
                    await switched.enter_async_context(self.lock.switching())
                started = clock()
                await to_the_end(self._switch(prepared[0], go, writing))
                locked_s = clock() - started
        except BaseException:
            go.give_up()
            with suppress(Exception):
                await to_the_end(_ended(writing))
                if not writing.cancelled() and writing.exception() is None:
                    await asyncio.to_thread(self._store.tidy)
            raise
        await asyncio.to_thread(self._store.tidy)
        return locked_s

    async def _switch(self, prepared: Prepared, go: Go, writing: asyncio.Future[GalleryState]) -> None:
        """Commit, and bring everything that is known here up to it, at last the state."""
        async with self._written(()):
            go.give()
            state = await writing
            if prepared.index is not None:
                self.index, self.is_closed = prepared.index, prepared.pending.is_closed
                self.cards = await asyncio.to_thread(self._read_cards)
            else:
                for body in prepared.bodies:
                    self._place(body, prepared.pending.subjects)
            self.model = prepared.pending.model
            self.head, self.votes = prepared.head, prepared.pending.votes
            for start in range(0, len(prepared.packs), _LOAD_BATCH):
                some = prepared.packs[start : start + _LOAD_BATCH]
                await self._workers.load(self.number, await asyncio.to_thread(self._packs, some))
            self.state = state

    def _packs(self, numbers: Sequence[int]) -> dict[int, bytes]:
        return {number: self._store.pack(self.name, number) for number in numbers}

    async def changes_after(self, sequence: int, count: int) -> list[Change]:
        """Return committed changes; see `Store.changes_after`."""
        return await asyncio.to_thread(self._store.changes_after, self.name, sequence, count)

    async def contents_after(self, sequence: int) -> list[Content]:
        """Return what changes after number `sequence` brought and is still there; ask `bytes_after` first."""
        return await asyncio.to_thread(lambda: list(self._store.contents_after(self.name, sequence)))

    async def bytes_after(self, sequence: int) -> int:
        """Return the size of `contents_after`."""
        return await asyncio.to_thread(self._store.bytes_after, self.name, sequence)

    async def certificate(self, sequence: int) -> Certificate | None:
        """Return the certificate of a committed change, or None."""
        return await asyncio.to_thread(self._store.certificate, self.name, sequence)

    async def keep_proof(self, proof: Proof) -> None:
        """Keep a proof that an organisation has lied, durably."""
        await asyncio.to_thread(self._store.keep_proof, self.name, proof)

    async def hear_again(self, statement: Statement) -> None:
        """Keep the statement of an organisation that was restored, which may say less than what was kept of it."""
        await asyncio.to_thread(self._store.keep_heard, self.name, [statement])
        self.heard[statement.party] = statement

    async def met(self, party: Party, ballot: Ballot) -> None:
        """Note, after it was restored, that it has caught up with `party`; see `Store.met`."""
        async with self._written(()):
            state = await asyncio.to_thread(self._store.met, self.name, party, ballot)
            self.unmet -= {party}
            self.state = state

    @asynccontextmanager
    async def _written(self, heard: Sequence[Statement]) -> AsyncIterator[None]:
        """Around a write and what follows from it: whatever fails in between, the store is read again before use."""
        self._is_stale = True
        yield
        self.heard |= {statement.party: statement for statement in heard}
        self._is_stale = False

    def _take_all(self, changes: Sequence[Change]) -> list[int]:
        """Bring slots and model up to changes that the store holds; return the packs that they touch, ascending."""
        # Twice through them, one at a time: the bodies of all may be large together.
        touched = {at[:2] for change in changes for at in Body.decode(change.body).added}
        named = self._store.subjects_at(self.name, touched)
        packs: set[int] = set()
        for change in changes:
            body = Body.decode(change.body)
            self._place(body, named)
            self.model = body.model or self.model
            packs.update(number for number, _ in body.packs)
            self._know(Certificate.decode(change.certificate))
        self.model = self.model if len(self.index) else None
        return sorted(packs)

    def _take(self, body: Body, subjects: Mapping[tuple[int, int], str]) -> None:
        """Bring slots and model up to a change. subjects: of what it adds; what is gone since may be left out."""
        self._place(body, subjects)
        self.model = (body.model or self.model) if len(self.index) else None

    def _place(self, body: Body, subjects: Mapping[tuple[int, int], str]) -> None:
        for pack, slot in body.removed:
            self.index.remove(pack, slot)
        for pack, slot in body.retired:
            self.index.retire(pack, slot)
        for at in body.added:
            self.index.add(subjects.get((at.pack, at.slot), _GONE), at.pack, at.slot)
        self.is_closed |= body.kind == "closed"
        self.cards.take(body.kind, body.result)

    def _know(self, certificate: Certificate) -> None:
        self.head = certificate
        self.votes |= {party: certificate for party in PARTIES if party in certificate.vote.ballot.pair}


async def _ended(writing: asyncio.Future[GalleryState]) -> None:
    await asyncio.wait([writing])


#: For templates that come and go within what is applied at once.
_GONE = "?"
