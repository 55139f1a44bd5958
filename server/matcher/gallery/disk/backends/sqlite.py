"""gallery.db as a file: how it is opened, and what its errors become.

SQLite in WAL mode with synchronous=FULL: a transaction that has returned survives a power cut.
secure_delete overwrites what is erased; `forget_erased` does the same for the write-ahead log.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError

from veilmatch.crypto.errors import IntegrityError, StorageError, VeilmatchError
from veilmatch.server.ground.database import CONNECTION_CACHE_KIB, POOL, Statements, typed
from veilmatch.server.matcher.gallery.disk.backends.base import BUSY_TIMEOUT_S, Ask, Database, is_new

FILE_NAME = "gallery.db"
#: Marks the file as ours in `file(1)`: "veil"; and one that a rotation was filling before revision 0006: "veir".
APPLICATION_ID, ROTATING_ID = 0x7665696C, 0x76656972
#: The last version whose changes have no certificates; they are not changed where they lie.
UNCERTIFIED_VERSION = 4

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
    f"cache_size = -{CONNECTION_CACHE_KIB}",
)
_BEGIN = "veilmatch_begin"
#: From so many pages of 4 KiB on a commit moves the write-ahead log into the file: SQLite's default.
_LOG_PAGES = 1000
#: A reader that is still there after this long does not hold up a commit.
_CHECKPOINT_WAIT_MS = 1000


class SqliteDatabase(Database):
    """An open gallery.db.

    reads_only: for another process than the matcher's, of the same machine: SQLite's write-ahead log is shared memory.
    """

    def __init__(self, path: Path, *, reads_only: bool = False) -> None:
        super().__init__(FILE_NAME)
        if not reads_only:
            _make_private(path)
        self._engine = _engine(path, reads_only=reads_only)
        self._writing = self._engine.execution_options(**{_BEGIN: "BEGIN IMMEDIATE"})
        self._bare = self._engine.execution_options(**{_BEGIN: None})
        self._statements = Statements(self._engine)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """See Database."""
        with self.translated(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def reading_fast(self) -> Iterator[Ask]:
        """In SQLite's own words; see Database."""
        try:
            with self.translated(), self._statements.reading() as connection:

                def ask(statement: str, values: Sequence[Any]) -> Any:
                    return connection.execute(statement, values).fetchone()

                yield ask
        except sqlite3.Error as error:  # what `Statements` has no type for
            raise _damaged(error) from None

    @contextmanager
    def writing(self, *, moves_log: bool = True) -> Iterator[Connection]:
        """See Database: by moves_log, whether a long write-ahead log is moved into the file."""
        with self.translated(), self._writing.connect() as connection, connection.begin() as transaction:
            connection.exec_driver_sql(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES if moves_log else 0}")
            yield connection
            with self.committing():
                transaction.commit()

    @contextmanager
    def upgrading(self) -> Iterator[Connection]:
        """See Database."""
        with self.translated(), self._writing.connect() as connection:
            # Not changed within a transaction: a table that is made anew must not take with it what names it.
            connection.connection.cursor().execute("PRAGMA foreign_keys = OFF")
            try:
                with connection.begin():
                    yield connection
            finally:
                connection.connection.cursor().execute("PRAGMA foreign_keys = ON")

    def forget_erased(self) -> None:
        """Move the write-ahead log into the file and empty it, so that it holds no erased record.

        Does nothing while another transaction reads; the next call then does it.
        """
        with self.translated(), self._bare.connect() as connection:
            connection.exec_driver_sql(f"PRAGMA busy_timeout = {_CHECKPOINT_WAIT_MS}")
            try:
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").all()
            finally:
                connection.exec_driver_sql(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1000}")

    def require_usable(self, connection: Connection) -> None:
        """Raise IntegrityError if it is damaged, not ours, or of a version whose changes have no certificates."""
        if is_new(connection):
            connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")
            return
        require_certified(connection)
        if connection.exec_driver_sql("PRAGMA quick_check(1)").scalar() != "ok":
            raise IntegrityError("the gallery database is damaged", got="quick_check")

    def dangling(self, connection: Connection) -> int:
        """See Database."""
        return len(connection.exec_driver_sql("PRAGMA foreign_key_check").all())

    def pragma(self, name: str) -> object:
        """Return the value of a setting of the connections."""
        with self.translated(), self._bare.connect() as connection:
            return connection.exec_driver_sql(f"PRAGMA {name}").scalar()

    def close(self) -> None:
        """See Database."""
        self._engine.dispose()

    def typed(self, error: DBAPIError) -> VeilmatchError:
        """See Database."""
        return typed_of_file(error)


def typed_of_file(error: DBAPIError) -> VeilmatchError:
    """Return what an error of SQLite about a gallery.db is here."""
    return typed(error, FILE_NAME) or _damaged(error.orig)


def require_certified(connection: Connection) -> None:
    """Raise IntegrityError if a file is not one of ours, or of a version without certificates."""
    if connection.exec_driver_sql("PRAGMA application_id").scalar() not in (APPLICATION_ID, ROTATING_ID):
        raise IntegrityError("the file is not a gallery database")
    version = connection.exec_driver_sql("PRAGMA user_version").scalar()
    if isinstance(version, int) and version <= UNCERTIFIED_VERSION:
        raise IntegrityError(
            "the gallery database is of a version whose changes have no certificates",
            got=version,
            expected=f"version {UNCERTIFIED_VERSION + 1} or later, which `veilmatch move` makes of it",
        )


def _damaged(error: BaseException | None) -> IntegrityError:
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    return IntegrityError("the gallery database is damaged", got=name)


def _engine(path: Path, *, reads_only: bool) -> Engine:
    place = f"file:{quote(str(path))}?mode=ro&uri=true" if reads_only else str(path)
    engine = create_engine(f"sqlite:///{place}", hide_parameters=True, **POOL)

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
