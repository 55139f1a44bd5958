"""The ledger of a server: which requests it has served, and how much of each budget they used.

    ledger.look(names, cost)                                  # refuses what would be refused now; writes nothing
    await asyncio.wrap_future(ledger.enter(Entry(nonce, expires_at_ms, names, cost)))

The nonce of a request and what it costs are one entry, on disk before anything is done for the request: both are
there, or neither. Requests that come together are entered in one transaction, with one sync of the disk
(gathering.py). Each of them is checked against those before it; one that is refused leaves nothing behind, and the
others do not notice.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import MetaData

from veilmatch.crypto.errors import BudgetExceededError, StorageError, VeilmatchError
from veilmatch.server.admission import budgets, replay
from veilmatch.server.admission.budgets import Budget, Charge, Counts, Left, charges_of, prune_counts
from veilmatch.server.admission.earlier_ledger import carried_over, carry_over
from veilmatch.server.admission.replay import Nonces, prune_nonces
from veilmatch.server.ground.database import Statements, open_database
from veilmatch.server.ground.gathering import Gathered, Outcome
from veilmatch.server.ground.revisions import Revisions
from veilmatch.server.monitoring import meters

#: Of the data directory.
LEDGER = "ledger.db"
#: So many requests are entered before what is no longer needed is deleted.
_PRUNE_EVERY = 256
_NOTE_TIME = "INSERT INTO clock (id, latest_ms) VALUES (1, ?) ON CONFLICT (id) DO UPDATE SET latest_ms = ?"

_REVISIONS = Revisions.of("ledger")
_metadata = MetaData()
for _part in (replay.metadata, budgets.metadata, carried_over):
    for _table in _part.sorted_tables:
        _table.to_metadata(_metadata)


@dataclass(frozen=True, slots=True)
class Entry:
    """One request. names: whose budgets it is charged to, by scope. cost: by measure, 0 if it is not in it."""

    nonce: bytes
    expires_at_ms: int
    names: Mapping[str, str] = field(default_factory=dict)
    cost: Mapping[str, int] = field(default_factory=dict)


class Ledger:
    """Nonces and budgets of one server, in `ledger.db` of its data directory. Used from several threads.

    party, alternatives: for the error if it cannot be read or written. Opening carries over what an earlier version
    kept in two databases.
    """

    def __init__(
        self,
        data_dir: Path,
        limits: list[Budget],
        party: str,
        alternatives: tuple[str, ...] = (),
        now: Callable[[], float] = time.time,
    ) -> None:
        self._engine = open_database(data_dir / LEDGER, _metadata, _REVISIONS)
        self._statements = Statements(self._engine)
        carry_over(data_dir, self._statements)
        self._limits = limits
        self._party, self._alternatives = party, alternatives
        self._now = now
        self._since_prune = _PRUNE_EVERY
        self._gathered: Gathered[Entry] = Gathered("ledger", self._write)

    def enter(self, entry: Entry) -> Future[None]:
        """Enter a request; the future is done once it is on disk.

        It has RequestReplayedError if the nonce is there already, WrongClockError if it may have been there,
        BudgetExceededError, naming the budget that keeps the request waiting longest, if one would be exceeded:
        then nothing of it is entered. StorageError if the ledger cannot be read or written.
        """
        return self._gathered.put(entry)

    def look(self, names: Mapping[str, str], cost: Mapping[str, int]) -> None:
        """Raise what `enter` would raise of budgets now: a request that passes here may still be refused there."""
        if charges := charges_of(self._limits, names, cost):
            try:
                with self._noting(), self._statements.reading() as connection:
                    Counts(connection, self._time_ms(connection)).require_room(charges)
            except BudgetExceededError as error:
                raise self._named(error) from None

    def look_at(self, entry: Entry) -> None:
        """Raise what `enter` would raise now of all of an entry, nonce and budgets, in one transaction."""
        with self._noting(), self._statements.reading() as connection:
            nonces, counts = Nonces(connection), Counts(connection, self._time_ms(connection))
            self._require_room(entry, charges_of(self._limits, entry.names, entry.cost), nonces, counts)

    def left(self, scope: str, name: str) -> list[Left]:
        """Return what somebody has used of each budget of a scope, "device" say. Raises StorageError."""
        with self._noting(), self._statements.reading() as connection:
            counts = Counts(connection, self._time_ms(connection))
            return [counts.left(budget, name) for budget in self._limits if budget.scope == scope]

    def close(self) -> None:
        """Write what waits, and close the database."""
        self._gathered.close()
        self._engine.dispose()

    def _write(self, entries: Sequence[Entry]) -> Sequence[Outcome]:
        with self._noting(), self._statements.writing() as connection:
            now_ms = self._time_ms(connection)
            connection.execute(_NOTE_TIME, (now_ms, now_ms))
            nonces, counts = Nonces(connection), Counts(connection, now_ms)
            outcomes = [self._outcome(entry, nonces, counts) for entry in entries]
            nonces.write()
            counts.write()
            self._prune(connection, len(entries), now_ms)
        return outcomes

    def _outcome(self, entry: Entry, nonces: Nonces, counts: Counts) -> Outcome:
        """Enter one request after those before it, unless it is refused."""
        charges = charges_of(self._limits, entry.names, entry.cost)
        try:
            self._require_room(entry, charges, nonces, counts)
        except VeilmatchError as error:  # those of the disk are of all of them, and not typed yet
            return error
        nonces.add(entry.nonce, entry.expires_at_ms)
        counts.add(charges)
        meters.charged(entry.names, entry.cost)
        return None

    def _require_room(self, entry: Entry, charges: Sequence[Charge], nonces: Nonces, counts: Counts) -> None:
        nonces.require_new(entry.nonce, entry.expires_at_ms)
        try:
            counts.require_room(charges)
        except BudgetExceededError as error:
            raise self._named(error) from None

    def _named(self, error: BudgetExceededError) -> BudgetExceededError:
        error.party = self._party
        return error

    def _prune(self, connection: sqlite3.Connection, entered: int, now_ms: int) -> None:
        self._since_prune += entered
        if self._since_prune > _PRUNE_EVERY:
            prune_nonces(connection, self._now())
            prune_counts(connection, now_ms)
            self._since_prune = 0

    def _time_ms(self, connection: sqlite3.Connection) -> int:
        """Return the time in ms since 1970; see clock.py."""
        row = connection.execute("SELECT latest_ms FROM clock").fetchone()
        return max(row[0] if row else 0, int(self._now() * 1000))

    @contextmanager
    def _noting(self) -> Iterator[None]:
        try:
            yield
        except StorageError as error:
            raise StorageError(
                "nonces and budgets cannot be noted, so nothing is served",
                party=self._party,
                needed="a database that can be written",
                available=error.got,
                alternatives=self._alternatives,
            ) from None
