"""A clock in a database that never goes back: while the machine's is behind the latest time seen, that time holds.

A clock that is set back therefore gives nothing away of what is limited by time; one that ran ahead and is set right
again stops time until it has caught up. A restart changes neither.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Connection, Integer, MetaData, Table, select
from sqlalchemy.dialects.sqlite import insert


class LatestTime:
    """The table `clock` of a database, with the latest time that was seen."""

    def __init__(self, metadata: MetaData) -> None:
        """metadata: of the database; the table is added to it."""
        table = Table(
            "clock", metadata, Column("id", Integer, primary_key=True), Column("latest_ms", BigInteger, nullable=False)
        )
        # Made once: making a statement takes longer than running it.
        self._latest = select(table.c.latest_ms)
        note = insert(table)
        self._note = note.on_conflict_do_update(index_elements=["id"], set_={"latest_ms": note.excluded.latest_ms})

    def read(self, connection: Connection, now_s: float) -> int:
        """Return the time in ms since 1970. now_s: what the machine's clock says, in seconds."""
        return max(connection.execute(self._latest).scalar() or 0, int(now_s * 1000))

    def advance(self, connection: Connection, now_s: float) -> int:
        """Return the time in ms since 1970, and note it. now_s: as for `read`."""
        now_ms = self.read(connection, now_s)
        connection.execute(self._note, {"id": 1, "latest_ms": now_ms})
        return now_ms
