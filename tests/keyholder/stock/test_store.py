"""stock.db: blocks sealed for this key holder alone, and marks that only go up."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from veilmatch.crypto.dealing import BlockName, CheckedBlock
from veilmatch.crypto.errors import IntegrityError
from veilmatch.server.keyholder.stock.store import StockStore

SEED = bytes(range(32))
NAME = BlockName("ab", bytes(32), 1, "triples", 3)
BLOCK = CheckedBlock(bytes([7]) * 32 + b"corrections" * 50)


@pytest.fixture
def store(tmp_path: Path) -> StockStore:
    return opened(tmp_path)


def opened(folder: Path) -> StockStore:
    store = StockStore(folder, SEED)
    store.adopt(NAME.pair, NAME.stock)
    return store


def content(block: CheckedBlock | None) -> bytes | None:
    return None if block is None else block.content


def test_a_block_is_read_back(store: StockStore) -> None:
    store.put(NAME, BLOCK)
    assert content(store.get(NAME)) == content(BLOCK)
    for other in (replace(NAME, number=4), replace(NAME, kind="bits"), replace(NAME, stock=bytes([1]) * 32)):
        assert store.get(other) is None
    assert store.numbers(NAME.stock, "triples") == {3}
    assert store.numbers(NAME.stock, "bits") == set()


def test_a_block_survives_a_restart(store: StockStore, tmp_path: Path) -> None:
    store.put(NAME, BLOCK)
    store.close()
    assert content(StockStore(tmp_path, SEED).get(NAME)) == content(BLOCK)


def test_a_block_that_is_here_is_never_replaced(store: StockStore) -> None:
    store.put(NAME, BLOCK)
    store.put(NAME, CheckedBlock(bytes(32) + b"another"))
    assert content(store.get(NAME)) == content(BLOCK)


def test_the_file_is_the_owners_alone_and_shows_nothing_of_a_block(store: StockStore, tmp_path: Path) -> None:
    store.put(NAME, BLOCK)
    store.close()
    files = [path for path in tmp_path.iterdir() if path.name.startswith("stock.db")]
    assert files
    for path in files:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert BLOCK.content[:8] not in path.read_bytes()
        assert b"corrections" not in path.read_bytes()
        assert SEED[:8] not in path.read_bytes()


def test_a_block_that_was_put_twice_is_sealed_with_two_nonces(tmp_path: Path) -> None:
    rows = []
    for folder in ("one", "other"):
        made = opened(tmp_path / folder)
        made.put(NAME, BLOCK)
        made.close()
        rows.append(sealed_row(tmp_path / folder))
    assert rows[0][:12] != rows[1][:12]
    assert rows[0] != rows[1]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 255))
def test_an_altered_row_is_refused(tmp_path: Path, at: int, mask: int) -> None:
    store = opened(tmp_path / "altered")
    store.put(NAME, BLOCK)
    good = sealed_row(tmp_path / "altered")
    bad = bytearray(good)
    bad[at % len(good)] ^= mask
    set_sealed_row(tmp_path / "altered", bytes(bad))
    with pytest.raises(IntegrityError) as caught:
        store.get(NAME)
    assert caught.value.got == "triples 3"
    set_sealed_row(tmp_path / "altered", good)
    assert content(store.get(NAME)) == content(BLOCK)
    store.close()


@pytest.mark.parametrize("length", [0, 1, 11, 12, 13, 27, 28, 100])
def test_a_row_that_was_cut_is_refused(store: StockStore, tmp_path: Path, length: int) -> None:
    store.put(NAME, BLOCK)
    set_sealed_row(tmp_path, sealed_row(tmp_path)[:length])
    with pytest.raises(IntegrityError):
        store.get(NAME)


def test_a_row_moved_to_another_place_is_refused(store: StockStore, tmp_path: Path) -> None:
    store.put(NAME, BLOCK)
    with sqlite3.connect(tmp_path / "stock.db") as connection:
        connection.execute("UPDATE checked_blocks SET number = 4")
    with pytest.raises(IntegrityError):
        store.get(replace(NAME, number=4))
    with sqlite3.connect(tmp_path / "stock.db") as connection:
        connection.execute("UPDATE checked_blocks SET number = 3, kind = 'bits'")
    with pytest.raises(IntegrityError):
        store.get(replace(NAME, kind="bits"))


@pytest.mark.parametrize("change", [{"epoch": 2}, {"pair": "ac"}])
def test_a_row_of_another_epoch_or_pair_is_refused(store: StockStore, change: dict[str, object]) -> None:
    store.put(NAME, BLOCK)
    with pytest.raises(IntegrityError):
        store.get(replace(NAME, **change))  # type: ignore[arg-type]


def test_another_storage_seed_cannot_read_it(store: StockStore, tmp_path: Path) -> None:
    store.put(NAME, BLOCK)
    store.close()
    other = StockStore(tmp_path, bytes(32))
    with pytest.raises(IntegrityError):
        other.get(NAME)


def test_a_mark_only_goes_up(store: StockStore) -> None:
    assert store.mark(NAME.stock, "triples") == 0
    for mark, expected in ((5, 5), (3, 5), (5, 5), (9, 9), (0, 9), (1 << 62, 1 << 62), (10, 1 << 62)):
        store.advance(NAME.stock, "triples", mark)
        assert store.mark(NAME.stock, "triples") == expected
    assert store.mark(NAME.stock, "bits") == 0
    assert store.mark(bytes([1]) * 32, "triples") == 0


def test_a_block_that_is_about_to_be_checked_is_never_checked_again(store: StockStore, tmp_path: Path) -> None:
    assert store.tried(NAME.stock, "triples") == 0
    for number, expected in ((3, 4), (1, 4), (9, 10)):
        store.begin_check(replace(NAME, number=number))
        assert store.tried(NAME.stock, "triples") == expected
    assert store.tried(NAME.stock, "bits") == store.tried(bytes([1]) * 32, "triples") == 0
    store.close()
    assert opened(tmp_path).tried(NAME.stock, "triples") == 10


def test_another_process_sees_a_mark_as_soon_as_advance_has_returned(store: StockStore, tmp_path: Path) -> None:
    store.advance(NAME.stock, "triples", 77)
    code = "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute('SELECT mark FROM marks').fetchone()[0])"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "stock.db")], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "77"


def test_every_commit_reaches_the_disk(store: StockStore) -> None:
    with store._engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"


def test_dropping_blocks_leaves_the_marks_and_the_other_stocks(store: StockStore) -> None:
    store.adopt("ac", bytes([1]) * 32)
    for number in range(6):
        store.put(replace(NAME, number=number), BLOCK)
        store.put(replace(NAME, number=number, kind="bits"), BLOCK)
        store.put(replace(NAME, pair="ac", number=number, stock=bytes([1]) * 32), BLOCK)
    store.advance(NAME.stock, "triples", 500)
    store.drop_below(NAME.stock, "triples", 4)
    assert store.numbers(NAME.stock, "triples") == {4, 5}
    assert store.numbers(NAME.stock, "bits") == store.numbers(bytes([1]) * 32, "triples") == set(range(6))
    assert store.mark(NAME.stock, "triples") == 500


def test_a_dropped_block_is_overwritten_on_disk(store: StockStore, tmp_path: Path) -> None:
    store.put(NAME, BLOCK)
    sealed = sealed_row(tmp_path)
    store.drop_below(NAME.stock, "triples", 10)
    store.close()
    with sqlite3.connect(tmp_path / "stock.db") as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    assert not [p for p in tmp_path.iterdir() if sealed[12:44] in p.read_bytes()]


def test_a_damaged_database_is_a_typed_error(tmp_path: Path) -> None:
    (tmp_path / "stock.db").write_bytes(b"this is not a database at all" * 100)
    with pytest.raises(IntegrityError):
        StockStore(tmp_path, SEED)


def sealed_row(folder: Path) -> bytes:
    with sqlite3.connect(folder / "stock.db") as connection:
        return bytes(connection.execute("SELECT sealed FROM checked_blocks").fetchone()[0])


def set_sealed_row(folder: Path, sealed: bytes) -> None:
    with sqlite3.connect(folder / "stock.db") as connection:
        connection.execute("UPDATE checked_blocks SET sealed = ?", (sealed,))
