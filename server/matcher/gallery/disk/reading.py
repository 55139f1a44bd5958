"""What is committed in the galleries of one matcher, read from its database.

`store.Store` writes. Methods block, each in a transaction of its own; any thread may call.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, select

from veilmatch.crypto.errors import IntegrityError, UnknownGalleryError
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.server.matcher.gallery.disk.backends.base import Database
from veilmatch.server.matcher.gallery.disk.checks import (
    REMEDY,
    DamagedRecord,
    damaged_records,
    is_intact,
    pack_bytes,
    record_bytes,
)
from veilmatch.server.matcher.gallery.disk.rows import (
    Place,
    find_entry,
    find_gallery,
    model_of,
    of,
    results_after,
    retired_slots,
    subjects_at,
    visible,
)
from veilmatch.server.matcher.gallery.disk.schema import contents, packs, templates
from veilmatch.server.matcher.gallery.mutation import LogEntry, Record

#: As text: every verification asks this, and SQLAlchemy takes a millisecond to put it together.
_SEQUENCE = "SELECT id, sequence FROM galleries WHERE name = ?"
_RECORD = """
    SELECT body, checksum, by_device FROM templates LEFT JOIN contents ON contents.id = templates.content_id
    WHERE gallery_id = ? AND pack = ? AND slot = ? AND added_in <= ?
"""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Records of a gallery as change number `sequence` left them, by (pack, slot): those that are there."""

    sequence: int
    by_place: Mapping[Place, Record] = field(repr=False)

    def at(self, place: Place) -> Record:
        """Return the record of the template in this slot. Raises IntegrityError if the slot is free."""
        found = self.by_place.get(place)
        if found is None:
            raise IntegrityError("a slot is not occupied", got=place)
        return found


class Detail(NamedTuple):
    """What is known of a template beside its ciphertexts; as in schema.templates."""

    subject: str
    pack: int
    slot: int
    sequence: int
    by_device: bool
    terms: bytes
    asked_day: int


def template_details(connection: Connection, gallery: Row[Any], subject: str = "") -> Iterator[Detail]:
    """See `Reader.details`."""
    t, which = templates.c, visible(templates, gallery)
    query = select(t.subject, t.pack, t.slot, t.added_in, t.by_device, t.terms, t.asked_day)
    query = query.where(which & (t.subject == subject) if subject else which)
    query = query.order_by(t.subject, t.pack, t.slot)
    for row in connection.execute(query, execution_options={"yield_per": 1000}):
        yield Detail(*row)


class Reader:
    """Questions about what is committed. party: whose database it is, for the error that says that it is damaged."""

    def __init__(self, database: Database, parameters: ParameterSet, party: str | None) -> None:
        self._database = database
        self._parameters = parameters
        self._party = party

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
            for expected, row in enumerate(connection.execute(query, execution_options={"yield_per": 1})):
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
            for row in connection.execute(query, execution_options={"yield_per": 1000}):
                yield row.pack, row.slot, row.subject

    def subjects_at(self, name: str, places: Collection[Place]) -> dict[Place, str]:
        """Return the subject of each of these (pack, slot) that holds a template."""
        with self._database.reading() as connection:
            return subjects_at(connection, find_gallery(connection, name), places)

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
        return self.records(name, [(pack, slot)]).at((pack, slot))

    def records(self, name: str, places: Sequence[Place]) -> Snapshot:
        """Return the records of the templates at these places; free slots have none.

        Raises IntegrityError if one of them is damaged.
        """
        found, size = dict[Place, Record](), record_bytes(self._parameters)
        with self._database.reading_fast() as ask:
            gallery = ask(_SEQUENCE, (name,))
            if gallery is None:
                raise UnknownGalleryError("no such gallery", got=name[:60])
            number, sequence = gallery
            for place in places:
                row = ask(_RECORD, (number, *place, sequence))
                if row is None:
                    continue
                body, checksum, by_device = row
                if not is_intact(body, checksum, size):
                    where = f"pack {place[0]}, slot {place[1]} of {name}"
                    raise self._damaged("the record of a template is damaged", where)
                found[place] = Record(body, bool(by_device))
        return Snapshot(sequence, found)

    def packs_at(self, name: str, numbers: Sequence[int]) -> list[tuple[int, bytes]]:
        """Return (number, content) of those of these packs that are there, ascending. Few: all are in memory.

        Raises IntegrityError if one is damaged.
        """
        size = pack_bytes(self._parameters)
        with self._database.reading() as connection:
            query = select(packs.c.pack, contents.c.body, contents.c.checksum)
            query = query.join(contents, contents.c.id == packs.c.content_id).order_by(packs.c.pack)
            at = visible(packs, find_gallery(connection, name)) & packs.c.pack.in_(numbers)
            rows = connection.execute(query.where(at)).all()
        for row in rows:
            if not is_intact(row.body, row.checksum, size):
                raise self._damaged("a pack of the gallery is damaged", f"pack {row.pack} of {name}")
        return [(row.pack, row.body) for row in rows]

    def templates_at(self, name: str, pack: int, slots: Sequence[int]) -> list[tuple[int, str, bytes, bytes]]:
        """Return (slot, subject, record, encoded terms) of those of these slots of a pack that are occupied, ascending.

        Raises IntegrityError if a record is damaged.
        """
        size, t = record_bytes(self._parameters), templates.c
        with self._database.reading() as connection:
            query = select(t.slot, t.subject, t.terms, contents.c.body, contents.c.checksum)
            query = query.join(contents, contents.c.id == t.content_id).order_by(t.slot)
            at = visible(templates, find_gallery(connection, name)) & (t.pack == pack) & t.slot.in_(slots)
            rows = connection.execute(query.where(at)).all()
        for row in rows:
            if not is_intact(row.body, row.checksum, size):
                where = f"pack {pack}, slot {row.slot} of {name}"
                raise self._damaged("the record of a template is damaged", where)
        return [(row.slot, row.subject, row.body, row.terms) for row in rows]

    def details(self, name: str, subject: str = "") -> Iterator[Detail]:
        """Yield every template, ascending by subject, then place; of one subject if that is named.

        As for `packs`: exhaust or close it.
        """
        with self._database.reading() as connection:
            yield from template_details(connection, find_gallery(connection, name), subject)

    def terms(self, name: str, places: Collection[Place]) -> dict[Place, bytes]:
        """Return the encoded terms of each of these (pack, slot) that holds a template."""
        t = templates.c
        with self._database.reading() as connection:
            query = select(t.pack, t.slot, t.terms).where(visible(templates, find_gallery(connection, name)))
            rows = connection.execute(query.where(t.pack.in_({pack for pack, _ in places})))
            return {(row.pack, row.slot): row.terms for row in rows if (row.pack, row.slot) in places}

    def damaged_records(self, name: str) -> list[DamagedRecord]:
        """Return every template whose record `record` would refuse; reads all of them."""
        with self._database.reading() as connection:
            return list(damaged_records(connection, find_gallery(connection, name), self._parameters))

    def _damaged(self, message: str, where: str) -> IntegrityError:
        return IntegrityError(message, got=where, expected=REMEDY, party=self._party)
