"""Budgets: how much a device, a subject or a gallery gets in a minute, an hour, a day and 30 days.

    budgets.admit({"device": "door-1", "gallery": "staff"}, {"requests": 1, "searches": 1, "bits": 10_000})

counts a request durably or raises BudgetExceededError and counts nothing. Each window is cut into 60 parts. A request
counts from its admission until the part that it fell into is 60 parts old: for the length of the window at least and
for 1/60 longer at most. So in **any** span as long as a window no more is admitted than the limit.

Time never goes back here: while the clock is behind the latest time that was seen, that time holds. A clock that is
set back therefore gives nothing away; one that ran ahead and is set right again stops the windows until it has
caught up.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import BigInteger, Column, Connection, Integer, MetaData, String, Table, delete, func, select
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import DatabaseError

from veilmatch.crypto.errors import BudgetExceededError, UnavailableError
from veilmatch.server.config import WINDOW_S, Window
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
_clock = Table(
    "clock", _metadata, Column("id", Integer, primary_key=True), Column("latest_ms", BigInteger, nullable=False)
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
        exceeded: then nothing is counted. Raises UnavailableError if the counts cannot be read or written.
        """
        charged = [b for b in self._budgets if b.scope in names and cost.get(b.measure)]
        try:
            with self._lock, self._engine.begin() as connection:
                now_ms = self._advance(connection)
                for budget in charged:
                    _add(connection, budget, names[budget.scope], now_ms, cost[budget.measure])
                refused = [
                    found
                    for budget in charged
                    if (found := _exceeded(connection, budget, names[budget.scope], now_ms, cost[budget.measure]))
                ]
                if refused:
                    raise max(refused, key=_wait_s)
                self._prune(connection, now_ms)
        except DatabaseError:
            raise UnavailableError(
                "the budgets cannot be counted, so nothing is served",
                party=self._party,
                needed="a database that can be written",
                alternatives=self._alternatives,
            ) from None

    def close(self) -> None:
        """Close the database."""
        self._engine.dispose()

    def _advance(self, connection: Connection) -> int:
        """Return the time, and note it; see the module."""
        latest = connection.execute(select(_clock.c.latest_ms)).scalar() or 0
        now_ms = max(latest, int(self._now() * 1000))
        statement = insert(_clock).values(id=1, latest_ms=now_ms)
        connection.execute(statement.on_conflict_do_update(index_elements=["id"], set_={"latest_ms": now_ms}))
        return now_ms

    def _prune(self, connection: Connection, now_ms: int) -> None:
        self._since_prune += 1
        if self._since_prune > _PRUNE_EVERY:
            for window, length_s in WINDOW_S.items():
                oldest = now_ms // (length_s * 1000 // PARTS) - PARTS
                connection.execute(delete(_used).where(_used.c.window == window, _used.c.part < oldest))
            self._since_prune = 0


def _add(connection: Connection, budget: Budget, name: str, now_ms: int, amount: int) -> None:
    key = {"scope": budget.scope, "name": name, "measure": budget.measure, "window": budget.window}
    statement = insert(_used).values(**key, part=now_ms // budget.part_ms, amount=amount)
    statement = statement.on_conflict_do_update(index_elements=[*key, "part"], set_={"amount": _used.c.amount + amount})
    connection.execute(statement)


def _exceeded(
    connection: Connection, budget: Budget, name: str, now_ms: int, amount: int
) -> BudgetExceededError | None:
    """Return the error if the budget is exceeded, `amount` of this request already added."""
    present = now_ms // budget.part_ms
    counted = (
        (_used.c.scope == budget.scope)
        & (_used.c.name == name)
        & (_used.c.measure == budget.measure)
        & (_used.c.window == budget.window)
        & (_used.c.part >= present - PARTS)
    )
    total = connection.execute(select(func.sum(_used.c.amount)).where(counted)).scalar() or 0
    if total <= budget.limit:
        return None
    retry_after_s, left = None, total
    if amount <= budget.limit:
        for part, used in connection.execute(select(_used.c.part, _used.c.amount).where(counted).order_by("part")):
            left -= used
            if left + (amount if part == present else 0) <= budget.limit:
                retry_after_s = ((part + PARTS + 1) * budget.part_ms - now_ms) / 1000
                break
    return BudgetExceededError(
        "a budget is used up", budget=str(budget), limit=budget.limit, retry_after_s=retry_after_s, got=total
    )


def _wait_s(error: BudgetExceededError) -> float:
    return float("inf") if error.retry_after_s is None else error.retry_after_s
