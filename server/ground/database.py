"""SQLite through SQLAlchemy Core, set up so that what is committed survives a power cut.

Errors of the disk and of the file leave every engine made here as errors of ours; see `typed`.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import Connection, Engine, MetaData, create_engine, event, inspect
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError

from veilmatch.crypto.errors import ConfigurationError, IntegrityError, StorageError, VeilmatchError
from veilmatch.server.ground.revisions import Revisions

_log = structlog.get_logger(__name__)

#: How long a connection waits for another one to finish writing. Several such waits, and what a request takes beside
#: them, have to fit into `peer_timeout_s` (5 s), so that whoever asks hears whose database is locked.
_BUSY_TIMEOUT_S = 1.0
#: A database that was locked for so long is not written to for as long again: what waits behind one write that failed
#: fails at once, and does not wait in its turn.
_LOCKED_S = 1.0
#: Larger databases are not read through at the start.
_LOOKED_THROUGH_BYTES = 1 << 28

#: Connections of a file that stay open when nobody uses them, and the most at once, which whoever needs another one
#: waits for. One has the file and its log open, and keeps pages of it that it has read in memory, up to so much.
CONNECTIONS_KEPT, CONNECTIONS_MOST = 3, 15
CONNECTION_CACHE_KIB = 2000
#: How the connections of a file are kept. The last one that was given back goes first: under little load the others
#: are never made, and what they would keep in memory is there once.
POOL: dict[str, Any] = {
    "pool_size": CONNECTIONS_KEPT, "max_overflow": CONNECTIONS_MOST - CONNECTIONS_KEPT, "pool_use_lifo": True,
}  # fmt: skip

#: Of SQLite, for a lock that another connection holds; SQLITE_BUSY_SNAPSHOT and its like begin so.
_BUSY = "SQLITE_BUSY"
#: SQLITE_ERROR: tables that are not there any more.
_CORRUPT = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)
#: Of the statement, not of the disk: whoever made it knows what to say.
_OF_THE_STATEMENT = (sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_RANGE)

_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA secure_delete=ON",
    f"PRAGMA cache_size=-{CONNECTION_CACHE_KIB}",
)


def open_database(path: Path, metadata: MetaData, revisions: Revisions) -> Engine:
    """Return an engine for the file, mode 0600, made if new and brought to the last revision: whole, or left alone.

    metadata: its tables, as the last revision has them. Raises IntegrityError if it is damaged, is newer than this code
    or has other tables, ConfigurationError if it cannot be opened and written.
    """
    return _opened(path, lambda engine: _bring_up(engine, metadata, revisions, path.name))


def open_earlier(path: Path, metadata: MetaData) -> Engine:
    """The same for a file that only earlier versions wrote to: it has no revisions, and gets none."""

    def make_whole(engine: Engine) -> None:
        metadata.create_all(engine)
        with engine.connect() as connection:
            _require_tables(connection, metadata, path.name)

    return _opened(path, make_whole)


def said_upgraded(name: str, found: str | None, revisions: Revisions) -> None:
    """Log that a database that was there was brought up. found: its revision, None if it had none."""
    in_log("database brought up", database=name, found=found or "before revisions", revision=revisions.head)


def in_log(event: str, **fields: str) -> None:
    """Log what became of a database, in a daemon. Commands, which open some too, have no log but standard output."""
    if structlog.is_configured():
        _log.info(event, **fields)


def _opened(path: Path, prepare: Callable[[Engine], None]) -> Engine:
    """Return an engine for the file, mode 0600, after `prepare`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise ConfigurationError("a database cannot be opened", got=f"{path}: {error.strerror}") from None
    connecting = {"check_same_thread": False, "timeout": _BUSY_TIMEOUT_S}
    engine = create_engine(f"sqlite:///{path}", connect_args=connecting, **POOL)
    patience = _Patience(path.name)
    event.listen(engine, "connect", _on_connect)

    @event.listens_for(engine, "handle_error")
    def _typed(context: ExceptionContext) -> None:
        if isinstance(context.sqlalchemy_exception, DBAPIError):
            found = typed(context.sqlalchemy_exception, path.name)
            if found is not None:
                patience.lost_by(found)
                # The original is dropped: its text quotes statements and values.
                context.is_disconnect = False
                raise found from None

    @event.listens_for(engine, "before_cursor_execute")
    def _not_locked(_connection: Any, _cursor: Any, _text: str, _values: Any, context: Any, _many: bool) -> None:
        writes = context is not None and (context.isinsert or context.isupdate or context.isdelete)
        if writes:
            patience.require()

    try:
        if path.stat().st_size <= _LOOKED_THROUGH_BYTES:
            _require_sound(engine, path.name)
        prepare(engine)
    except StorageError as error:
        # Locked, read-only, full: nothing that speaks against the contents.
        raise ConfigurationError("a database cannot be used", got=f"{path}: {error.available}") from error
    except VeilmatchError:
        engine.dispose()
        raise
    return engine


