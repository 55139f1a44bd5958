"""How often this key holder takes part in refreshes: its own operator's, and those that a peer leads.

A key can be refreshed 65,534 times, and each refresh costs both pairs of a holder their stock and a pause. Without a
limit one deviating leader would use them up (docs/security-argument.md). So, in any span as long as the interval:

- one refresh of each leader that is used here. It takes an epoch, and that cannot be given back;
- three of each leader that are begun here, whatever becomes of them. One that fails takes no epoch. An honest leader
  whose refresh failed, because a peer went down in the middle of it, say, tries again at once, and once more; a
  deviating one gets no more work done for it than that. What fails before it has begun, because somebody is missing
  or has something unfinished, counts nowhere.

The operator's own refreshes are held to the same, and counted after the peers have counted them: what is let through
here is let through there, unless their interval is longer.

Counted durably, in `pace.db` of the data directory, by a clock that never goes back (ground/clock.py): neither a
restart nor another clock lets anybody begin sooner.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    LargeBinary,
    MetaData,
    String,
    Table,
    delete,
    select,
    update,
)
from sqlalchemy.dialects.sqlite import insert

from veilmatch.crypto.errors import ProtocolError, RefreshIntervalError, StorageError
from veilmatch.crypto.keys.parties import Party
from veilmatch.server.ground.clock import LatestTime
from veilmatch.server.ground.database import open_database
from veilmatch.server.ground.revisions import Revisions
from veilmatch.server.keyholder.peers import party_name

#: Refreshes of one leader that may be begun in an interval, if none of them is used.
BEGUN_AT_MOST = 3
#: Longer than any interval can be.
_KEPT_MS = 31 * 86_400_000

_REVISIONS = Revisions.of("pace")
_metadata = MetaData()
_clock = LatestTime(_metadata)
_begun = Table(
    "begun",
    _metadata,
    Column("refresh_id", LargeBinary, primary_key=True),
    Column("leader", String, nullable=False),
    Column("begun_ms", BigInteger, nullable=False, index=True),
    Column("used", Boolean, nullable=False),
)


class Pace:
    """The refreshes that one key holder has taken part in. Blocks; not for two threads at once."""

    def __init__(self, data_dir: Path, party: Party, interval_s: float, now: Callable[[], float] = time.time) -> None:
        """party: whose; interval_s: above 0, at most 30 days."""
        self._engine = open_database(data_dir / "pace.db", _metadata, _REVISIONS)
        self._party: Party = party
        self._interval_s = interval_s
        self._now = now

    def require(self, leader: Party) -> None:
        """Raise RefreshIntervalError if a refresh of this leader may not begin now; its fields say when it may."""
        with self._writing() as connection:
            self._require(connection, leader)

    def begin(self, leader: Party, refresh_id: bytes) -> None:
        """Count a refresh of a peer durably, or raise RefreshIntervalError as `require` does, and count nothing.

        Raises ProtocolError for one that was counted before, StorageError if it cannot be counted.
        """
        with self._writing() as connection:
            now_ms = self._require(connection, leader)
            if not self._count(connection, leader, refresh_id, now_ms):
                raise ProtocolError("a refresh that was begun before", got=refresh_id[:16].hex())

    def note(self, refresh_id: bytes) -> None:
        """Count a refresh that is led here, which `require` has let through."""
        with self._writing() as connection:
            self._count(connection, self._party, refresh_id, _clock.advance(connection, self._now()))

    def use(self, refresh_id: bytes) -> None:
        """Note that the keys of a refresh are used here."""
        with self._writing() as connection:
            connection.execute(update(_begun).where(_begun.c.refresh_id == refresh_id).values(used=True))

    def close(self) -> None:
        """Close the database."""
        self._engine.dispose()

    def _require(self, connection: Connection, leader: Party) -> int:
        now_ms, interval_ms = _clock.advance(connection, self._now()), int(self._interval_s * 1000)
        recent = select(_begun.c.begun_ms, _begun.c.used).where(
            _begun.c.leader == leader, _begun.c.begun_ms > now_ms - interval_ms
        )
        rows = connection.execute(recent.order_by(_begun.c.begun_ms)).all()
        # What has to be over before another one begins.
        blocking = [begun_ms for begun_ms, used in rows if used]
        if len(rows) >= BEGUN_AT_MOST:
            blocking.append(rows[-BEGUN_AT_MOST].begun_ms)
        if blocking:
            raise RefreshIntervalError(
                f"{party_name(self._party)} takes part in no other refresh led by {party_name(leader)} yet",
                budget=f"refreshes led by {party_name(leader)} in {self._interval_s:g} s: one that is used, "
                f"or {BEGUN_AT_MOST} that are begun",
                limit=1 if any(used for _, used in rows) else BEGUN_AT_MOST,
                retry_after_s=(max(blocking) + interval_ms - now_ms) / 1000,
                got=len(rows),
            )
        return now_ms

    @staticmethod
    def _count(connection: Connection, leader: Party, refresh_id: bytes, now_ms: int) -> bool:
        connection.execute(delete(_begun).where(_begun.c.begun_ms < now_ms - _KEPT_MS))
        row = insert(_begun).values(refresh_id=refresh_id, leader=leader, begun_ms=now_ms, used=False)
        return connection.execute(row.on_conflict_do_nothing()).rowcount == 1

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except StorageError as error:
            raise StorageError(
                "refreshes cannot be counted, so none is begun",
                party=party_name(self._party), needed="a database that can be written",
                available=error.got,
            ) from None  # fmt: skip
