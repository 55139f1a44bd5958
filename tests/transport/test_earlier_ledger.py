"""What an earlier version kept in two databases counts on: all of it, once, whenever the server is killed."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.keyholder.killing import run_and_kill
from tests.transport.ledgers import admit
from veilmatch.crypto.errors import BudgetExceededError, IntegrityError, RequestReplayedError, WrongClockError
from veilmatch.server.admission.budgets import Budget
from veilmatch.server.admission.ledger import Entry, Ledger

NOW_S = 1.7e9
NOW_MS = int(NOW_S * 1000)
DAY = 86400 // 60
LIMIT = Budget("device", "requests", "day", 10)
DOOR = {"device": "door-1"}
NONCES = 3000

#: As the earlier version made them.
REPLAY = """
    PRAGMA journal_mode=WAL;
    CREATE TABLE nonces (nonce BLOB NOT NULL, expires_at_ms BIGINT NOT NULL, PRIMARY KEY (nonce));
    CREATE INDEX ix_nonces_expires_at_ms ON nonces (expires_at_ms);
    CREATE TABLE forgotten (id INTEGER NOT NULL, before_ms BIGINT NOT NULL, PRIMARY KEY (id));
"""
BUDGETS = """
    PRAGMA journal_mode=WAL;
    CREATE TABLE used (
        scope VARCHAR NOT NULL, name VARCHAR NOT NULL, measure VARCHAR NOT NULL, "window" VARCHAR NOT NULL,
        part BIGINT NOT NULL, amount BIGINT NOT NULL, PRIMARY KEY (scope, name, measure, "window", part)
    );
    CREATE TABLE clock (id INTEGER NOT NULL, latest_ms BIGINT NOT NULL, PRIMARY KEY (id));
"""


def write_earlier(folder: Path, first: int = 0, used: int = 8, forgotten_s: float = 3600) -> None:
    """Make both databases: nonces from this number on, and so much of the budget of door-1 used by now."""
    with closing(sqlite3.connect(folder / "replay.db")) as connection, connection:
        connection.executescript(REPLAY)
        rows = [(n.to_bytes(32, "big"), NOW_MS + 60_000) for n in range(first, first + NONCES)]
        connection.executemany("INSERT INTO nonces VALUES (?, ?)", rows)
        connection.execute("INSERT INTO forgotten VALUES (1, ?)", (NOW_MS - int(forgotten_s * 1000),))
    with closing(sqlite3.connect(folder / "budgets.db")) as connection, connection:
        connection.executescript(BUDGETS)
        part = int(NOW_S) // DAY
        rows = [
            ("device", "door-1", "requests", "day", part, used - 1),
            ("device", "door-1", "requests", "day", part - 9, 1),
        ]
        connection.executemany("INSERT INTO used VALUES (?, ?, ?, ?, ?, ?)", rows)
        connection.execute("INSERT INTO clock VALUES (1, ?)", (NOW_MS - 5,))


def opened(folder: Path) -> Ledger:
    return Ledger(folder, [LIMIT], "keyholder-a", now=lambda: NOW_S)


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"ledger.db-wal", "ledger.db-shm"}


def room(ledger: Ledger) -> int:
    """How many requests of door-1 are still admitted."""
    for admitted in range(LIMIT.limit + 1):
        try:
            admit(ledger, DOOR, {"requests": 1})
        except BudgetExceededError:
            return admitted
    raise AssertionError("more than the limit")


def test_nonces_counts_and_clocks_are_carried_over_once_and_the_files_are_gone(tmp_path: Path) -> None:
    write_earlier(tmp_path)
    ledger = opened(tmp_path)
    assert files(tmp_path) == {"ledger.db"}
    for n in (0, 1, NONCES - 1):
        with pytest.raises(RequestReplayedError):
            ledger.enter(Entry(n.to_bytes(32, "big"), NOW_MS + 60_000)).result()
    with pytest.raises(WrongClockError):
        ledger.enter(Entry(b"n" * 32, NOW_MS - 3_600_001)).result()
    assert room(ledger) == 2
    ledger.close()
    ledger = opened(tmp_path)
    assert room(ledger) == 0
    ledger.close()


def test_a_clock_that_ran_ahead_in_the_earlier_version_still_holds(tmp_path: Path) -> None:
    write_earlier(tmp_path)
    ahead_ms = NOW_MS + 10**9
    with closing(sqlite3.connect(tmp_path / "budgets.db")) as connection, connection:
        connection.execute("UPDATE clock SET latest_ms = ?", (ahead_ms,))
    opened(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as connection:
        assert connection.execute("SELECT latest_ms FROM clock").fetchall() == [(ahead_ms,)]


def test_one_of_the_two_alone_is_carried_over(tmp_path: Path) -> None:
    write_earlier(tmp_path)
    (tmp_path / "replay.db").unlink()
    ledger = opened(tmp_path)
    assert files(tmp_path) == {"ledger.db"} and room(ledger) == 2
    ledger.close()


def test_files_that_were_carried_over_and_not_yet_deleted_are_not_counted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_earlier(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", lambda *_, **__: None)
        for _ in range(2):
            opened(tmp_path).close()
    assert files(tmp_path) >= {"replay.db", "budgets.db"}
    ledger = opened(tmp_path)
    assert files(tmp_path) == {"ledger.db"} and room(ledger) == 2
    ledger.close()


def test_what_an_earlier_version_counted_after_that_is_added(tmp_path: Path) -> None:
    write_earlier(tmp_path, used=5)
    opened(tmp_path).close()
    write_earlier(tmp_path, first=NONCES, used=3, forgotten_s=60)
    ledger = opened(tmp_path)
    for n in (0, NONCES, 2 * NONCES - 1):
        with pytest.raises(RequestReplayedError):
            ledger.enter(Entry(n.to_bytes(32, "big"), NOW_MS + 60_000)).result()
    with pytest.raises(WrongClockError):
        ledger.enter(Entry(b"n" * 32, NOW_MS - 60_001)).result()
    assert room(ledger) == 2
    ledger.close()


@pytest.mark.parametrize("name", ["replay.db", "budgets.db"])
def test_a_damaged_file_is_named_and_left_as_it_is(tmp_path: Path, name: str) -> None:
    write_earlier(tmp_path)
    (tmp_path / name).write_text("no database" * 1000)
    with pytest.raises(IntegrityError) as caught:
        opened(tmp_path)
    assert name in f"{caught.value}" and (tmp_path / name).read_text() == "no database" * 1000
    assert (tmp_path / "budgets.db").exists()


def test_a_kill_at_any_time_loses_nothing_and_counts_nothing_twice(tmp_path: Path) -> None:
    rng, carried = random.Random(4), []
    # One is killed at once, one once it is done, and the others somewhere between.
    for kill, after_s in enumerate([0.0, 0.0, *(rng.random() * 0.15 for _ in range(6))]):
        folder = tmp_path / str(kill)
        folder.mkdir()
        write_earlier(folder)
        done = (lambda numbers: 1 in numbers) if kill == 1 else bool
        carried.append(1 in run_and_kill("tests.transport.carry_loop", folder, after_s=after_s, after=done))
        ledger = opened(folder)
        assert files(folder) == {"ledger.db"} and room(ledger) == 2
        with closing(sqlite3.connect(folder / "ledger.db")) as connection:
            earlier = connection.execute("SELECT count(*) FROM nonces WHERE expires_at_ms = ?", (NOW_MS + 60_000,))
            assert earlier.fetchone() == (NONCES,)
        ledger.close()
    assert carried[1] and not all(carried)
