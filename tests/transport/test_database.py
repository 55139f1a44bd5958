"""A database opens as it was left, or with an error that says whether the file or its place is wrong."""

from __future__ import annotations

import sqlite3
import stat
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Column, Engine, Integer, LargeBinary, MetaData, Table, insert, select

from veilmatch.crypto.errors import ConfigurationError, IntegrityError, StorageError
from veilmatch.server.ground import database
from veilmatch.server.ground.database import open_database
from veilmatch.server.ground.revisions import Revisions

METADATA = MetaData()
NOTES = Table("notes", METADATA, Column("id", Integer, primary_key=True), Column("note", LargeBinary, nullable=False))
REVISIONS = Revisions(Path(__file__).with_name("revisions_of_notes"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "notes.db"


@contextmanager
def opened(path: Path) -> Iterator[Engine]:
    engine = open_database(path, METADATA, REVISIONS)
    try:
        yield engine
    finally:
        engine.dispose()


def fill(path: Path, count: int = 200) -> None:
    with opened(path) as engine, engine.begin() as connection:
        connection.execute(insert(NOTES), [{"note": bytes(1000)}] * count)


def test_a_new_database_is_made_with_its_folder_and_for_its_owner_only(path: Path) -> None:
    with opened(path):
        for file in path.parent.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file.name


def test_what_was_committed_is_there_when_it_is_opened_again(path: Path) -> None:
    fill(path, 3)
    with opened(path) as engine, engine.connect() as connection:
        assert connection.execute(select(NOTES.c.id)).scalars().all() == [1, 2, 3]


@pytest.mark.parametrize(
    ("pragma", "value"),
    [
        ("journal_mode", "wal"),
        ("synchronous", 2),
        ("secure_delete", 1),
        ("cache_size", -database.CONNECTION_CACHE_KIB),
    ],
)
def test_every_connection_writes_through_to_the_disk_and_keeps_few_pages(
    path: Path, pragma: str, value: object
) -> None:
    with opened(path) as engine, engine.connect() as one, engine.connect() as other:
        for connection in (one, other):
            assert connection.exec_driver_sql(f"PRAGMA {pragma}").scalar() == value


def test_few_connections_stay_open_when_nobody_uses_them(path: Path) -> None:
    with opened(path) as engine:
        with ExitStack() as held:
            for _ in range(3 * database.CONNECTIONS_KEPT):
                held.enter_context(engine.connect()).execute(select(NOTES)).all()
        links = [file.readlink() for file in Path("/proc/self/fd").iterdir() if file.is_symlink()]
        assert links.count(path.with_name("notes.db-wal")) == database.CONNECTIONS_KEPT


def test_requests_that_come_one_after_the_other_use_one_connection(path: Path) -> None:
    with opened(path) as engine:
        with engine.connect(), engine.connect():
            pass
        used = set()
        for _ in range(4):  # one after the other
            with engine.connect() as connection:
                used.add(id(connection.connection.driver_connection))
        assert len(used) == 1


# -- damage ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"not a database, but quite some text\n" * 50, bytes(5000), b"\xff" * 100])
def test_a_file_that_is_no_database_is_damaged_and_left_as_it_is(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match=r"damaged.*notes\.db"):
        open_database(path, METADATA, REVISIONS)
    assert path.read_bytes() == content


def test_a_schema_that_cannot_be_read_is_damage(path: Path) -> None:
    fill(path)
    data = path.read_bytes()
    assert b"CREATE TABLE notes" in data
    path.write_bytes(data.replace(b"CREATE TABLE notes", b"CREATE TROUBLE XYZ"))
    with pytest.raises(IntegrityError, match=r"damaged.*notes\.db"):
        open_database(path, METADATA, REVISIONS)


@pytest.mark.parametrize(
    "columns",
    ["id INTEGER PRIMARY KEY", "id INTEGER PRIMARY KEY, note BLOB, author TEXT", "id INTEGER PRIMARY KEY, text BLOB"],
    ids=["one is missing", "one is too many", "one has another name"],
)
def test_a_table_of_another_version_is_refused_and_left_as_it_is(path: Path, columns: str) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"CREATE TABLE notes ({columns})")
        connection.execute("INSERT INTO notes (id) VALUES (7)")
        connection.commit()
    with pytest.raises(IntegrityError, match=r"notes\.db is of another version"):
        open_database(path, METADATA, REVISIONS)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT id FROM notes").fetchall() == [(7,)]


@pytest.mark.parametrize("page", [2, 3, 8])
def test_a_page_that_was_overwritten_is_found_when_the_database_is_opened(path: Path, page: int) -> None:
    """And not by the first request that meets it."""
    fill(path)
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xa5" * 200)
    with pytest.raises(IntegrityError, match="damaged"):
        open_database(path, METADATA, REVISIONS)


# -- places ----------------------------------------------------------------------------------------


def folder_in_its_place(path: Path) -> None:
    path.mkdir(parents=True)


def file_for_a_folder(path: Path) -> None:
    path.parent.write_text("")


def link_to_nowhere(path: Path) -> None:
    path.parent.mkdir()
    path.symlink_to(path.parent / "none" / "notes.db")


def folder_that_takes_no_files(path: Path) -> None:
    path.parent.symlink_to("/proc/self/fdinfo")


@pytest.mark.parametrize("spoil", [folder_in_its_place, file_for_a_folder, link_to_nowhere, folder_that_takes_no_files])
def test_a_place_that_takes_no_database_is_a_configuration_error(path: Path, spoil: object) -> None:
    spoil(path)  # type: ignore[operator]
    with pytest.raises(ConfigurationError, match=r"cannot be opened.*notes\.db"):
        open_database(path, METADATA, REVISIONS)


def test_a_database_that_cannot_be_written_is_a_configuration_error(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(path)
    monkeypatch.setattr(database, "_PRAGMAS", (*database._PRAGMAS, "PRAGMA query_only=ON"))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP TABLE alembic_version")
    with pytest.raises(ConfigurationError, match=r"cannot be used.*notes\.db.*READONLY"):
        open_database(path, METADATA, REVISIONS)


def test_a_locked_database_is_a_configuration_error_after_a_while(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_BUSY_TIMEOUT_S", 0.05)
    path.parent.mkdir()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(ConfigurationError, match=r"cannot be used.*notes\.db.*BUSY"):
            open_database(path, METADATA, REVISIONS)
        other.execute("ROLLBACK")
    fill(path)


def test_whoever_writes_to_a_locked_database_is_told_so_in_time_however_many_they_are(path: Path) -> None:
    """Well within `peer_timeout_s`, so that a device hears whose database it is and asks a pair without it."""
    fill(path, 1)
    turn = threading.Lock()  # as budgets.py has one

    def write(engine: Engine) -> tuple[str | None, float]:
        began = time.monotonic()
        try:
            with turn, engine.begin() as connection:
                connection.execute(insert(NOTES).values(note=b"more"))
        except StorageError as error:
            return error.available, time.monotonic() - began
        return None, time.monotonic() - began

    with opened(path) as engine, ThreadPoolExecutor(6) as threads:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            began = time.monotonic()
            told = list(threads.map(write, [engine] * 24))
            took_s = time.monotonic() - began
            with engine.connect() as connection:
                assert connection.execute(select(NOTES.c.id)).scalars().all() == [1], "reading goes on"
            other.execute("ROLLBACK")
        assert {available for available, _ in told} == {"SQLITE_BUSY"}
        assert took_s < 5.0, "each for itself it would take 24 s"
        time.sleep(database._LOCKED_S)
        assert write(engine)[0] is None
