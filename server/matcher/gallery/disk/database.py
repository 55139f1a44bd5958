"""gallery.db as a file: how it is opened, what is refused, and what its errors become.

SQLite in WAL mode with synchronous=FULL: a transaction that has returned survives a power cut.
secure_delete overwrites what is erased; `truncate_wal` does the same for the write-ahead log.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event, insert, select
from sqlalchemy.exc import DBAPIError

from veilmatch.crypto.errors import IntegrityError, KeyMismatchError, StorageError, VeilmatchError
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.server.ground.database import Statements, typed
from veilmatch.server.matcher.gallery.disk import schema
from veilmatch.server.matcher.gallery.disk.upgrade import require_certified

FILE_NAME = "gallery.db"
#: Shorter than devices wait for an answer by default (15 s), so that whose database is locked is still told.
BUSY_TIMEOUT_S = 8

_PRAGMAS = (
    # Three records of the default parameter set fill a page; only a new file takes this.
    "page_size = 8192",
    f"busy_timeout = {BUSY_TIMEOUT_S * 1000}",
    "journal_mode = WAL",
    "synchronous = FULL",
    "secure_delete = ON",
    "foreign_keys = ON",
    "temp_store = MEMORY",
    "trusted_schema = OFF",
    "cell_size_check = ON",
)
_BEGIN = "veilmatch_begin"


class Database:
    """One open gallery.db. Any number of threads may use it; each transaction has its own connection.

    reads_only: for another process than the matcher's, of the same machine: SQLite's write-ahead log is shared memory.
    """

    def __init__(self, path: Path, *, reads_only: bool = False) -> None:
        self._engine = _engine(path, reads_only=reads_only)
        self._writing = self._engine.execution_options(**{_BEGIN: "BEGIN IMMEDIATE"})
        self._bare = self._engine.execution_options(**{_BEGIN: None})
        self._statements = Statements(self._engine)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that sees one state. Errors: see `translated`."""
        with translated(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def reading_fast(self) -> Iterator[sqlite3.Connection]:
        """`reading` in SQLite's own words, for what every verification goes through; see `Statements`."""
        with translated(), self._statements.reading() as connection:
            yield connection

    @contextmanager
    def writing(self, *, moves_log: bool = True) -> Iterator[Connection]:
        """A transaction: durable when the block has ended, undone if it ends by an exception.

        moves_log: whether its end may move a long write-ahead log into the file; without it, it takes a moment.
        """
        with translated(), self._writing.begin() as connection:
            connection.exec_driver_sql(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES if moves_log else 0}")
            yield connection

    def truncate_wal(self) -> None:
        """Move the write-ahead log into the file and empty it, so that it holds no erased record.

        Does nothing while another transaction reads; the next call then does it.
        """
        with translated(), self._bare.connect() as connection:
            connection.exec_driver_sql(f"PRAGMA busy_timeout = {_CHECKPOINT_WAIT_MS}")
            try:
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").all()
            finally:
                connection.exec_driver_sql(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1000}")

    def pragma(self, name: str) -> object:
        """Return the value of a setting of the connections."""
        with translated(), self._bare.connect() as connection:
            return connection.exec_driver_sql(f"PRAGMA {name}").scalar()

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()


#: From so many pages of 4 KiB on a commit moves the write-ahead log into the file: SQLite's default.
_LOG_PAGES = 1000
#: A reader that is still there after this long does not hold up a commit.
_CHECKPOINT_WAIT_MS = 1000


def open_database(data_dir: Path, key_id: bytes, parameters: ParameterSet, *, rotating: bool = False) -> Database:
    """Open gallery.db in `data_dir`, made with mode 0600 (the folder 0700) if it does not exist.

    rotating: a new one is marked as one that a rotation is filling; without it, one that is marked is refused.
    Raises KeyMismatchError if it belongs to another key or parameter set; IntegrityError if it is
    damaged, not a gallery database, or of a newer version; StorageError if it cannot be opened.
    """
    path = data_dir / FILE_NAME
    _make_private(path)
    database = Database(path)
    try:
        with database.writing() as connection:
            if _is_new(connection):
                _initialise(connection, key_id, parameters, schema.ROTATING_ID if rotating else schema.APPLICATION_ID)
            if is_rotating(connection) and not rotating:
                raise IntegrityError(
                    "the rotation of this gallery is not complete", expected="`veilmatch rotate` until it is done"
                )
            _check(connection, key_id, parameters)
    except VeilmatchError:
        database.close()
        raise
    return database


def is_rotating(connection: Connection) -> bool:
    """Return whether a rotation is filling the database."""
    return connection.exec_driver_sql("PRAGMA application_id").scalar() == schema.ROTATING_ID


def mark_finished(connection: Connection) -> None:
    """Take the mark of a rotation away, at the end of the transaction."""
    connection.exec_driver_sql(f"PRAGMA application_id = {schema.APPLICATION_ID}")


@contextmanager
def translated() -> Iterator[None]:
    """Let errors of the database leave as IntegrityError (it is damaged) or StorageError (all others).

    The original is dropped: its text quotes statements.
    """
    try:
        yield
    except DBAPIError as error:
        raise typed(error, FILE_NAME) or _damaged(error.orig) from None
    except sqlite3.Error as error:  # what `Statements` has no type for
        raise _damaged(error) from None


def _damaged(error: BaseException | None) -> IntegrityError:
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    return IntegrityError("the gallery database is damaged", got=name)


def _engine(path: Path, *, reads_only: bool) -> Engine:
    place = f"file:{quote(str(path))}?mode=ro&uri=true" if reads_only else str(path)
    engine = create_engine(f"sqlite:///{place}", hide_parameters=True)

    @event.listens_for(engine, "connect")
    def _configure(connection: sqlite3.Connection, _record: object) -> None:
        # The driver would begin transactions by itself, and too late for reads.
        connection.isolation_level = None
        for pragma in _PRAGMAS:
            if not reads_only or not pragma.startswith("journal_mode"):
                connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # IMMEDIATE for writers: a reader that turns writer fails at once instead of waiting.
        begin = connection.get_execution_options().get(_BEGIN, "BEGIN")
        if begin is not None:
            connection.exec_driver_sql(begin)

    return engine


def _make_private(path: Path) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        path.chmod(0o600)  # -wal and -shm are made with the same mode
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise StorageError("the gallery database cannot be used", available=os.strerror(error.errno or 0)) from None


def _is_new(connection: Connection) -> bool:
    return connection.exec_driver_sql("SELECT count(*) FROM sqlite_schema").scalar() == 0


def _initialise(connection: Connection, key_id: bytes, parameters: ParameterSet, application_id: int) -> None:
    schema.metadata.create_all(connection)
    connection.execute(insert(schema.identity).values(id=1, key_id=key_id, parameter_set=parameters.name))
    connection.exec_driver_sql(f"PRAGMA application_id = {application_id}")
    connection.exec_driver_sql(f"PRAGMA user_version = {schema.SCHEMA_VERSION}")


def _check(connection: Connection, key_id: bytes, parameters: ParameterSet) -> None:
    ours = (schema.APPLICATION_ID, schema.ROTATING_ID)
    if connection.exec_driver_sql("PRAGMA application_id").scalar() not in ours:
        raise IntegrityError("the file is not a gallery database")
    require_certified(connection)
    version = connection.exec_driver_sql("PRAGMA user_version").scalar()
    if version != schema.SCHEMA_VERSION:
        raise IntegrityError("the gallery database is of another version", got=version, expected=schema.SCHEMA_VERSION)
    if connection.exec_driver_sql("PRAGMA quick_check(1)").scalar() != "ok":
        raise IntegrityError("the gallery database is damaged", got="quick_check")
    stored = connection.execute(select(schema.identity.c.key_id, schema.identity.c.parameter_set)).one_or_none()
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
