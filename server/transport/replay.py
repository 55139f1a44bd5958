"""Which requests were served before: nonces, kept durably until their request has expired.

Every server keeps its own log. A nonce is written with fsync before anything is answered, so a
replay is refused after a crash as well.

Time never goes back here, as in budgets.py: how far nonces were forgotten is written down with it, and no request that
had expired by then is taken, whatever the clock says later. A clock that ran ahead and was set right again costs the
requests whose nonces may have been forgotten meanwhile; without it they could be served twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import BigInteger, Column, Connection, Integer, LargeBinary, MetaData, Table, delete, select
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import IntegrityError as DuplicateRow

from veilmatch.crypto.errors import RequestReplayedError, WrongClockError
from veilmatch.server.transport.database import open_database

_metadata = MetaData()
_nonces = Table(
    "nonces",
    _metadata,
    Column("nonce", LargeBinary, primary_key=True),
    Column("expires_at_ms", BigInteger, nullable=False, index=True),
)
#: One row: the nonces of requests that expired before this may be forgotten.
_forgotten = Table(
    "forgotten", _metadata, Column("id", Integer, primary_key=True), Column("before_ms", BigInteger, nullable=False)
)
_PRUNE_EVERY = 256
#: Nonces are kept for so much longer than their requests are served, for a clock that is set back a little.
_MARGIN_MS = 3_600_000


class ReplayLog:
    """The nonces of one server, in `replay.db` of its data directory. Used from several threads."""

    def __init__(self, data_dir: Path, now: Callable[[], float] = time.time) -> None:
        self._engine = open_database(data_dir / "replay.db", _metadata)
        self._now = now
        self._since_prune = _PRUNE_EVERY

    def register(self, nonce: bytes, expires_at_ms: int) -> None:
        """Note the nonce durably.

        Raises RequestReplayedError if it is there already, WrongClockError if it may have been there.
        """
        try:
            with self._engine.begin() as connection:
                # First, because it takes the lock for writing: nothing is forgotten until this ends.
                connection.execute(insert(_nonces).values(nonce=nonce, expires_at_ms=expires_at_ms))
                if expires_at_ms < self._forgotten_before_ms(connection):
                    raise WrongClockError(
                        "the request had expired by the clock of this server, which was set back since",
                        got=f"{(self._forgotten_before_ms(connection) - expires_at_ms) / 1000:.1f} s before",
                        expected="a clock that has caught up",
                    )
                self._since_prune += 1
                if self._since_prune > _PRUNE_EVERY:
                    self._prune(connection)
        except DuplicateRow:
            raise RequestReplayedError("this request was served before", expected="a fresh nonce") from None

    def close(self) -> None:
        """Close the database."""
        self._engine.dispose()

    def _prune(self, connection: Connection) -> None:
        """Forget nonces of requests that expired long ago, and write down how far."""
        before_ms = max(self._forgotten_before_ms(connection), int(self._now() * 1000) - _MARGIN_MS)
        connection.execute(delete(_nonces).where(_nonces.c.expires_at_ms < before_ms))
        statement = insert(_forgotten).values(id=1, before_ms=before_ms)
        connection.execute(statement.on_conflict_do_update(index_elements=["id"], set_={"before_ms": before_ms}))
        self._since_prune = 0

    def _forgotten_before_ms(self, connection: Connection) -> int:
        return connection.execute(select(_forgotten.c.before_ms)).scalar() or 0
