"""gallery.db as a file: whose it is, what is left in it of what was erased, and what is refused.

What a store does is tested in test_store.py, in files and on a server.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from tests.matcher.galleries import KEY_ID, PARAMETERS, accept, mutation, run
from tests.matcher.gallery.test_store import ENROL, ERASE, HIGHER, open_store
from veilmatch.crypto.errors import IntegrityError, UnavailableError, VeilmatchError
from veilmatch.server.matcher.gallery.disk.backends.sqlite import FILE_NAME, SqliteDatabase
from veilmatch.server.matcher.gallery.disk.store import Store


def test_only_the_owner_can_read_the_files(tmp_path: Path) -> None:
    data_dir = tmp_path / "matcher" / "data"
    before = os.umask(0)
    try:
        store = open_store(data_dir)
        run(store, "staff", ENROL)
    finally:
        os.umask(before)
    files = {path.name: stat.S_IMODE(path.stat().st_mode) for path in data_dir.iterdir()}
    store.close()
    assert files == dict.fromkeys([FILE_NAME, FILE_NAME + "-wal", FILE_NAME + "-shm"], 0o600)
    assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700


def test_a_file_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    open_store(tmp_path).close()
    (tmp_path / FILE_NAME).chmod(0o644)
    open_store(tmp_path).close()
    assert stat.S_IMODE((tmp_path / FILE_NAME).stat().st_mode) == 0o600


def test_every_connection_has_the_durable_settings(tmp_path: Path) -> None:
    open_store(tmp_path).close()
    database = SqliteDatabase(tmp_path / FILE_NAME)
    expected = {
        "journal_mode": "wal",
        "synchronous": 2,
        "secure_delete": 1,
        "foreign_keys": 1,
        "busy_timeout": 8_000,
    }
    assert {name: database.pragma(name) for name in expected} == expected
    database.forget_erased()
    assert {name: database.pragma(name) for name in expected} == expected
    database.close()


def test_what_is_erased_is_in_no_file_any_more(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    run(store, "staff", ENROL)
    store.close()
    store = open_store(tmp_path)

    def on_disk(secret: bytes) -> bool:
        return any(secret in path.read_bytes() for path in tmp_path.iterdir())

    gone = [ENROL.added[0].record, ENROL.added[2].record, ENROL.packs[0], b"ada"]
    stays = [ENROL.added[1].record, b"bela"]
    assert all(map(on_disk, gone + stays))
    run(store, "staff", ERASE)
    assert not any(map(on_disk, gone))
    assert all(map(on_disk, stays))
    store.close()


def test_what_gave_way_is_in_no_file_any_more(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    accept(store, "staff", ENROL)
    accept(store, "staff", mutation(3, added=[(0, 0, "cid")]), HIGHER)
    files = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert not any(t.record in files or t.subject.encode() in files for t in ENROL.added)
    assert b"staff" in files and b"cid" in files
    store.close()


def test_a_database_of_another_program_is_refused(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
        connection.commit()
    with pytest.raises(IntegrityError):
        Store(tmp_path, KEY_ID, PARAMETERS)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(os.urandom(10_000))
    with pytest.raises(IntegrityError):
        Store(tmp_path, KEY_ID, PARAMETERS)


def test_a_page_of_rubbish_is_refused(tmp_path: Path) -> None:
    with closing(open_store(tmp_path)) as store:
        run(store, "staff", ENROL)
    path = tmp_path / FILE_NAME
    pages = path.stat().st_size // 8192
    for page in range(pages):
        whole = path.read_bytes()
        path.write_bytes(whole[: page * 8192] + os.urandom(8192) + whole[(page + 1) * 8192 :])
        with pytest.raises(IntegrityError):
            Store(tmp_path, KEY_ID, PARAMETERS)
        path.write_bytes(whole)
    open_store(tmp_path).close()
    assert pages > 8


def test_a_flipped_bit_in_a_pack_or_record_is_noticed(tmp_path: Path) -> None:
    with closing(open_store(tmp_path)) as store:
        run(store, "staff", ENROL)
    path = tmp_path / FILE_NAME
    whole = path.read_bytes()
    for body in (ENROL.packs[1], ENROL.added[0].record):
        at = whole.index(body) + len(body) // 2
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with closing(open_store(tmp_path)) as store, pytest.raises(IntegrityError, match="damaged"):
            list(store.packs("staff"))
            store.record("staff", 0, 0)


def test_a_folder_that_cannot_be_used_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UnavailableError):
        Store(tmp_path / "file", KEY_ID, PARAMETERS)
    (tmp_path / FILE_NAME).mkdir()
    with pytest.raises(UnavailableError):
        Store(tmp_path, KEY_ID, PARAMETERS)


def test_errors_quote_no_statement_and_no_value(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection:
        connection.execute("CREATE TRIGGER no BEFORE INSERT ON templates BEGIN SELECT RAISE(ABORT, 'ada'); END")
        connection.commit()
    with pytest.raises(VeilmatchError) as caught:
        accept(store, "staff", ENROL)
    assert str(caught.value) == "the gallery database is damaged (got SQLITE_CONSTRAINT_TRIGGER)"
    assert caught.value.__suppress_context__
    assert store.state("staff").accepted is None
    store.close()
