"""Which answers were presented before: each counts once.

A store has to be shared by all processes that rely on the same key, or an answer counts once for each of them.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Protocol

from veilmatch.crypto.errors import StorageError

#: How long another process may hold the file.
_BUSY_S = 5.0
_NOTE_FORGOTTEN = """
    INSERT INTO forgotten (id, until) VALUES (1, ?) ON CONFLICT (id) DO UPDATE SET until = max(until, excluded.until)
"""


class Seen(Protocol):
    """Remembers ids until they have expired anyway."""

    def register(self, ids: Sequence[bytes], until_s: float, now_s: float) -> bool:
        """Remember all of these ids until a Unix time, and return True; False, and nothing more, if one was there.

        ids: 32 bytes each. In one step: of two calls with one id, one returns False. What was to be remembered until
        now_s or less may go. Then False is returned for all that might have gone with it: a clock that is set back
        brings nothing back.
        """


class MemorySeen:
    """In memory: for one process, and until it ends."""

    def __init__(self) -> None:
        self._until: dict[bytes, float] = {}
        #: What was to be remembered until then may be forgotten.
        self._forgotten = float("-inf")
        self._lock = threading.Lock()

    def register(self, ids: Sequence[bytes], until_s: float, now_s: float) -> bool:
        """See Seen."""
        with self._lock:
            self._forgotten = max(self._forgotten, now_s)
            for old in [one for one, until in self._until.items() if until <= self._forgotten]:
                del self._until[old]
            if until_s <= self._forgotten or any(one in self._until for one in ids):
                return False
            self._until.update(dict.fromkeys(ids, until_s))
            return True


class SqliteSeen:
    """In a file, for any number of processes of one machine; kept through restarts.

    Raises StorageError if the file cannot be used, here and in every call: what cannot be remembered must not count.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        with self._opened() as database:
            database.execute("CREATE TABLE IF NOT EXISTS seen (id BLOB PRIMARY KEY, until REAL NOT NULL) WITHOUT ROWID")
            # One row: what was to be remembered until then may be forgotten.
            database.execute("CREATE TABLE IF NOT EXISTS forgotten (id INTEGER PRIMARY KEY, until REAL NOT NULL)")

    def register(self, ids: Sequence[bytes], until_s: float, now_s: float) -> bool:
        """See Seen."""
        with self._opened() as database:
            database.execute("BEGIN IMMEDIATE")
            database.execute(_NOTE_FORGOTTEN, (now_s,))
            (forgotten,) = database.execute("SELECT until FROM forgotten").fetchone()
            database.execute("DELETE FROM seen WHERE until <= ?", (forgotten,))
            if until_s <= forgotten:
                database.execute("COMMIT")
                return False
            try:
                database.executemany("INSERT INTO seen VALUES (?, ?)", [(one, until_s) for one in ids])
            except sqlite3.IntegrityError:
                database.execute("ROLLBACK")
                return False
            database.execute("COMMIT")
            return True

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self._path, timeout=_BUSY_S, isolation_level=None)) as database:
                database.execute("PRAGMA synchronous = FULL")
                yield database
        except sqlite3.Error as error:
            raise StorageError(
                "what was presented before cannot be remembered",
                needed="a database that can be written",
                available=f"{self._path}: {error}",
            ) from None
