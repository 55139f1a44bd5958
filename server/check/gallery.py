"""A matcher's galleries: packs and records against their checksums, the log against the chain, slots, references."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, select

from veilmatch.crypto.digests import digest
from veilmatch.crypto.encryption.paillier import PublicKey
from veilmatch.crypto.errors import IntegrityError
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.server.check.databases import check_mode, check_pages, reading, reading_galleries
from veilmatch.server.check.report import Report
from veilmatch.server.check.sizes import note_searches
from veilmatch.server.config import GalleriesIn
from veilmatch.server.matcher.gallery.disk import schema
from veilmatch.server.matcher.gallery.disk.backends.sqlite import FILE_NAME, require_certified
from veilmatch.server.matcher.gallery.disk.checks import check_chain, check_named, damaged_packs, damaged_records
from veilmatch.server.matcher.gallery.disk.database import place_of
from veilmatch.server.matcher.gallery.disk.rows import retired_slots, state_of, visible
from veilmatch.server.matcher.gallery.index import SlotIndex

REMEDY = (
    "stop this matcher, move gallery.db away and take a copy of the others with `veilmatch gallery fetch --restored`: "
    "docs/backup.md, a matcher is lost"
)
_MENDED = "stop this matcher, replace it by that of another one with `veilmatch gallery mend`, and start it again"
_SERVED = "other pairs verify and erase this subject meanwhile; " + _MENDED


def check_galleries(where: GalleriesIn, key: PublicKey | None, names: Collection[str], report: Report) -> None:
    """Look at everything in a database of galleries, in one state of it.

    key: whose it should be, None if nobody says. names: of the galleries that should be there.
    """
    path = place_of(where)
    if isinstance(where, Path):
        check_mode(where / FILE_NAME, report)
    with report.finding(path, REMEDY), _opened(where, report) as connection:
        key_id, parameters = _identity(connection, key)
        rows = connection.execute(select(schema.galleries).order_by(schema.galleries.c.name)).all()
        for gallery in rows:
            _check_gallery(connection, gallery, key_id, parameters, path, report)
        for missing in sorted(set(names) - {gallery.name for gallery in rows}):
            report.notes.append(f"{path} has no gallery {missing}: it is made at the next start")


@contextmanager
def _opened(where: GalleriesIn, report: Report) -> Iterator[Connection]:
    if not isinstance(where, Path):
        with reading_galleries(where) as connection:
            yield connection
        return
    # What SQLite says of it is told in its words, every page of it.
    path = where / FILE_NAME
    with reading(path) as connection:
        check_pages(connection, path, REMEDY, report)
        require_certified(connection)
        schema.REVISIONS.require_head(connection, FILE_NAME)
        yield connection


def _identity(connection: Connection, key: PublicKey | None) -> tuple[bytes, ParameterSet]:
    """Return key id and parameter set. Raises IntegrityError if the database does not say, or says another."""
    row = connection.execute(select(schema.identity)).one_or_none()
    if row is None:
        raise IntegrityError("it does not say whose it is")
    if key is not None and (row.key_id, row.parameter_set) != (key.key_id, key.parameters.name):
        raise IntegrityError(
            "of another key or parameter set",
            got=f"key {bytes(row.key_id).hex()}, {row.parameter_set}",
            expected=f"key {key.key_id.hex()}, {key.parameters.name}",
        )
    return bytes(row.key_id), ParameterSet.from_name(row.parameter_set)


def _check_gallery(
    connection: Connection, gallery: Row[Any], key_id: bytes, parameters: ParameterSet, path: str, report: Report
) -> None:
    name = f"gallery {gallery.name}"
    with report.finding(path, REMEDY, f"{name}, log"):
        leaves = check_chain(connection, gallery, key_id, parameters)
        with report.finding(path, _MENDED, f"{name}, packs"):
            check_named(connection, gallery, leaves)
    with report.finding(path, REMEDY, f"{name}, packs"):
        for pack in damaged_packs(connection, gallery, parameters):
            where = f"{name}, pack {pack.pack} (row {pack.row} of contents)"
            report.found(path, where, "the pack is not what was written", _MENDED)
    with report.finding(path, _SERVED, f"{name}, records"):
        for record in damaged_records(connection, gallery, parameters):
            where = f"{name}, pack {record.pack}, slot {record.slot}, a template of {record.subject}"
            what = "the record of the template is not what was written"
            report.found(path, f"{where} (row {record.row} of contents)", what, _SERVED)
    with report.finding(path, REMEDY, f"{name}, index"):
        numbers = list(connection.scalars(_numbers(gallery)))
        if numbers != list(range(len(numbers))):
            gap = next(at for at, number in enumerate(numbers) if at != number)
            raise IntegrityError("a pack is missing, or there twice", got=numbers[gap], expected=gap)
        t = schema.templates.c
        query = select(t.pack, t.slot, t.subject).where(visible(schema.templates, gallery)).order_by(t.pack, t.slot)
        places = [(row.pack, row.slot, row.subject) for row in connection.execute(query)]
        index = SlotIndex.load(parameters.slots, len(numbers), places, retired_slots(connection, gallery))
        report.saw(
            path,
            f"{name}: {len(numbers)} packs, {len(index)} templates, {state_of(gallery)}, "
            f"fingerprint {_fingerprint(connection, gallery)[:16]}",
        )
        note_searches(gallery.name, len(index), len(index.asked().packs), parameters, report)


def _numbers(gallery: Row[Any]) -> Any:
    return select(schema.packs.c.pack).where(visible(schema.packs, gallery)).order_by(schema.packs.c.pack)


def _fingerprint(connection: Connection, gallery: Row[Any]) -> str:
    """Return a digest of every template's place, subject and record, and of every pack: the same at all matchers.

    A subject's name has no checksum. That one was changed shows only here, when copies are compared.
    """
    h = hashlib.sha256(digest("gallery fingerprint", gallery.name, gallery.sequence, gallery.chain))
    for table, columns in (
        (schema.templates, ("pack", "slot", "subject", "by_device", "added_in")),
        (schema.packs, ("pack", "added_in")),
        (schema.retired, ("pack", "slot", "added_in")),
    ):
        query = select(*(table.c[name] for name in columns)).where(visible(table, gallery))
        if "content_id" in table.c:
            query = query.join(schema.contents, schema.contents.c.id == table.c.content_id)
            query = query.add_columns(schema.contents.c.checksum)
        query = query.order_by(*(table.c[name] for name in columns))
        h.update(digest("table", table.name))
        for row in connection.execute(query, execution_options={"yield_per": 1000}):
            h.update(digest("row", *row))
    return h.hexdigest()