def _bring_up(engine: Engine, metadata: MetaData, revisions: Revisions, name: str) -> None:
    with engine.begin() as connection:
        if not revisions.is_at_head(connection, name):
            # Alone from here on: SQLite undoes tables as well, but its driver begins no transaction for them.
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            was_there = bool(inspect(connection).get_table_names())
            found = revisions.bring_to_head(connection, name)
            if was_there:
                said_upgraded(name, found, revisions)
        _require_tables(connection, metadata, name)


class Statements:
    """Transactions in SQLite's own words, for what every request goes through. Used from several threads.

    SQLAlchemy takes some 50 us for a statement that SQLite answers in 7. engine: as `open_database` returns it; errors
    leave as from there.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._name = Path(str(engine.url.database)).name
        self._patience = _Patience(self._name)

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Give a transaction that alone may write, from its begin on; it is durable when this ends without an error."""
        self._patience.require()
        with self._transaction("BEGIN IMMEDIATE") as connection:
            yield connection
            connection.commit()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Give a transaction that sees one state of the database."""
        with self._transaction("BEGIN") as connection:
            yield connection

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        try:
            # Back in the pool, a connection is rolled back.
            with closing(self._engine.raw_connection()) as pooled:
                connection = pooled.driver_connection
                assert isinstance(connection, sqlite3.Connection)
                connection.execute(begin)
                yield connection
        except sqlite3.Error as error:
            if (found := _typed_as(error, self._name)) is None:
                raise
            self._patience.lost_by(found)
            raise found from None


class _Patience:
    """Whether a database may be waited for. name: of its file."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._locked_until_s = 0.0

    def lost_by(self, error: VeilmatchError) -> None:
        """Note an error: if the database was locked, it is not waited for again soon."""
        if isinstance(error, StorageError) and str(error.available).startswith(_BUSY):
            self._locked_until_s = time.monotonic() + _LOCKED_S

    def require(self) -> None:
        """Raise StorageError if the database was locked a moment ago."""
        if time.monotonic() < self._locked_until_s:
            raise _unusable(self._name, _BUSY)


def typed(error: DBAPIError, name: str) -> VeilmatchError | None:
    """Return what an error of SQLite is here, None if it speaks of the statement and not of the disk or the file.

    name: of the file. IntegrityError if the file is damaged; StorageError, saying what SQLite calls it (SQLITE_FULL,
    SQLITE_IOERR_WRITE, SQLITE_READONLY, SQLITE_BUSY ...), for what a disk or another process does.
    """
    return _typed_as(error.orig, name)


def _typed_as(error: BaseException | None, name: str) -> VeilmatchError | None:
    code = getattr(error, "sqlite_errorcode", None)
    if not isinstance(code, int) or code & 0xFF in _OF_THE_STATEMENT:
        return None
    if code & 0xFF in _CORRUPT:
        return IntegrityError("a database is damaged", got=name, expected="a SQLite database")
    return _unusable(name, getattr(error, "sqlite_errorname", "an error of the disk"))


def _unusable(name: str, why: str) -> StorageError:
    return StorageError(f"{name} cannot be read or written", needed="a database that can be written", available=why)


def _require_sound(engine: Engine, name: str) -> None:
    """Raise IntegrityError if any page contradicts itself: a request that meets it later would be the first to know."""
    with engine.connect() as connection:
        said = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
    if said != "ok":
        raise IntegrityError("a database is damaged", got=f"{name}: {said}", expected="a sound SQLite database")


def _require_tables(connection: Connection, metadata: MetaData, name: str) -> None:
    found = inspect(connection)
    for table in metadata.sorted_tables:
        columns, expected = {column["name"] for column in found.get_columns(table.name)}, set(table.columns.keys())
        if columns != expected:
            raise IntegrityError(
                f"a table of {name} is of another version", got=sorted(columns), expected=sorted(expected)
            )


def _on_connect(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    for pragma in _PRAGMAS:
        cursor.execute(pragma)
    cursor.close()
