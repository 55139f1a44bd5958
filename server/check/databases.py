"""Databases of a running daemon, read and never written: no lock is taken that it would wait for."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.exc import DBAPIError

from veilmatch.server.check.report import Report
from veilmatch.server.config import GalleriesIn
from veilmatch.server.matcher.gallery.disk import schema
from veilmatch.server.matcher.gallery.disk.backends.sqlite import FILE_NAME, require_certified, typed_of_file
from veilmatch.server.matcher.gallery.disk.database import open_beside

#: A daemon that empties its write-ahead log is waited for.
_BUSY_TIMEOUT_S = 30.0
#: Contradictions that one database is said to have.
_LISTED = 20

#: Databases beside gallery.db and stock.db, and what to do if one is damaged. All steps with the daemon stopped.
REMEDIES = {
    "ledger.db": (
        "stop the daemon, wait max_request_lifetime_s + max_clock_skew_s (150 s), delete ledger.db, ledger.db-wal and "
        "ledger.db-shm, start it: its counts begin anew"
    ),
    # The two that an earlier version kept in its place, until they are carried over at a start.
    "replay.db": (
        "stop the daemon, wait max_request_lifetime_s + max_clock_skew_s (150 s), delete replay.db, replay.db-wal and "
        "replay.db-shm, start it"
    ),
    "budgets.db": (
        "stop the daemon, delete budgets.db, budgets.db-wal and budgets.db-shm, start it: its counts begin anew"
    ),
    "pace.db": "stop the daemon, delete pace.db, pace.db-wal and pace.db-shm, start it: a refresh may come sooner",
    "refresh.db": (
        "ask `veilmatch keyholder refresh --status`; if a refresh is in hand: docs/operations.md, going back to the "
        "old shares; else stop the daemon, delete refresh.db, refresh.db-wal and refresh.db-shm, start it"
    ),
}
MODE_REMEDY = "chmod 600 it; if others may have read it, treat it as read"


def check_database(path: Path, remedy: str, report: Report) -> None:
    """Look for contradictions in one database whose content says nothing by itself, and at its mode."""
    check_mode(path, report)
    with report.finding(path, remedy), reading(path) as connection:
        check_pages(connection, path, remedy, report)
        report.saw(path, "every page and index")


def check_pages(connection: Connection, path: Path, remedy: str, report: Report) -> None:
    """Look at every page, index and reference of a database. Raises DBAPIError if it is past that."""
    for (said,) in connection.exec_driver_sql(f"PRAGMA integrity_check({_LISTED})"):
        if said != "ok":
            report.found(path, "", f"SQLite says: {said}", remedy)
    for table, row, parent, _ in connection.exec_driver_sql("PRAGMA foreign_key_check").fetchmany(_LISTED):
        report.found(path, f"row {row} of {table}", f"names a row of {parent} that is not there", remedy)


def check_mode(path: Path, report: Report) -> None:
    """Find a database that anybody but its owner has a right to. Before it is read: that may make files beside it."""
    for file in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm"))):
        if file.exists() and (mode := stat.S_IMODE(file.stat().st_mode)) & 0o077:
            report.found(file, "", f"open to others: mode {mode:04o}, expected 0600", MODE_REMEDY)


@contextmanager
def reading(path: Path) -> Iterator[Connection]:
    """Give a transaction that sees one state of the database. Raises DBAPIError."""
    engine = create_engine("sqlite://", creator=lambda: _opened(path), hide_parameters=True)

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


@contextmanager
def reading_galleries(where: GalleriesIn) -> Iterator[Connection]:
    """The same for the galleries of a matcher. Raises errors of ours: IntegrityError also if they are not ours, or of
    another revision than this code reads."""
    if not isinstance(where, Path):
        database = open_beside(where)
        try:
            with database.reading() as connection:
                schema.REVISIONS.require_head(connection, database.name)
                yield connection
        finally:
            database.close()
        return
    try:
        with reading(where / FILE_NAME) as connection:
            require_certified(connection)
            schema.REVISIONS.require_head(connection, FILE_NAME)
            yield connection
    except DBAPIError as error:
        raise typed_of_file(error) from None


def _opened(path: Path) -> sqlite3.Connection:
    name = f"file:{quote(str(path.absolute()))}"
    try:
        return _probed(f"{name}?mode=ro")
    except sqlite3.OperationalError:
        # Of a read-only medium: SQLite cannot make the files that it reads beside a database in WAL mode.
        if path.with_name(path.name + "-wal").exists():
            raise
        return _probed(f"{name}?mode=ro&immutable=1")


def _probed(uri: str) -> sqlite3.Connection:
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=_BUSY_TIMEOUT_S)
    try:
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except sqlite3.Error:
        connection.close()
        raise
    return connection
