"""What earlier versions kept in two databases, replay.db and budgets.db: read once, and carried over into the ledger.

Nothing is lost and nothing is counted twice, whenever the server is killed. An earlier file is given a number of its
own; in one transaction the ledger takes over what the file holds, and its number; then the file is deleted. A start
that finds a file whose number the ledger has goes on with deleting it. One that an earlier version has made since has
no number, and is carried over in its turn.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from sqlalchemy import BigInteger, Column, MetaData, String, Table

from veilmatch.server.admission import budgets, replay
from veilmatch.server.admission.budgets import ADD_USED
from veilmatch.server.admission.replay import note_forgotten
from veilmatch.server.ground.database import Statements, open_earlier
from veilmatch.server.installation.files import sync_folder

#: The table of files that were carried over.
carried_over = MetaData()
Table(
    "carried_over",
    carried_over,
    Column("file", String, primary_key=True),
    Column("number", BigInteger, primary_key=True),
)
_ADD_NONCES = "INSERT OR IGNORE INTO nonces (nonce, expires_at_ms) VALUES (?, ?)"
_ADD_CLOCK = """
    INSERT INTO clock (id, latest_ms) VALUES (1, ?)
    ON CONFLICT (id) DO UPDATE SET latest_ms = max(latest_ms, excluded.latest_ms)
"""
_FILES_BESIDE = ("-wal", "-shm")


def carry_over(data_dir: Path, ledger: Statements) -> None:
    """Carry over what is in earlier databases of this directory, and delete them.

    Raises IntegrityError if one is damaged, ConfigurationError or StorageError if one cannot be read or numbered: then
    it is as it was.
    """
    for name, metadata, copy in (
        ("replay.db", replay.metadata, _copy_nonces),
        ("budgets.db", budgets.metadata, _copy_counts),
    ):
        if (path := data_dir / name).exists():
            _carry_over(path, metadata, copy, ledger)


def _carry_over(
    path: Path,
    metadata: MetaData,
    copy: Callable[[sqlite3.Connection, sqlite3.Connection], None],
    ledger: Statements,
) -> None:
    engine = open_earlier(path, metadata)
    try:
        earlier = Statements(engine)
        number = _number(earlier)
        with earlier.reading() as source, ledger.writing() as connection:
            found = connection.execute("SELECT 1 FROM carried_over WHERE file = ? AND number = ?", (path.name, number))
            if found.fetchone() is None:
                copy(source, connection)
                connection.execute("INSERT INTO carried_over (file, number) VALUES (?, ?)", (path.name, number))
    finally:
        engine.dispose()
    # The name of the ledger has to be on disk before the last name of what it holds goes.
    sync_folder(path.parent)
    # The file last: one that is made anew must find nothing beside it.
    for file in (*(path.with_name(path.name + beside) for beside in _FILES_BESIDE), path):
        file.unlink(missing_ok=True)


def _number(earlier: Statements) -> int:
    """Return the number of a file, which is given to it if it has none."""
    with earlier.writing() as connection:
        (number,) = connection.execute("PRAGMA user_version").fetchone()
        if number == 0:
            number = 1 + secrets.randbelow(2**31 - 1)
            connection.execute(f"PRAGMA user_version = {number}")
    return int(number)


def _copy_nonces(source: sqlite3.Connection, ledger: sqlite3.Connection) -> None:
    with closing(source.execute("SELECT nonce, expires_at_ms FROM nonces")) as rows:
        ledger.executemany(_ADD_NONCES, rows)
    for (before_ms,) in source.execute("SELECT before_ms FROM forgotten"):
        note_forgotten(ledger, before_ms)


def _copy_counts(source: sqlite3.Connection, ledger: sqlite3.Connection) -> None:
    with closing(source.execute('SELECT scope, name, measure, "window", part, amount FROM used')) as rows:
        ledger.executemany(ADD_USED, rows)
    for (latest_ms,) in source.execute("SELECT latest_ms FROM clock"):
        ledger.execute(_ADD_CLOCK, (latest_ms,))
