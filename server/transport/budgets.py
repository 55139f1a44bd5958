"""Budgets: how much a device, a subject or a gallery gets in a minute, an hour, a day and 30 days.

    budgets.admit({"device": "door-1", "gallery": "staff"}, {"requests": 1, "searches": 1, "bits": 10_000})

counts a request durably or raises BudgetExceededError and counts nothing. `look` does the latter alone and writes
nothing: for before anything is done for a request whose budget is used up. Each window is cut into 60 parts. A request
counts from its admission until the part that it fell into is 60 parts old: for the length of the window at least and
for 1/60 longer at most. So in **any** span as long as a window no more is admitted than the limit.

Time never goes back here (clock.py): a clock that is set back gives nothing away, and one that ran ahead and is set
right again stops the windows until it has caught up.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    MetaData,
    String,
    Table,
    and_,
    bindparam,
    delete,
    func,
    or_,
    select,
    tuple_,
)
from sqlalchemy.dialects.sqlite import insert

from veilmatch.crypto.errors import BudgetExceededError, StorageError
from veilmatch.server.config import WINDOW_S, Window
from veilmatch.server.transport.clock import LatestTime
from veilmatch.server.transport.database import open_database

#: Parts of a window.
PARTS = 60
_PRUNE_EVERY = 256

_metadata = MetaData()
_used = Table(
    "used",
    _metadata,
    Column("scope", String, primary_key=True),
    Column("name", String, primary_key=True),
    Column("measure", String, primary_key=True),
    Column("window", String, primary_key=True),
    Column("part", BigInteger, primary_key=True),
    Column("amount", BigInteger, nullable=False),
)
_clock = LatestTime(_metadata)

# Made once: a request goes through all of them, and making a statement takes longer than running it.
_ADD = insert(_used)
_ADD = _ADD.on_conflict_do_update(
    index_elements=["scope", "name", "measure", "window", "part"],
    set_={"amount": _used.c.amount + _ADD.excluded.amount},
)
_TOTALS = (
    select(_used.c.scope, _used.c.measure, _used.c.window, func.sum(_used.c.amount))
    .where(
        tuple_(_used.c.scope, _used.c.name).in_(bindparam("whose", expanding=True)),
        or_(*(and_(_used.c.window == window, _used.c.part >= bindparam(window)) for window in WINDOW_S)),
    )
    .group_by(_used.c.scope, _used.c.measure, _used.c.window)
)
_PARTS = (
    select(_used.c.part, _used.c.amount)
    .where(
        *(_used.c[column] == bindparam(column) for column in ("scope", "name", "measure", "window")),
        _used.c.part >= bindparam("oldest"),
    )
    .order_by("part")
)


@dataclass(frozen=True, slots=True)
class Budget:
    """One limit. scope: whose, "device" say. measure: what is counted. limit: the most in one window; 0 is nothing."""

    scope: str
    measure: str
    window: Window
    limit: int

    @property
    def part_ms(self) -> int:
        """Length of one part of the window."""
        return WINDOW_S[self.window] * 1000 // PARTS

    def __str__(self) -> str:
        window = "30 days" if self.window == "month" else f"{'an' if self.window == 'hour' else 'a'} {self.window}"
        return f"{self.measure} of a {self.scope} in {window}"


def budgets_of(limits: Mapping[str, Mapping[Window, int]]) -> list[Budget]:
    """Return the budgets of a configuration: limits by window, by name of scope and measure ("device_requests")."""
    return [
        Budget(*_scope_and_measure(name), window, limit)
        for name, by_window in limits.items()
        for window, limit in by_window.items()
    ]


def _scope_and_measure(name: str) -> tuple[str, str]:
    scope, _, measure = name.partition("_")
    return scope, measure


class Budgets:
    """The budgets of one server, counted in `budgets.db` of its data directory. Used from several threads.

    One process alone may have the directory open (see `daemon.sole_owner`): the lock that makes checking and counting
    one step is this object's. party, alternatives: for the error if they cannot be counted.
    """

    def __init__(
        self,
        data_dir: Path,
        budgets: list[Budget],
        party: str,
        alternatives: tuple[str, ...] = (),
        now: Callable[[], float] = time.time,
    ) -> None:
        self._engine = open_database(data_dir / "budgets.db", _metadata)
        self._budgets = budgets
        self._party, self._alternatives = party, alternatives
        self._now = now
        self._lock = threading.Lock()
        self._since_prune = _PRUNE_EVERY

    def admit(self, names: Mapping[str, str], cost: Mapping[str, int]) -> None:
        """Count one request durably. names: by scope. cost: by measure, at least 0; what is not in it costs nothing.

        Raises BudgetExceededError, naming the budget that keeps the request waiting longest, if any would be
        exceeded: then nothing is counted. Raises StorageError if the counts cannot be read or written.
        """
        charged = self._charged(names, cost)
        with self._counting(), self._lock, self._engine.begin() as connection:
            now_ms = _clock.advance(connection, self._now())
            if charged:
                _require_room(connection, charged, names, cost, now_ms)
                connection.execute(_ADD, [_row(b, names, now_ms) | {"amount": cost[b.measure]} for b in charged])
            self._prune(connection, now_ms)

    def look(self, names: Mapping[str, str], cost: Mapping[str, int]) -> None:
        """Raise what `admit` would raise now, and count nothing: a request that passes here may still be refused there.

        Reads alone, so it costs no commit.
        """
        if charged := self._charged(names, cost):
            with self._counting(), self._engine.connect() as connection:
                _require_room(connection, charged, names, cost, _clock.read(connection, self._now()))

    def close(self) -> None:
        """Close the database."""
        self._engine.dispose()

    def _charged(self, names: Mapping[str, str], cost: Mapping[str, int]) -> list[Budget]:
        return [b for b in self._budgets if b.scope in names and cost.get(b.measure)]

    @contextmanager
    def _counting(self) -> Iterator[None]:
        try:
            yield
        except BudgetExceededError as error:
            error.party = self._party
            raise
        except StorageError as error:
            raise StorageError(
                "the budgets cannot be counted, so nothing is served",
                party=self._party,
                needed="a database that can be written",
                available=error.got,
                alternatives=self._alternatives,
            ) from None

    def _prune(self, connection: Connection, now_ms: int) -> None:
        self._since_prune += 1
        if self._since_prune > _PRUNE_EVERY:
            for window, length_s in WINDOW_S.items():
                oldest = now_ms // (length_s * 1000 // PARTS) - PARTS
                connection.execute(delete(_used).where(_used.c.window == window, _used.c.part < oldest))
            self._since_prune = 0


def _row(budget: Budget, names: Mapping[str, str], now_ms: int) -> dict[str, str | int]:
    """Return the key of the row that a request counts in."""
    key = {"scope": budget.scope, "name": names[budget.scope], "measure": budget.measure, "window": budget.window}
    return key | {"part": now_ms // budget.part_ms}


def _totals(connection: Connection, names: Mapping[str, str], now_ms: int) -> dict[tuple[str, str, str], int]:
    """Return what was counted in the windows that end now, by scope, measure and window."""
    whose = [(scope, name) for scope, name in names.items()]
    oldest = {window: now_ms // (length_s * 1000 // PARTS) - PARTS for window, length_s in WINDOW_S.items()}
    return {(s, m, w): total for s, m, w, total in connection.execute(_TOTALS, {"whose": whose} | oldest)}


def _require_room(
    connection: Connection, charged: list[Budget], names: Mapping[str, str], cost: Mapping[str, int], now_ms: int
) -> None:
    """Raise BudgetExceededError if a request would exceed any of the budgets that it is charged to."""
    totals = _totals(connection, names, now_ms)
    exceeded = [b for b in charged if totals.get((b.scope, b.measure, b.window), 0) + cost[b.measure] > b.limit]
    if exceeded:
        raise max((_refusal(connection, b, names, cost, now_ms) for b in exceeded), key=_wait_s)


def _refusal(
    connection: Connection, budget: Budget, names: Mapping[str, str], cost: Mapping[str, int], now_ms: int
) -> BudgetExceededError:
    """Return the error for a budget that a request would exceed."""
    row, amount = _row(budget, names, now_ms), cost[budget.measure]
    parts = connection.execute(_PARTS, row | {"oldest": now_ms // budget.part_ms - PARTS}).all()
    left = sum(used for _, used in parts)
    total, retry_after_s = left + amount, None
    if amount <= budget.limit:
        for part, used in parts:
            left -= used
            if left + amount <= budget.limit:
                retry_after_s = ((part + PARTS + 1) * budget.part_ms - now_ms) / 1000
                break
    return BudgetExceededError(
        "a budget is used up",
        budget=str(budget),
        limit=budget.limit,
        setting=f"{budget.scope}_{budget.measure}.{budget.window}",
        retry_after_s=retry_after_s,
        got=total,
    )


def _wait_s(error: BudgetExceededError) -> float:
    return float("inf") if error.retry_after_s is None else error.retry_after_s
