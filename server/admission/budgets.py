"""Budgets: how much a device, a subject or a gallery gets in a minute, an hour, a day and 30 days.

    counts.require_room(charges)    # raises BudgetExceededError, or
    counts.add(charges)             # counts a request, with the transaction of the ledger that it is in (ledger.py)

Each window is cut into 60 parts. A request
counts from its admission until the part that it fell into is 60 parts old: for the length of the window at least and
for 1/60 longer at most. So in **any** span as long as a window no more is admitted than the limit.

Time never goes back here (clock.py): a clock that is set back gives nothing away, and one that ran ahead and is set
right again stops the windows until it has caught up.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import BigInteger, Column, MetaData, String, Table

from veilmatch.crypto.errors import BudgetExceededError
from veilmatch.server.config import WINDOW_S, Window
from veilmatch.server.ground.clock import LatestTime

#: Parts of a window.
PARTS = 60

#: The tables of budgets.
metadata = MetaData()
Table(
    "used",
    metadata,
    Column("scope", String, primary_key=True),
    Column("name", String, primary_key=True),
    Column("measure", String, primary_key=True),
    Column("window", String, primary_key=True),
    Column("part", BigInteger, primary_key=True),
    Column("amount", BigInteger, nullable=False),
)
LatestTime(metadata)

_TOTAL = """
    SELECT sum(amount) FROM used WHERE scope = ? AND name = ? AND measure = ? AND "window" = ? AND part >= ?
"""
_PARTS = """
    SELECT part, amount FROM used WHERE scope = ? AND name = ? AND measure = ? AND "window" = ? AND part >= ?
    ORDER BY part
"""
#: Of one row: adds to what is there.
ADD_USED = """
    INSERT INTO used (scope, name, measure, "window", part, amount) VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (scope, name, measure, "window", part) DO UPDATE SET amount = amount + excluded.amount
"""
#: Scope, name, measure and window.
_Key = tuple[str, str, str, str]


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


@dataclass(frozen=True, slots=True)
class Left:
    """One budget of somebody, now. used: in the window that ends now. eases_s: seconds until the oldest of that counts
    no more; 0 if nothing was used.
    """

    budget: Budget
    used: int
    eases_s: float


@dataclass(frozen=True, slots=True)
class Charge:
    """What one request costs one budget. name: whose, within the scope of the budget."""

    budget: Budget
    name: str
    amount: int

    @property
    def key(self) -> _Key:
        """What it is counted under, in each part of the window."""
        return self.budget.scope, self.name, self.budget.measure, self.budget.window


def charges_of(budgets: Iterable[Budget], names: Mapping[str, str], cost: Mapping[str, int]) -> list[Charge]:
    """Return what a request costs. names: by scope. cost: by measure, at least 0; what is not in it costs nothing."""
    return [Charge(b, names[b.scope], cost[b.measure]) for b in budgets if b.scope in names and cost.get(b.measure)]


class Counts:
    """What was counted in the windows that end now, as one transaction sees it, with what it adds.

    now_ms: by the clock of the ledger, which never goes back.
    """

    def __init__(self, connection: sqlite3.Connection, now_ms: int) -> None:
        self._connection = connection
        self._now_ms = now_ms
        self._totals: dict[_Key, int] = {}
        self._added: dict[tuple[str, str, str, str, int], int] = {}

    def require_room(self, charges: Sequence[Charge]) -> None:
        """Raise BudgetExceededError, naming the budget that keeps the request waiting longest, if any is exceeded."""
        exceeded = [c for c in charges if self._total(c) + c.amount > c.budget.limit]
        if exceeded:
            # When there is room again depends on the parts, so those of this transaction have to be there.
            self.write()
            raise max((self._refusal(charge) for charge in exceeded), key=_wait_s)

    def left(self, budget: Budget, name: str) -> Left:
        """Return how much of a budget somebody has used. name: whose, within the scope of the budget."""
        key = Charge(budget, name, 0).key
        parts = self._connection.execute(_PARTS, (*key, self._oldest(budget))).fetchall()
        eases_s = ((parts[0][0] + PARTS + 1) * budget.part_ms - self._now_ms) / 1000 if parts else 0.0
        return Left(budget, sum(used for _, used in parts), eases_s)

    def add(self, charges: Sequence[Charge]) -> None:
        """Count a request that there is room for; it is there once `write` was called."""
        for charge in charges:
            self._totals[charge.key] = self._total(charge) + charge.amount
            row = (*charge.key, self._now_ms // charge.budget.part_ms)
            self._added[row] = self._added.get(row, 0) + charge.amount

    def write(self) -> None:
        """Write what was added."""
        self._connection.executemany(ADD_USED, [(*row, amount) for row, amount in self._added.items()])
        self._added.clear()

    def _total(self, charge: Charge) -> int:
        key = charge.key
        if (total := self._totals.get(key)) is None:
            (found,) = self._connection.execute(_TOTAL, (*key, self._oldest(charge.budget))).fetchone()
            total = self._totals[key] = found or 0
        return total

    def _oldest(self, budget: Budget) -> int:
        return self._now_ms // budget.part_ms - PARTS

    def _refusal(self, charge: Charge) -> BudgetExceededError:
        """Return the error for a budget that a request would exceed."""
        budget, amount = charge.budget, charge.amount
        parts = self._connection.execute(_PARTS, (*charge.key, self._oldest(budget))).fetchall()
        left = sum(used for _, used in parts)
        total, retry_after_s = left + amount, None
        if amount <= budget.limit:
            for part, used in parts:
                left -= used
                if left + amount <= budget.limit:
                    retry_after_s = ((part + PARTS + 1) * budget.part_ms - self._now_ms) / 1000
                    break
        return BudgetExceededError(
            "a budget is used up",
            budget=str(budget),
            limit=budget.limit,
            setting=f"{budget.scope}_{budget.measure}.{budget.window}",
            retry_after_s=retry_after_s,
            got=total,
        )


def prune_counts(connection: sqlite3.Connection, now_ms: int) -> None:
    """Delete what no window holds any more."""
    for window, length_s in WINDOW_S.items():
        oldest = now_ms // (length_s * 1000 // PARTS) - PARTS
        connection.execute('DELETE FROM used WHERE "window" = ? AND part < ?', (window, oldest))


def _wait_s(error: BudgetExceededError) -> float:
    return float("inf") if error.retry_after_s is None else error.retry_after_s
