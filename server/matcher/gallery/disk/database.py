"""The database of a matcher's galleries: how it is opened, made, brought up, and what is refused.

It is gallery.db in a data directory, or a PostgreSQL database; backends/base.py says what both can do.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from sqlalchemy import Connection, insert, select, update

from veilmatch.crypto.errors import IntegrityError, KeyMismatchError
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.server.config import GalleriesIn
from veilmatch.server.ground.database import said_upgraded
from veilmatch.server.matcher.gallery.disk import schema
from veilmatch.server.matcher.gallery.disk.backends.base import Database, is_new
from veilmatch.server.matcher.gallery.disk.backends.postgres import PostgresDatabase
from veilmatch.server.matcher.gallery.disk.backends.sqlite import FILE_NAME, SqliteDatabase

__all__ = [
    "FILE_NAME",
    "Database",
    "is_rotating",
    "is_there",
    "mark_finished",
    "open_beside",
    "open_database",
    "place_of",
]


def open_database(where: GalleriesIn, key_id: bytes, parameters: ParameterSet, *, rotating: bool = False) -> Database:
    """Open the database to read and write; of files, made with mode 0600 (the folder 0700) if it does not exist.

    It is brought to the last revision, in one transaction with everything that is looked at. rotating: a new one is
    marked as one that a rotation is filling; without it, one that is marked is refused. Raises KeyMismatchError if it
    belongs to another key or parameter set; IntegrityError if it is damaged, not a gallery database, or of a newer
    version; StorageError if it cannot be opened; ConfigurationError if another daemon has it, or a server is not set up
    for it.
    """
    with ExitStack() as undone:
        database = _connected(where)
        undone.callback(database.close)
        with database.upgrading() as connection:
            was_new = is_new(connection)
            database.require_usable(connection)
            is_behind = not schema.REVISIONS.is_at_head(connection, database.name)
            dangling = database.dangling(connection) if is_behind else 0
            found = schema.REVISIONS.bring_to_head(connection, database.name)
            if is_behind and database.dangling(connection) > dangling:
                raise IntegrityError("the gallery database cannot be brought up", got="rows that name none")
            if was_new:
                values = {"id": 1, "key_id": key_id, "parameter_set": parameters.name, "rotating": rotating}
                connection.execute(insert(schema.identity).values(**values))
            if is_rotating(connection) and not rotating:
                raise IntegrityError(
                    "the rotation of this gallery is not complete", expected="`veilmatch rotate` until it is done"
                )
            _require_key(connection, key_id, parameters)
        if is_behind and not was_new:
            said_upgraded(database.name, found, schema.REVISIONS)
        undone.pop_all()
    return database


def open_beside(where: GalleriesIn) -> Database:
    """Open the database to read, while the matcher that it belongs to has it open, or not."""
    if isinstance(where, Path):
        return SqliteDatabase(where / FILE_NAME, reads_only=True)
    return PostgresDatabase(where, reads_only=True)


def is_there(where: GalleriesIn) -> bool:
    """Return whether a database was made there. Raises StorageError if a server cannot be asked."""
    if isinstance(where, Path):
        return (where / FILE_NAME).exists()
    database = open_beside(where)
    try:
        with database.reading() as connection:
            return not is_new(connection)
    finally:
        database.close()


def place_of(where: GalleriesIn) -> str:
    """Return where the database is, for people: the path of a file, or an URL, which has no password."""
    return str(where / FILE_NAME if isinstance(where, Path) else where)


def is_rotating(connection: Connection) -> bool:
    """Return whether a rotation is filling the database."""
    return bool(connection.scalar(select(schema.identity.c.rotating)))


def mark_finished(connection: Connection) -> None:
    """Take the mark of a rotation away, at the end of the transaction."""
    connection.execute(update(schema.identity).values(rotating=False))


def _connected(where: GalleriesIn) -> Database:
    return SqliteDatabase(where / FILE_NAME) if isinstance(where, Path) else PostgresDatabase(where)


def _require_key(connection: Connection, key_id: bytes, parameters: ParameterSet) -> None:
    columns = select(schema.identity.c.key_id, schema.identity.c.parameter_set)
    stored = connection.execute(columns).one_or_none()
    if stored is None:
        raise IntegrityError("the gallery database does not say whose it is")
    if stored.parameter_set != parameters.name:
        raise KeyMismatchError(
            "the gallery database is of another parameter set",
            got=stored.parameter_set,
            expected=parameters.name,
        )
    if stored.key_id != key_id:
        raise KeyMismatchError("the gallery database is of another key", got=stored.key_id.hex(), expected=key_id.hex())
