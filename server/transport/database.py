"""SQLite through SQLAlchemy Core, set up so that what is committed survives a power cut."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, MetaData, create_engine, event, inspect
from sqlalchemy.exc import DatabaseError, OperationalError

from veilmatch.crypto.errors import ConfigurationError, IntegrityError

#: How long a connection waits for another one to finish writing.
_BUSY_TIMEOUT_S = 5.0

_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA secure_delete=ON",
)


def open_database(path: Path, metadata: MetaData) -> Engine:
    """Return an engine for the file, mode 0600, made with its tables if new.

    Raises IntegrityError if it is damaged or has other tables, ConfigurationError if it cannot be opened and written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise ConfigurationError("a database cannot be opened", got=f"{path}: {error.strerror}") from None
    connecting = {"check_same_thread": False, "timeout": _BUSY_TIMEOUT_S}
    engine = create_engine(f"sqlite:///{path}", connect_args=connecting)
    event.listen(engine, "connect", _on_connect)
    try:
        metadata.create_all(engine)
        _require_tables(engine, metadata, path.name)
    except OperationalError as error:
        # Locked, read-only, full: nothing that speaks against the contents.
        raise ConfigurationError("a database cannot be used", got=f"{path}: {error.orig}") from error
    except DatabaseError as error:
        raise IntegrityError("a database is damaged", got=path.name, expected="a SQLite database") from error
    return engine


def _require_tables(engine: Engine, metadata: MetaData, name: str) -> None:
    found = inspect(engine)
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
