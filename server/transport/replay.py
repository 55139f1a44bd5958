"""Which requests were served before: nonces, kept durably until their request has expired.

Every server keeps its own log. A nonce is written with fsync before anything is answered, so a
replay is refused after a crash as well.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import BigInteger, Column, Connection, LargeBinary, MetaData, Table, delete, insert
from sqlalchemy.exc import IntegrityError as DuplicateRow

from veilmatch.crypto.errors import RequestReplayedError
from veilmatch.server.transport.database import open_database

_metadata = MetaData()
_nonces = Table(
    "nonces",
    _metadata,
    Column("nonce", LargeBinary, primary_key=True),
    Column("expires_at_ms", BigInteger, nullable=False, index=True),
)
_PRUNE_EVERY = 256


class ReplayLog:
    """The nonces of one server, in `replay.db` of its data directory. Used from several threads."""

    def __init__(self, data_dir: Path, now: Callable[[], float] = time.time) -> None:
        self._engine = open_database(data_dir / "replay.db", _metadata)
        self._now = now
        self._since_prune = _PRUNE_EVERY

    def register(self, nonce: bytes, expires_at_ms: int) -> None:
        """Note the nonce durably. Raises RequestReplayedError if it is there already."""
        try:
            with self._engine.begin() as connection:
                connection.execute(insert(_nonces).values(nonce=nonce, expires_at_ms=expires_at_ms))
                self._since_prune += 1
                if self._since_prune > _PRUNE_EVERY:
                    self._prune(connection)
        except DuplicateRow:
            raise RequestReplayedError("this request was served before", expected="a fresh nonce") from None

    def close(self) -> None:
        """Close the database."""
        self._engine.dispose()

    def _prune(self, connection: Connection) -> None:
        # An expired request is refused for its expiry, so its nonce need not be remembered; the
        # margin covers a clock that is set back.
        margin_ms = 3_600_000
        connection.execute(delete(_nonces).where(_nonces.c.expires_at_ms < int(self._now() * 1000) - margin_ms))
        self._since_prune = 0
