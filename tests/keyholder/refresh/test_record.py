"""The record of the refresh in hand: what was written is what is read, and nothing is read while nothing changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from veilmatch.crypto.errors import StorageError
from veilmatch.server.keyholder.refresh.record import InHand, Record

IN_HAND = InHand(b"r" * 32, 5, "b")


def counted(record: Record) -> list[str]:
    """What is asked of the database from now on."""
    asked: list[str] = []
    event.listen(record._engine, "before_cursor_execute", lambda _c, _k, text, *_: asked.append(text))
    return asked


def test_every_change_is_read_here_and_after_a_restart(tmp_path: Path) -> None:
    record = Record(tmp_path, "a")
    assert record.read() is None
    changes: list[Any] = [
        lambda: record.put(IN_HAND), record.make_ready, record.withdraw, lambda: record.decide(b"d" * 32),
        lambda: record.put(InHand(b"", 5, None, going_back=True, without="c")), record.stay, record.forget,
    ]  # fmt: skip
    for change in changes:
        change()
        again = Record(tmp_path, "a")
        assert record.read() == again.read()
        again.close()
    record.close()


def test_nothing_is_read_while_nothing_changes(tmp_path: Path) -> None:
    record = Record(tmp_path, "a")
    record.put(IN_HAND)
    asked = counted(record)
    assert [record.read() for _ in range(10)] == [IN_HAND] * 10 and not asked
    record.close()


def test_after_a_change_that_may_have_been_lost_the_database_is_asked(tmp_path: Path) -> None:
    record = Record(tmp_path, "a")
    record.put(IN_HAND)

    def fails(*_: Any) -> None:
        raise StorageError("no disk", available="SQLITE_FULL")

    event.listen(record._engine, "commit", fails)
    with pytest.raises(StorageError):
        record.make_ready()
    event.remove(record._engine, "commit", fails)
    asked = counted(record)
    assert record.read() == IN_HAND and asked
    record.close()
