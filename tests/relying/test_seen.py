"""What was presented once does not count again: in memory, in a file, in several threads and processes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from veilmatch.crypto.errors import StorageError
from veilmatch.relying import MemorySeen, Seen, SqliteSeen

Make = Callable[[], Seen]
A, B, C = (letter * 32 for letter in (b"a", b"b", b"c"))


@pytest.fixture(params=["memory", "sqlite"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    return MemorySeen if request.param == "memory" else lambda: SqliteSeen(tmp_path / "seen.sqlite")


def test_an_id_counts_once(make: Make) -> None:
    seen = make()
    assert seen.register([A], 100, 0)
    assert not seen.register([A], 100, 1)
    assert seen.register([B], 100, 1)


def test_several_count_together_or_not_at_all(make: Make) -> None:
    seen = make()
    assert seen.register([A], 100, 0)
    assert not seen.register([B, A], 100, 0)
    assert seen.register([B, C], 100, 0)
    assert not seen.register([C], 100, 0)


def test_what_has_expired_may_be_forgotten_and_nothing_else(make: Make) -> None:
    seen = make()
    assert seen.register([A], 100, 0) and seen.register([B], 200, 0)
    assert not seen.register([A], 300, 99.9)
    assert seen.register([C], 300, 100)
    assert not seen.register([B], 300, 199.9)
    assert seen.register([A], 300, 100)


def test_of_many_threads_one_is_the_first(make: Make) -> None:
    seen = make()
    with ThreadPoolExecutor(8) as threads:
        first = list(threads.map(lambda i: seen.register([bytes([i % 5]) * 32], 100, 0), range(40)))
    assert sum(first) == 5


def test_a_file_remembers_for_other_processes(tmp_path: Path) -> None:
    path = tmp_path / "seen.sqlite"
    program = (
        f"from veilmatch.relying import SqliteSeen; print(SqliteSeen({str(path)!r}).register([b'a' * 32], 100, 0))"
    )
    outcomes = [subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout for _ in "12"]
    assert outcomes == ["True\n", "False\n"] and not SqliteSeen(path).register([A], 100, 0)


def test_a_file_that_cannot_be_used_is_an_error_and_never_a_yes(tmp_path: Path) -> None:
    (tmp_path / "not.sqlite").write_bytes(b"something else, and longer than a header of SQLite would be" * 9)
    for path in (tmp_path / "not.sqlite", tmp_path / "missing" / "seen.sqlite"):
        with pytest.raises(StorageError):
            SqliteSeen(path)
    seen = SqliteSeen(tmp_path / "seen.sqlite")
    (tmp_path / "seen.sqlite").unlink()
    (tmp_path / "seen.sqlite").mkdir()
    with pytest.raises(StorageError):
        seen.register([A], 100, 0)
