"""The galleries of a matcher in a backup: a gallery.db with one state of them, of a file or a PostgreSQL database.

Rows are copied, not pages: what was erased is in no row, and a copy fits either kind of database. What is put back is
marked, in the transaction that puts it there, as a copy that has forgotten what its organisation has signed since: it
takes part in nothing before it has met the others (`follow.fetching`).
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import Connection, func, insert, select, update

from veilmatch.crypto.encryption.paillier import PublicKey
from veilmatch.crypto.errors import ConfigurationError, IntegrityError, KeyMismatchError, StorageError
from veilmatch.server.backup.manifest import GalleryEntry
from veilmatch.server.backup.parts import GALLERIES
from veilmatch.server.check.databases import reading, reading_galleries
from veilmatch.server.config import GalleriesIn, MatcherSettings
from veilmatch.server.matcher.gallery.disk import schema
from veilmatch.server.matcher.gallery.disk.database import (
    is_rotating,
    is_there,
    mark_finished,
    open_database,
    place_of,
)
from veilmatch.server.matcher.gallery.mutation import initial_chain

#: Rows in memory at once; a pack of the default set has 96 kB.
_ROWS_AT_ONCE = 64


def take(where: GalleriesIn, key: PublicKey, into: Path) -> list[GalleryEntry]:
    """Write one state of all galleries to a new gallery.db in `into`, while the matcher may serve.

    Raises ConfigurationError if there are none, or a rotation is filling them; KeyMismatchError if they are of another
    key, IntegrityError if they are damaged, StorageError if they cannot be read or written.
    """
    if not is_there(where):
        raise ConfigurationError("there are no galleries to take", got=place_of(where))
    with reading_galleries(where) as source:
        if source.scalar(select(schema.identity.c.key_id)) != key.key_id:
            raise KeyMismatchError("the gallery database is of another key", expected=key.key_id.hex())
        if is_rotating(source):
            raise ConfigurationError("a rotation is filling these galleries", expected="one that is complete")
        target = open_database(into, key.key_id, key.parameters)
        try:
            with target.writing() as connection:
                _copy(source, connection)
        finally:
            target.close()
    # Readers of the other mode would make files beside it.
    try:
        with closing(sqlite3.connect(into / GALLERIES)) as connection_:
            connection_.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.Error as error:
        raise StorageError(
            "the backup cannot be written", needed=str(into), available=getattr(error, "sqlite_errorname", "?")
        ) from None
    return entries_of(into)


def entries_of(folder: Path) -> list[GalleryEntry]:
    """Return what the gallery.db of a backup holds, sorted by name. Raises IntegrityError."""
    g = schema.galleries.c
    with reading_galleries(folder) as connection:
        rows = connection.execute(select(g.name, g.sequence, g.chain).order_by(g.name))
        return [GalleryEntry(name=row.name, sequence=row.sequence, chain=bytes(row.chain).hex()) for row in rows]


@contextmanager
def as_this_version(folder: Path, key: PublicKey) -> Iterator[Path]:
    """Give a folder with the gallery.db of a backup as this version has it; the backup itself stays as it is.

    Raises IntegrityError if it is newer than this program or damaged, KeyMismatchError if it is of another key.
    """
    with reading(folder / GALLERIES) as connection:
        is_current = schema.REVISIONS.is_at_head(connection, GALLERIES)
    if is_current:
        yield folder
        return
    with TemporaryDirectory(prefix="veilmatch-") as temporary:
        shutil.copyfile(folder / GALLERIES, Path(temporary) / GALLERIES)
        open_database(Path(temporary), key.key_id, key.parameters).close()
        yield Path(temporary)


def put(folder: Path, key: PublicKey, settings: MatcherSettings) -> None:
    """Put the galleries of a backup into the matcher's own place, where there must be none.

    All appear at once, marked as restored: also one of the configuration that is not in the backup. If that is
    interrupted, no daemon starts with what is left.
    """
    where, parameters = settings.galleries_in, key.parameters
    require_none(where)
    with as_this_version(folder, key) as taken, reading_galleries(taken) as source:
        # Whatever is refused as half filled by a rotation is refused while this is not done.
        target = open_database(where, key.key_id, parameters, rotating=True)
        try:
            with target.writing() as connection:
                _copy(source, connection)
                there = set(connection.scalars(select(schema.galleries.c.name)))
                for name in sorted(set(settings.galleries) - there):
                    chain = initial_chain(name, key.key_id, parameters)
                    connection.execute(insert(schema.galleries).values(name=name, sequence=0, chain=chain))
                connection.execute(update(schema.galleries).values(unmet="".join(sorted(settings.peers))))
                mark_finished(connection)
        finally:
            target.close()


def require_none(where: GalleriesIn) -> None:
    """Raise ConfigurationError if there are galleries."""
    if is_there(where):
        raise ConfigurationError(
            "there are galleries already",
            got=place_of(where),
            expected="no gallery database there",
            hint="Nothing is written over. Stop the daemon and move gallery.db, gallery.db-wal and gallery.db-shm away"
            " (of PostgreSQL: take an empty database), then restore again.",
        )


def _copy(source: Connection, target: Connection) -> None:
    for table in schema.metadata.sorted_tables:
        if table is schema.identity:
            continue
        rows = source.execute(select(table), execution_options={"yield_per": _ROWS_AT_ONCE})
        for part in rows.mappings().partitions():
            target.execute(insert(table), [dict(row) for row in part])
        if target.dialect.name == "postgresql" and "id" in table.c:
            # Its own numbers go on after those that were given.
            own = func.pg_get_serial_sequence(table.name, "id")
            target.execute(select(func.setval(own, func.max(table.c.id))))
    if target.dialect.name == "sqlite":
        broken = target.exec_driver_sql("PRAGMA foreign_key_check").fetchone()
        if broken is not None:
            raise IntegrityError("the galleries are damaged", got=f"a row of {broken[0]} names none of {broken[2]}")
