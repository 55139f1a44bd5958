"""The file of what a matcher has received of changes that it lacks: its tables, and how it comes and goes.

    file = StagingFile(data_dir, scope)    # one for each gallery, as long as the process lives
    engine = file.opened()
    file.close()                           # what is in it stays
    file.remove()

A matcher that follows others makes one for every few changes. To put an engine together, and the tables by their
revisions, takes more than all that is then done with them, and leaves thousands of objects that lead to each other,
memory until Python looks for cycles of garbage. So both are made once: a file is made again from the bytes of an empty
one. A file that is there, from before or after a failure, is looked at as any other database is.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Column, Engine, Index, Integer, LargeBinary, MetaData, Table, Text, event

from veilmatch.crypto.digests import digest
from veilmatch.crypto.errors import ConfigurationError, IntegrityError, StorageError
from veilmatch.server.ground.database import open_database
from veilmatch.server.ground.revisions import Revisions
from veilmatch.server.matcher.agreement.certificates import Scope

#: Folder of the data directory.
FOLDER = "catching-up"
_REVISIONS = Revisions.of("staging")

metadata = MetaData()
#: One row: what is staged here, and the state that the log follows on.
base = Table(
    "base",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("scope", LargeBinary, nullable=False),
    Column("sequence", Integer, nullable=False),
    Column("chain", LargeBinary, nullable=False),
)
log = Table(
    "log",
    metadata,
    Column("sequence", Integer, primary_key=True),
    Column("chain", LargeBinary, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("certificate", LargeBinary, nullable=False),
)
#: What the log names and what is there at its end; data: NULL until it is received.
packs = Table(
    "packs",
    metadata,
    Column("pack", Integer, primary_key=True),
    Column("leaf", LargeBinary, nullable=False),
    Column("added_in", Integer, nullable=False),
    Column("data", LargeBinary),
)
templates = Table(
    "templates",
    metadata,
    Column("pack", Integer, primary_key=True),
    Column("slot", Integer, primary_key=True),
    Column("leaf", LargeBinary, nullable=False),
    Column("added_in", Integer, nullable=False),
    Column("subject", Text),
    Column("data", LargeBinary),
    Column("terms", LargeBinary, nullable=False, default=b""),
)
for _table, _place in ((packs, ("pack",)), (templates, ("pack", "slot"))):
    Index(f"{_table.name}_by_leaf", _table.c.leaf)
    # So that what is missing is found without a walk over what is there.
    Index(f"{_table.name}_missing", *(_table.c[name] for name in _place), sqlite_where=_table.c.data.is_(None))


class StagingFile:
    """See the module. scope: of the gallery. One thread at a time. All raise StorageError if it cannot be used."""

    def __init__(self, data_dir: Path, scope: Scope) -> None:
        self.scope = scope
        self._path = data_dir / FOLDER / f"{digest('staged', scope.gallery, scope.key_id).hex()[:16]}.db"
        self._engine: Engine | None = None
        #: Of a file in which there is nothing yet, b"" until one was made.
        self._empty = b""

    def opened(self) -> Engine:
        """Return an engine for the file, which is made if it is not there.

        One that is damaged, or newer than this code, is made anew: whatever was in it can be had again.
        """
        with _kept():
            if self._engine is not None and self._empty and not self._path.exists():
                self._write_empty()
                return self._engine
            was_there = self._path.exists()
            try:
                engine = self._looked_at()
            except IntegrityError:
                self._unlink()
                engine, was_there = self._looked_at(), False
            if not was_there:
                with closing(sqlite3.connect(self._path)) as connection:
                    self._empty = connection.serialize()
            self._engine = engine
            return engine

    def close(self) -> None:
        """Close every connection; what is in the file stays."""
        if self._engine is not None:
            self._engine.dispose()

    def remove(self) -> None:
        """Close it, and remove it."""
        self.close()
        self._unlink()

    def _looked_at(self) -> Engine:
        self.close()
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        engine = open_database(self._path, metadata, _REVISIONS)

        @event.listens_for(engine, "connect")
        def _configure(connection: Any, _record: object) -> None:
            # A kill loses nothing; after a power cut the last parts are asked for again.
            connection.execute("PRAGMA synchronous = NORMAL")

        engine.dispose()  # connections from before do not have it
        return engine

    def _write_empty(self) -> None:
        self._unlink()  # logs that one which was deleted by hand has left would be taken for this one's
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        self._path.write_bytes(self._empty)

    def _unlink(self) -> None:
        for end in ("", "-wal", "-shm"):
            self._path.with_name(self._path.name + end).unlink(missing_ok=True)


@contextmanager
def _kept() -> Iterator[None]:
    try:
        yield
    except ConfigurationError as error:
        raise StorageError("what is caught up cannot be kept", needed="a disk", available=error.got) from error
    except OSError as error:
        raise StorageError("what is caught up cannot be kept", needed="a disk", available=error.strerror) from None
