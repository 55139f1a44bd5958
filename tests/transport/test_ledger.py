"""Requests that are entered together: each as if it were alone, all of them or none on disk."""

from __future__ import annotations

import secrets
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from tests.transport.disks import full, has_room
from tests.transport.ledgers import NEVER_MS
from veilmatch.crypto.digests import NONCE_BYTES
from veilmatch.crypto.errors import BudgetExceededError, RequestReplayedError, StorageError, WrongClockError
from veilmatch.server.admission.budgets import Budget
from veilmatch.server.admission.ledger import Entry, Ledger
from veilmatch.server.ground.gathering import Outcome

NOW_S = 1.7e9
LIMITS = [Budget("device", "requests", "minute", 3), Budget("gallery", "requests", "day", 10_000)]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger(tmp_path, LIMITS, "keyholder-a", ("bc",), lambda: NOW_S)
    yield made
    made.close()


def entry(device: str = "door-1", nonce: bytes | None = None, expires_at_ms: int = NEVER_MS) -> Entry:
    chosen = nonce or secrets.token_bytes(NONCE_BYTES)
    return Entry(chosen, expires_at_ms, {"device": device, "gallery": "main"}, {"requests": 1})


def together(ledger: Ledger, entries: Sequence[Entry]) -> list[BaseException | None]:
    """What becomes of requests that all wait for a write that goes on."""
    with closing(sqlite3.connect(ledger._engine.url.database or "", isolation_level=None)) as other:
        # Whoever writes now waits for this lock, and whoever comes meanwhile waits for him.
        other.execute("BEGIN IMMEDIATE")
        first = ledger.enter(entry("elsewhere"))
        while not first.running():
            time.sleep(0.001)
        futures = [ledger.enter(one) for one in entries]
        other.execute("ROLLBACK")
    first.exception(10)
    return [future.exception(10) for future in futures]


def rows(ledger: Ledger, statement: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(ledger._engine.url.database or "")) as connection:
        return connection.execute(statement).fetchall()


def kinds(outcomes: Sequence[BaseException | None]) -> list[str]:
    return ["" if one is None else type(one).__name__ for one in outcomes]


def test_a_batch_is_entered_with_one_commit(ledger: Ledger) -> None:
    begun: list[int] = []
    write = ledger._gathered._write

    def counted(entries: Sequence[Entry]) -> Sequence[Outcome]:
        begun.append(len(entries))
        return write(entries)

    ledger._gathered._write = counted
    assert kinds(together(ledger, [entry(f"door-{n}") for n in range(20)])) == [""] * 20
    assert begun == [1, 20]
    assert rows(ledger, "SELECT count(*) FROM nonces") == [(21,)]
    assert rows(ledger, "SELECT sum(amount) FROM used WHERE scope = 'gallery'") == [(21,)]


def test_one_that_is_refused_among_many_leaves_nothing_behind_and_the_others_do_not_notice(ledger: Ledger) -> None:
    seen = entry("door-2")
    ledger.enter(seen).result(10)
    batch = [
        entry("door-1"),
        entry("door-3", nonce=seen.nonce),  # a replay of one before the batch
        entry("door-1"),
        twice := entry("door-3"),
        entry("door-4", nonce=twice.nonce),  # a replay of one in it
        entry("door-1"),
        over := entry("door-1"),  # the fourth in a minute
        entry("door-5"),
    ]
    found = together(ledger, batch)
    replayed, exceeded = RequestReplayedError.__name__, BudgetExceededError.__name__
    assert kinds(found) == ["", replayed, "", "", replayed, "", exceeded, ""]
    assert isinstance(found[6], BudgetExceededError)
    assert (found[6].party, found[6].got, found[6].limit) == ("keyholder-a", "4", 3)
    assert found[6].retry_after_s is not None and 59 < found[6].retry_after_s <= 61
    counted = rows(ledger, "SELECT name, sum(amount) FROM used WHERE scope = 'device' GROUP BY name ORDER BY name")
    assert counted == [("door-1", 3), ("door-2", 1), ("door-3", 1), ("door-5", 1), ("elsewhere", 1)]
    assert rows(ledger, "SELECT sum(amount) FROM used WHERE scope = 'gallery'") == [(7,)]
    assert {nonce for (nonce,) in rows(ledger, "SELECT nonce FROM nonces")} >= {seen.nonce, twice.nonce}
    # Its nonce was not used up.
    ledger.enter(Entry(over.nonce, over.expires_at_ms)).result(10)


def test_a_request_that_may_have_been_served_is_refused_among_many(tmp_path: Path) -> None:
    now = [NOW_S + 86400]
    ledger = Ledger(tmp_path, LIMITS, "keyholder-a", now=lambda: now[0])
    ledger.enter(entry()).result(10)
    now[0] = NOW_S
    found = together(ledger, [entry("door-2"), entry("door-3", expires_at_ms=int(NOW_S * 1000)), entry("door-4")])
    assert kinds(found) == ["", WrongClockError.__name__, ""]
    ledger.close()


def test_a_failing_disk_refuses_all_that_wait_and_heals(ledger: Ledger) -> None:
    for n in range(100):
        ledger.enter(entry(f"door-{n}")).result(10)
    full(ledger._engine)
    many = [entry(f"a device with a name that takes room {n}") for n in range(500)]
    found = together(ledger, many)
    assert {type(error) for error in found} == {StorageError}
    assert len({id(error) for error in found}) == len(many)
    for error in found:
        assert isinstance(error, StorageError)
        assert (error.party, error.available, error.alternatives) == ("keyholder-a", "SQLITE_FULL", ("bc",))
    has_room(ledger._engine)
    # Nothing of them was entered, so all of them may be made again.
    assert kinds([ledger.enter(one).exception(10) for one in many]) == [""] * len(many)


def test_nobody_waits_longer_for_a_locked_ledger_than_the_first(ledger: Ledger) -> None:
    with closing(sqlite3.connect(ledger._engine.url.database or "", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        first = ledger.enter(entry())
        while not first.running():
            time.sleep(0.001)
        waiting = [ledger.enter(entry(f"door-{n}")) for n in range(40)]
        found = [future.exception(10) for future in (first, *waiting)]
        assert time.monotonic() - began < 10.0, "each for itself it would take 41 s"
        assert {getattr(error, "available", None) for error in found} == {"SQLITE_BUSY"}
        other.execute("ROLLBACK")
    time.sleep(1.1)
    ledger.enter(entry()).result(10)


def test_a_look_agrees_with_what_is_entered_and_writes_nothing(ledger: Ledger) -> None:
    one = entry()
    for _ in range(2):
        ledger.look_at(one)
        ledger.look(one.names, one.cost)
    assert rows(ledger, "SELECT * FROM nonces") == rows(ledger, "SELECT * FROM used") == []
    ledger.enter(one).result(10)
    with pytest.raises(RequestReplayedError):
        ledger.look_at(one)


def test_a_look_at_an_entry_finds_a_budget_that_is_used_up_and_says_whose(ledger: Ledger) -> None:
    for _ in range(3):
        ledger.look_at(entry())
        ledger.enter(entry()).result(10)
    written = rows(ledger, "SELECT * FROM used")
    with pytest.raises(BudgetExceededError) as caught:
        ledger.look_at(entry())
    assert (caught.value.party, caught.value.limit, caught.value.got) == ("keyholder-a", 3, "4")
    ledger.look_at(entry("door-2"))
    assert rows(ledger, "SELECT * FROM used") == written
