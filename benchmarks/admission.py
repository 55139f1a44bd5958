"""What it costs to admit a request durably: its nonce, its budgets and its audit entry, alone and with others.

    python benchmarks/admission.py [--folder PATH]     on the disk that the folder is on; a minute

"Two commits" is how it was done before: nonce and budgets each in a transaction of its own, every request by itself,
through SQLAlchemy; and the audit log synced for every entry. "Now" is the ledger and the audit log as servers use
them. Both admit the same requests, with the default budgets of a key holder, from one event loop. CPU is that of the
whole process. Each figure is the best of three runs, the two ways in turn.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import secrets
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as Printed
from sqlalchemy import Connection, and_, bindparam, func, or_, select, tuple_
from sqlalchemy.dialects.sqlite import insert

from veilmatch.crypto.errors import BudgetExceededError
from veilmatch.server.admission import budgets as budget_tables
from veilmatch.server.admission import replay as replay_tables
from veilmatch.server.admission.budgets import PARTS, Budget, budgets_of
from veilmatch.server.admission.ledger import Entry, Ledger
from veilmatch.server.config import WINDOW_S, KeyHolderBudgets
from veilmatch.server.ground.database import open_earlier
from veilmatch.server.keyholder.audit.log import AuditLog

AT_ONCE = (1, 8, 32)
REQUESTS = 320
RUNS = 3
#: Devices that ask in turn.
DEVICES = 8
COST = {"requests": 1, "searches": 0, "bits": 1}
EXPIRES_AT_MS = 2**42
#: One request: admits it as often as it is called, with a number.
Admit = Callable[[int], Awaitable[None]]


def limits() -> list[Budget]:
    """Return the default budgets of a key holder, out of reach."""
    return [Budget(b.scope, b.measure, b.window, 10**12) for b in budgets_of(KeyHolderBudgets().model_dump())]


def names_of(number: int) -> dict[str, str]:
    return {"device": f"device-{number % DEVICES}", "gallery": "main"}


def audit_fields(number: int) -> dict[str, Any]:
    return {
        "event": "session", "caller": "matcher-a", "chain": bytes(32).hex(), "device": f"device-{number % DEVICES}",
        "gallery": "main", "model": "sface", "operation": "verify", "output_bits": 1, "pair": "ab",
        "request": bytes(32).hex(), "sequence": number, "session": bytes(32).hex(), "threshold": 3000,
    }  # fmt: skip


# -- two commits --------------------------------------------------------------------------------------

_NONCES, _FORGOTTEN = (replay_tables.metadata.tables[name] for name in ("nonces", "forgotten"))
_USED, _CLOCK = (budget_tables.metadata.tables[name] for name in ("used", "clock"))
_ADD = insert(_USED)
_ADD = _ADD.on_conflict_do_update(
    index_elements=["scope", "name", "measure", "window", "part"],
    set_={"amount": _USED.c.amount + _ADD.excluded.amount},
)
_TOTALS = (
    select(_USED.c.scope, _USED.c.measure, _USED.c.window, func.sum(_USED.c.amount))
    .where(
        tuple_(_USED.c.scope, _USED.c.name).in_(bindparam("whose", expanding=True)),
        or_(*(and_(_USED.c.window == window, _USED.c.part >= bindparam(window)) for window in WINDOW_S)),
    )
    .group_by(_USED.c.scope, _USED.c.measure, _USED.c.window)
)
_LATEST, _BEFORE = select(_CLOCK.c.latest_ms), select(_FORGOTTEN.c.before_ms)
_NOTE = insert(_CLOCK)
_NOTE = _NOTE.on_conflict_do_update(index_elements=["id"], set_={"latest_ms": _NOTE.excluded.latest_ms})


class TwoCommits:
    """Admission as it was before."""

    def __init__(self, folder: Path) -> None:
        self._replays = open_earlier(folder / "replay.db", replay_tables.metadata)
        self._budgets = open_earlier(folder / "budgets.db", budget_tables.metadata)
        self._limits = limits()
        self._lock = threading.Lock()

    async def admit(self, number: int) -> None:
        await asyncio.to_thread(self._look, names_of(number))
        await asyncio.to_thread(self._register, secrets.token_bytes(32))
        await asyncio.to_thread(self._count, names_of(number))

    def close(self) -> None:
        self._replays.dispose()
        self._budgets.dispose()

    def _register(self, nonce: bytes) -> None:
        with self._replays.begin() as connection:
            connection.execute(insert(_NONCES).values(nonce=nonce, expires_at_ms=EXPIRES_AT_MS))
            connection.execute(_BEFORE).scalar()

    def _look(self, names: dict[str, str]) -> None:
        with self._budgets.connect() as connection:
            self._require_room(connection, names, self._time_ms(connection))

    def _count(self, names: dict[str, str]) -> None:
        with self._lock, self._budgets.begin() as connection:
            now_ms = self._time_ms(connection)
            connection.execute(_NOTE, {"id": 1, "latest_ms": now_ms})
            self._require_room(connection, names, now_ms)
            rows = [
                {
                    "scope": b.scope, "name": names[b.scope], "measure": b.measure, "window": b.window,
                    "part": now_ms // b.part_ms, "amount": COST[b.measure],
                }
                for b in self._limits
                if COST[b.measure]
            ]  # fmt: skip
            connection.execute(_ADD, rows)

    def _require_room(self, connection: Connection, names: dict[str, str], now_ms: int) -> None:
        oldest = {window: now_ms // (length_s * 1000 // PARTS) - PARTS for window, length_s in WINDOW_S.items()}
        found = connection.execute(_TOTALS, {"whose": list(names.items())} | oldest)
        totals = {(scope, measure, window): total for scope, measure, window, total in found}
        for b in self._limits:
            if totals.get((b.scope, b.measure, b.window), 0) + COST[b.measure] > b.limit:
                raise BudgetExceededError("used up", budget=str(b), limit=b.limit)

    @staticmethod
    def _time_ms(connection: Connection) -> int:
        return max(connection.execute(_LATEST).scalar() or 0, int(time.time() * 1000))


# -- now ----------------------------------------------------------------------------------------------


class OneCommit:
    """Admission as servers do it."""

    def __init__(self, folder: Path) -> None:
        self._ledger = Ledger(folder, limits(), "keyholder-a")

    async def admit(self, number: int) -> None:
        names = names_of(number)
        await asyncio.to_thread(self._ledger.look, names, COST)
        entry = Entry(secrets.token_bytes(32), EXPIRES_AT_MS, names, COST)
        await asyncio.wrap_future(self._ledger.enter(entry))

    def close(self) -> None:
        self._ledger.close()


# -- measuring ----------------------------------------------------------------------------------------


class Audited:
    """The audit log; alone: every entry is written and synced by itself, as before."""

    def __init__(self, folder: Path, *, alone: bool) -> None:
        self._log = AuditLog(folder, "a", bytes(16), 1 << 30)
        self._alone = alone

    async def admit(self, number: int) -> None:
        if self._alone:
            await asyncio.to_thread(self._log._append, [audit_fields(number)])
        else:
            await asyncio.wrap_future(self._log.enter(audit_fields(number)))

    def close(self) -> None:
        self._log.close()


async def _run(admit: Admit, at_once: int) -> tuple[float, float]:
    """Return wall clock and CPU of one request, in microseconds."""
    numbers = itertools.count()

    async def one() -> None:
        for _ in range(REQUESTS // at_once):
            await admit(next(numbers))

    wall, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(one() for _ in range(at_once)))
    done = REQUESTS // at_once * at_once
    return (time.perf_counter() - wall) / done * 1e6, (time.process_time() - cpu) / done * 1e6


async def measure(before: Admit, now: Admit, at_once: int) -> list[tuple[float, float]]:
    """Return the best wall clock and CPU of a request of both ways, in microseconds."""
    runs: list[list[tuple[float, float]]] = [[], []]
    for _ in range(RUNS):
        for found, admit in zip(runs, (before, now), strict=True):
            found.append(await _run(admit, at_once))
    return [(min(wall for wall, _ in found), min(cpu for _, cpu in found)) for found in runs]


async def _main(folder: Path) -> None:
    table = Printed("", "at once", "before: us", "CPU", "now: us", "CPU", "before / now", "CPU")
    for what in ("nonce and budgets", "audit entry"):
        before: TwoCommits | Audited
        now: OneCommit | Audited
        if what == "audit entry":
            before, now = Audited(folder / "before", alone=True), Audited(folder / "now", alone=False)
        else:
            before, now = TwoCommits(folder / "before"), OneCommit(folder / "now")
        for at_once in AT_ONCE:
            (wall, cpu), (wall_now, cpu_now) = await measure(before.admit, now.admit, at_once)
            figures = (f"{value:.0f}" for value in (wall, cpu, wall_now, cpu_now))
            table.add_row(what, str(at_once), *figures, f"{wall / wall_now:.1f}", f"{cpu / cpu_now:.1f}")
        before.close()
        now.close()
    Console(width=100).print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=None, help="on the disk to measure; else the temporary one")
    arguments = parser.parse_args()
    if arguments.folder is not None:
        arguments.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as made:
        asyncio.run(_main(Path(made)))
