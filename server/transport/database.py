"""SQLite through SQLAlchemy Core, set up so that what is committed survives a power cut."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, MetaData, create_engine, event
from sqlalchemy.exc import DatabaseError

from veilmatch.crypto.errors import IntegrityError

_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA secure_delete=ON",
    "PRAGMA busy_timeout=5000",
)


def open_database(path: Path, metadata: MetaData) -> Engine:
    """Return an engine for the file, mode 0600, made with its tables if new. Raises IntegrityError if it is damaged."""
    path.parent.mkdir(parents=True, exist_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    engine = create_engine(f"sqlite:///{path}", connect_args={"check_same_thread": False})
    event.listen(engine, "connect", _on_connect)
    try:
        metadata.create_all(engine)
    except DatabaseError as error:
        raise IntegrityError("a database is damaged", got=path.name, expected="a SQLite database") from error
    return engine


def _on_connect(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    for pragma in _PRAGMAS:
        cursor.execute(pragma)
    cursor.close()
