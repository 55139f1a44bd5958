"""The galleries of one matcher on disk.

A mutation is prepared (durable, not yet visible), then committed or discarded, so that two matchers
can change their galleries together: `agreement.reconcile` says which of the two after a crash. A
kill at any moment leaves the state before a call or the one after it.

    store = Store(data_dir, key_id, parameters)
    store.open_gallery("staff")
    prepared = store.prepare("staff", mutation)
    ...                                          # the other matcher has prepared the same pending_chain
    store.commit("staff", prepared.pending_chain)

Methods block; a server calls them in a thread. Any thread may call, one at a time per gallery.
All raise IntegrityError if the database is damaged, UnavailableError if it cannot be used (disk
full, locked), and KeyMismatchError for a gallery that `open_gallery` never made.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from sqlalchemy import Connection, delete, insert, select, update

from veilmatch.crypto.errors import DuplicateTokenError, IntegrityError
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.server.matcher.gallery.checks import (
    REMEDY,
    DamagedRecord,
    check_chain,
    damaged_records,
    is_intact,
    pack_bytes,
    record_bytes,
)
from veilmatch.server.matcher.gallery.database import is_rotating, mark_finished, open_database
from veilmatch.server.matcher.gallery.mutation import (
    GalleryState,
    LogEntry,
    Mutation,
    Record,
    Template,
    initial_chain,
    next_chain,
)
from veilmatch.server.matcher.gallery.rows import (
    check_fits,
    delete_rows,
    find_entry,
    find_gallery,
    model_of,
    of,
    results_after,
    retired_slots,
    state_of,
    update_gallery,
    visible,
    write_pending,
)
from veilmatch.server.matcher.gallery.schema import contents, galleries, log, packs, retired, templates

__all__ = ["GalleryState", "LogEntry", "Mutation", "Store", "Template", "initial_chain", "next_chain"]


class Store:
    """gallery.db in `data_dir`: named galleries under one key and parameter set. Made if it does not exist.

    key_id: 16 bytes. Raises KeyMismatchError if the database belongs to another key or parameter
    set; IntegrityError if it is damaged, of another version, or no gallery database.

    rotating: it is for a rotation to fill, and nobody else opens it until `finish` was called. party: whose it is, for
    the error that says that something in it is damaged.
    """

    def __init__(
        self,
        data_dir: Path,
        key_id: bytes,
        parameters: ParameterSet,
        *,
        rotating: bool = False,
        party: str | None = None,
    ) -> None:
        self.key_id = key_id
        self._party = party
        self._parameters = parameters
        self._database = open_database(data_dir, key_id, parameters, rotating=rotating)

    def close(self) -> None:
        """Empty the write-ahead log and close the database."""
        self._database.truncate_wal()
        self._database.close()

    # -- rotation ---------------------------------------------------------------------------

    def is_finished(self) -> bool:
        """Return whether a matcher may serve from this database: no rotation is filling it, or not any more."""
        with self._database.reading() as connection:
            return not is_rotating(connection)

    def finish(self) -> None:
        """Let matchers serve from this database: the rotation that filled it is complete. Durable."""
        with self._database.writing() as connection:
            mark_finished(connection)

    # -- galleries --------------------------------------------------------------------------

    def galleries(self) -> list[str]:
        """Return the names of all galleries, sorted."""
        with self._database.reading() as connection:
            return list(connection.scalars(select(galleries.c.name).order_by(galleries.c.name)))

    def open_gallery(self, name: str) -> GalleryState:
        """Make the gallery if it does not exist, and return its state.

        Raises IntegrityError if the hash chain, recomputed from the log, is not the one it claims.
        """
        with self._database.writing() as connection:
            if connection.scalar(select(galleries.c.id).where(galleries.c.name == name)) is None:
                chain = initial_chain(name, self.key_id, self._parameters)
                connection.execute(insert(galleries).values(name=name, sequence=0, chain=chain))
            gallery = find_gallery(connection, name)
            check_chain(connection, gallery, self.key_id, self._parameters)
            return state_of(gallery)

    def state(self, name: str) -> GalleryState:
        """Return the state that the other matcher's is compared with."""
        with self._database.reading() as connection:
            return state_of(find_gallery(connection, name))

    # -- changes ----------------------------------------------------------------------------

    def prepare(self, name: str, mutation: Mutation, valid_share: bytes = b"") -> GalleryState:
        """Write `mutation` as pending, durably, and return the state with its pending_chain.

        valid_share: what this matcher alone keeps with it, for the device (`LogEntry`).
        Raises IntegrityError if another one is pending, or if it does not fit the gallery (sizes,
        slots occupied or free already, a gap in the packs); DuplicateTokenError if a committed
        mutation has its token; ModelMismatchError if it adds embeddings of another model than those
        that are there. Nothing is changed then.
        """
        mutation.check(self._parameters)
        digest = mutation.digest()
        with self._database.writing() as connection:
            gallery = find_gallery(connection, name)
            if gallery.pending_chain is not None:
                raise IntegrityError("another mutation is pending")
            if find_entry(connection, gallery, mutation.token) is not None:
                raise DuplicateTokenError("the token was used before")
            check_fits(connection, gallery, mutation)
            write_pending(connection, gallery, mutation, digest, valid_share)
            pending_chain = next_chain(gallery.chain, gallery.sequence + 1, digest)
            connection.execute(update_gallery(gallery).values(pending_chain=pending_chain))
        return GalleryState(gallery.sequence, gallery.chain, pending_chain)

    def commit(self, name: str, chain: bytes) -> GalleryState:
        """Make the pending mutation whose chain value is `chain` the last one, durably; return the new state.

        What it removes is overwritten in the file and in the write-ahead log. Raises IntegrityError
        if that mutation is not pending.
        """
        with self._database.writing() as connection:
            gallery = find_gallery(connection, name)
            if gallery.pending_chain is None or gallery.pending_chain != chain:
                raise IntegrityError("the mutation to commit is not pending", got=state_of(gallery))
            state = GalleryState(gallery.sequence + 1, gallery.pending_chain)
            erased = delete_rows(connection, templates, of(templates, gallery, removed_in=state.sequence))
            delete_rows(connection, packs, of(packs, gallery, removed_in=state.sequence))
            connection.execute(
                update_gallery(gallery).values(sequence=state.sequence, chain=state.chain, pending_chain=None)
            )
        if erased:
            self._database.truncate_wal()
        return state

    def pending_kind(self, name: str) -> str | None:
        """Return the kind of the pending mutation, None if there is none."""
        with self._database.reading() as connection:
            gallery = find_gallery(connection, name)
            return connection.scalar(select(log.c.kind).where(of(log, gallery, sequence=gallery.sequence + 1)))

    def discard(self, name: str) -> GalleryState:
        """Forget the pending mutation, if there is one; its token is free again. Return the state."""
        with self._database.writing() as connection:
            gallery = find_gallery(connection, name)
            pending = gallery.sequence + 1
            for table in (templates, packs):
                delete_rows(connection, table, of(table, gallery, added_in=pending))
                marked = of(table, gallery, removed_in=pending)
                connection.execute(update(table).where(marked).values(removed_in=None))
            connection.execute(delete(retired).where(of(retired, gallery, added_in=pending)))
            connection.execute(delete(log).where(of(log, gallery, sequence=pending)))
            connection.execute(update_gallery(gallery).values(pending_chain=None))
        if gallery.pending_chain is not None:
            self._database.truncate_wal()
        return GalleryState(gallery.sequence, gallery.chain)

    # -- what is committed ------------------------------------------------------------------

    def find_token(self, name: str, token: bytes) -> LogEntry | None:
        """Return the committed mutation with this token, or None."""
        with self._database.reading() as connection:
            return find_entry(connection, find_gallery(connection, name), token)

    def packs(self, name: str) -> Iterator[tuple[int, bytes]]:
        """Yield (number, content) of every pack, ascending from 0 without gaps.

        content: D ciphertexts joined. The state is that of the first `next`; exhaust or close the
        iterator. Raises IntegrityError if a pack is missing or its checksum is wrong.
        """
        size = pack_bytes(self._parameters)
        with self._database.reading() as connection:
            gallery = find_gallery(connection, name)
            query = (
                select(packs.c.pack, contents.c.body, contents.c.checksum)
                .join(contents, contents.c.id == packs.c.content_id)
                .where(visible(packs, gallery))
                .order_by(packs.c.pack)
            )
            for expected, row in enumerate(connection.execution_options(yield_per=1).execute(query)):
                if row.pack != expected:
                    raise IntegrityError("a pack is missing", got=row.pack, expected=expected)
                if not is_intact(row.body, row.checksum, size):
                    raise self._damaged("a pack of the gallery is damaged", f"pack {row.pack} of {name}")
                yield row.pack, row.body

    def pack(self, name: str, number: int) -> bytes:
        """Return the content of one pack. Raises IntegrityError if it is missing or its checksum is wrong."""
        with self._database.reading() as connection:
            gallery = find_gallery(connection, name)
            row = connection.execute(
                select(contents.c.body, contents.c.checksum)
                .join(packs, contents.c.id == packs.c.content_id)
                .where(visible(packs, gallery), packs.c.pack == number)
            ).one_or_none()
        if row is None:
            raise IntegrityError("a pack is missing", got=number)
        if not is_intact(row.body, row.checksum, pack_bytes(self._parameters)):
            raise self._damaged("a pack of the gallery is damaged", f"pack {number} of {name}")
        return bytes(row.body)

    def templates(self, name: str) -> Iterator[tuple[int, int, str]]:
        """Yield (pack, slot, subject) of every template, ascending. As for `packs`: exhaust or close it."""
        with self._database.reading() as connection:
            t = templates.c
            query = select(t.pack, t.slot, t.subject).order_by(t.pack, t.slot)
            query = query.where(visible(templates, find_gallery(connection, name)))
            for row in connection.execution_options(yield_per=1000).execute(query):
                yield row.pack, row.slot, row.subject

    def sources(self, name: str) -> list[tuple[int, int, int]]:
        """Return (pack, slot, sequence number of the mutation that added it) of every template, ascending.

        The three together name a template for ever, also when its slot is filled again.
        """
        with self._database.reading() as connection:
            t = templates.c
            query = select(t.pack, t.slot, t.added_in).order_by(t.pack, t.slot)
            rows = connection.execute(query.where(visible(templates, find_gallery(connection, name))))
            return [(row.pack, row.slot, row.added_in) for row in rows]

    def retired(self, name: str) -> list[tuple[int, int]]:
        """Return (pack, slot) of every slot that was given up."""
        with self._database.reading() as connection:
            return retired_slots(connection, find_gallery(connection, name))

    def results(self, name: str, kind: str, after: int = 0) -> list[tuple[int, str]]:
        """Return (sequence number, result) of the committed mutations of a kind after number `after`, in order."""
        with self._database.reading() as connection:
            return results_after(connection, find_gallery(connection, name), kind, after)

    def model(self, name: str) -> str | None:
        """Return the name of the model that all templates are embeddings of, None if there is no template."""
        with self._database.reading() as connection:
            return model_of(connection, find_gallery(connection, name))

    def places_of(self, name: str, token: bytes) -> list[tuple[int, int]]:
        """Return (pack, slot) of every template that the mutation with this token added and that is still here."""
        with self._database.reading() as connection:
            gallery = find_gallery(connection, name)
            entry = find_entry(connection, gallery, token)
            if entry is None:
                return []
            t = templates.c
            query = select(t.pack, t.slot).where(of(templates, gallery, added_in=entry.sequence))
            return [(row.pack, row.slot) for row in connection.execute(query.order_by(t.pack, t.slot))]

    def record(self, name: str, pack: int, slot: int) -> Record:
        """Return the record of the template in this slot.

        Raises IntegrityError if the slot is free or the record's checksum is wrong.
        """
        with self._database.reading() as connection:
            found = self._record(connection, name, pack, slot)
        if found is None:
            raise IntegrityError("a slot is not occupied", got=(pack, slot))
        return found

    def require_intact(self, name: str, places: Sequence[tuple[int, int]]) -> None:
        """Raise IntegrityError if the record of a template at these places is damaged; free slots have none."""
        with self._database.reading() as connection:
            for place in places:
                self._record(connection, name, *place)

    def damaged_records(self, name: str) -> list[DamagedRecord]:
        """Return every template whose record `record` would refuse; reads all of them."""
        with self._database.reading() as connection:
            return list(damaged_records(connection, find_gallery(connection, name), self._parameters))

    def _record(self, connection: Connection, name: str, pack: int, slot: int) -> Record | None:
        gallery = find_gallery(connection, name)
        row = connection.execute(
            select(contents.c.body, contents.c.checksum, templates.c.by_device)
            .select_from(templates.join(contents, contents.c.id == templates.c.content_id, isouter=True))
            .where(visible(templates, gallery), templates.c.pack == pack, templates.c.slot == slot)
        ).one_or_none()
        if row is None:
            return None
        if not is_intact(row.body, row.checksum, record_bytes(self._parameters)):
            raise self._damaged("the record of a template is damaged", f"pack {pack}, slot {slot} of {name}")
        return Record(row.body, row.by_device)

    def _damaged(self, message: str, where: str) -> IntegrityError:
        return IntegrityError(message, got=where, expected=REMEDY, party=self._party)
