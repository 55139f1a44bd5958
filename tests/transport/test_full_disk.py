"""What is kept on a disk that is full, damaged or gone: one kind of error, which names no statement and no value."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import Column, Integer, LargeBinary, MetaData, Table, insert, select

from tests.transport.disks import full, has_room
from tests.transport.ledgers import ReplayLog
from veilmatch.crypto.errors import IntegrityError, StorageError
from veilmatch.server.ground.database import open_earlier

METADATA = MetaData()
NOTES = Table("notes", METADATA, Column("id", Integer, primary_key=True), Column("body", LargeBinary))
SECRET = b"a body that no error quotes"


def test_a_full_disk_is_said_as_such_and_ends_when_there_is_room(tmp_path: Path) -> None:
    engine = open_earlier(tmp_path / "notes.db", METADATA)
    full(engine)
    with pytest.raises(StorageError) as caught, engine.begin() as connection:
        for number in range(50):
            connection.execute(insert(NOTES).values(id=number, body=SECRET * 100))
    assert (caught.value.available, caught.value.code) == ("SQLITE_FULL", "storage")
    assert SECRET.decode() not in f"{caught.value} {caught.value.fields()}"
    has_room(engine)
    with engine.begin() as connection:
        connection.execute(insert(NOTES).values(id=1, body=SECRET * 100))
        assert connection.execute(select(NOTES.c.id)).scalars().all() == [1]


def test_a_damaged_file_is_no_full_disk(tmp_path: Path) -> None:
    engine = open_earlier(tmp_path / "notes.db", METADATA)
    with engine.begin() as connection:
        connection.execute(insert(NOTES), [{"id": n, "body": SECRET * 100} for n in range(50)])
    engine.dispose()
    with sqlite3.connect(tmp_path / "notes.db") as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with (tmp_path / "notes.db").open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 8192)
    with pytest.raises(IntegrityError) as caught, engine.connect() as connection:
        connection.execute(select(NOTES)).all()
    assert (caught.value.code, caught.value.got) == ("integrity", "notes.db")


def test_a_nonce_that_cannot_be_noted_is_not_served_and_may_be_used_later(tmp_path: Path) -> None:
    log = ReplayLog(tmp_path)
    full(log._engine)
    with pytest.raises(StorageError) as caught:
        for number in range(2000):
            log.register(number.to_bytes(32, "big"), 2**42)
    assert caught.value.available == "SQLITE_FULL"
    has_room(log._engine)
    log.register(b"n" * 32, 2**42)
    log.close()
