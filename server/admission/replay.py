"""Which requests were served before: nonces, kept durably until their request has expired.

Every server keeps its own, in its ledger (ledger.py). A nonce is on disk before anything is answered, so a replay is
refused after a crash as well.

Time never goes back here, as in budgets.py: how far nonces were forgotten is written down with it, and no request that
had expired by then is taken, whatever the clock says later. A clock that ran ahead and was set right again costs the
requests whose nonces may have been forgotten meanwhile; without it they could be served twice.
"""

from __future__ import annotations

import sqlite3

from sqlalchemy import BigInteger, Column, Integer, LargeBinary, MetaData, Table

from veilmatch.crypto.errors import RequestReplayedError, WrongClockError

#: The tables of nonces.
metadata = MetaData()
Table(
    "nonces",
    metadata,
    Column("nonce", LargeBinary, primary_key=True),
    Column("expires_at_ms", BigInteger, nullable=False, index=True),
)
#: One row: the nonces of requests that expired before this may be forgotten.
Table("forgotten", metadata, Column("id", Integer, primary_key=True), Column("before_ms", BigInteger, nullable=False))

#: Nonces are kept for so much longer than their requests are served, for a clock that is set back a little.
_MARGIN_MS = 3_600_000
_NOTE_FORGOTTEN = """
    INSERT INTO forgotten (id, before_ms) VALUES (1, ?)
    ON CONFLICT (id) DO UPDATE SET before_ms = max(before_ms, excluded.before_ms)
"""


class Nonces:
    """The nonces of one server as one transaction sees them, with those that it adds."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._forgotten_before_ms = forgotten_before_ms(connection)
        self._added: dict[bytes, int] = {}

    def require_new(self, nonce: bytes, expires_at_ms: int) -> None:
        """Raise RequestReplayedError if the nonce is there already, WrongClockError if it may have been there."""
        there = self._connection.execute("SELECT 1 FROM nonces WHERE nonce = ?", (nonce,)).fetchone()
        if nonce in self._added or there is not None:
            raise RequestReplayedError("this request was served before", expected="a fresh nonce")
        if expires_at_ms < self._forgotten_before_ms:
            raise WrongClockError(
                "the request had expired by the clock of this server, which was set back since",
                got=f"{(self._forgotten_before_ms - expires_at_ms) / 1000:.1f} s before",
                expected="a clock that has caught up",
            )

    def add(self, nonce: bytes, expires_at_ms: int) -> None:
        """Add a nonce that is new; it is there once `write` was called."""
        self._added[nonce] = expires_at_ms

    def write(self) -> None:
        """Write what was added."""
        self._connection.executemany("INSERT INTO nonces (nonce, expires_at_ms) VALUES (?, ?)", self._added.items())
        self._added.clear()


def prune_nonces(connection: sqlite3.Connection, now_s: float) -> None:
    """Forget nonces of requests that expired long ago, and write down how far."""
    before_ms = max(forgotten_before_ms(connection), int(now_s * 1000) - _MARGIN_MS)
    connection.execute("DELETE FROM nonces WHERE expires_at_ms < ?", (before_ms,))
    note_forgotten(connection, before_ms)


def forgotten_before_ms(connection: sqlite3.Connection) -> int:
    """Return how far nonces were forgotten: those of requests that expired before this, in ms since 1970."""
    row = connection.execute("SELECT before_ms FROM forgotten").fetchone()
    return int(row[0]) if row else 0


def note_forgotten(connection: sqlite3.Connection, before_ms: int) -> None:
    """Write down that nonces were forgotten so far, or further if they were."""
    connection.execute(_NOTE_FORGOTTEN, (before_ms,))
