"""What is staged survives kill -9 and is checked when it is opened again; memory does not grow with the gallery."""

from __future__ import annotations

import gc
import os
import signal
import sqlite3
import stat
import tracemalloc
from contextlib import closing
from pathlib import Path

import pytest

from tests.matcher.follow.matchers import NAME, Matcher, served
from tests.matcher.galleries import KEY_ID, PARAMETERS, mutation, run, signed, signers
from veilmatch.crypto.errors import IntegrityError
from veilmatch.crypto.gallery_change import next_chain
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.server.matcher.agreement.acceptor import GalleryState
from veilmatch.server.matcher.agreement.certificates import Scope
from veilmatch.server.matcher.follow import catching_up, serving
from veilmatch.server.matcher.follow.catching_up import catch_up
from veilmatch.server.matcher.follow.staging import Staging
from veilmatch.server.matcher.follow.staging_file import FOLDER, StagingFile
from veilmatch.server.matcher.gallery.changes import Change
from veilmatch.server.matcher.gallery.disk.store import Store
from veilmatch.server.matcher.gallery.mutation import Mutation, initial_chain

SCOPE = Scope(NAME, KEY_ID)
BASE = GalleryState(0, initial_chain(NAME, KEY_ID, PARAMETERS))


def opened(tmp_path: Path, parameters: ParameterSet = PARAMETERS) -> Staging:
    base = GalleryState(0, initial_chain(NAME, KEY_ID, parameters))
    return Staging.open(StagingFile(tmp_path, SCOPE), base, parameters, signers)


def log_of(*mutations: Mutation, parameters: ParameterSet = PARAMETERS) -> list[Change]:
    chain, found = initial_chain(NAME, KEY_ID, parameters), []
    for number, one in enumerate(mutations, start=1):
        chain = next_chain(chain, number, one.digest())
        found.append(Change(number, one.body.encode(), signed(NAME, number, chain).encode()))
    return found


FIRST = mutation(1, added=[(0, 0, "ada"), (1, 0, "bela")])
SECOND = mutation(2, removed=[(0, 0)])


def test_kill(tmp_path: Path) -> None:
    child = os.fork()
    if not child:
        staging = opened(tmp_path)
        staging.add_changes(log_of(FIRST, SECOND))
        staging.take_packs([(0, SECOND.packs[0])])
        os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    staging = opened(tmp_path)
    assert (staging.sequence, staging.counts()) == (2, (3, 1))
    assert staging.missing(9, 9).packs == [1]
    assert staging.take_packs([(1, FIRST.packs[1])]) == 0
    assert staging.missing(9, 9).templates == [(1, 0)]
    bela = FIRST.added[1]
    assert staging.take_templates([((1, 0), "bela", bela.record, b"")]) == 0
    assert [change.sequence for change in staging.changes()] == [1, 2]
    assert staging.get(bela_leaf(bela.record)) is not None
    with closing(Store(tmp_path / "store", KEY_ID, PARAMETERS)) as store:
        store.open_gallery(NAME)
        store.apply(NAME, staging.changes(), staging)
        assert list(store.templates(NAME)) == [(1, 0, "bela")]
    staging.discard()
    assert list((tmp_path / FOLDER).iterdir()) == []


def bela_leaf(record: bytes) -> bytes:
    return next(at.leaf for at in FIRST.body.added if at.pack == 1)


@pytest.mark.parametrize("column", ["body", "certificate", "chain"])
def test_a_flipped_bit_on_disk_is_found_at_the_next_start(tmp_path: Path, column: str) -> None:
    staging = opened(tmp_path)
    staging.add_changes(log_of(FIRST, SECOND))
    staging.close()
    (path,) = (tmp_path / FOLDER).glob("*.db")
    with closing(sqlite3.connect(path)) as connection, connection:
        (data,) = connection.execute(f"SELECT {column} FROM log WHERE sequence = 2").fetchone()
        altered = data[:-1] + bytes([data[-1] ^ 1])
        connection.execute(f"UPDATE log SET {column} = ? WHERE sequence = 2", (altered,))
    staging = opened(tmp_path)
    if column == "chain":  # computed anew, and used for nothing before that
        assert staging.sequence == 2
    else:
        assert (staging.sequence, staging.counts()) == (0, (0, 0))


def test_a_flipped_bit_in_a_content_on_disk_is_found_when_it_is_applied(tmp_path: Path) -> None:
    staging = opened(tmp_path)
    staging.add_changes(log_of(FIRST))
    staging.take_packs(FIRST.packs.items())
    staging.take_templates([((t.pack, t.slot), t.subject, t.record, b"") for t in FIRST.added])
    (path,) = (tmp_path / FOLDER).glob("*.db")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE packs SET data = zeroblob(length(data)) WHERE pack = 0")
    with closing(Store(tmp_path / "store", KEY_ID, PARAMETERS)) as store:
        store.open_gallery(NAME)
        with pytest.raises(IntegrityError):
            store.apply(NAME, staging.changes(), staging)
        assert store.state(NAME).sequence == 0


def test_a_file_that_is_no_database_is_begun_anew(tmp_path: Path) -> None:
    opened(tmp_path).close()
    (path,) = (tmp_path / FOLDER).glob("*.db")
    for end in ("-wal", "-shm"):
        path.with_name(path.name + end).unlink(missing_ok=True)
    path.write_bytes(b"not a database" * 1000)
    assert opened(tmp_path).sequence == 0


def test_of_another_gallery_or_history_nothing_is_used(tmp_path: Path) -> None:
    staging = opened(tmp_path)
    staging.add_changes(log_of(FIRST))
    staging.close()
    elsewhere = Staging.open(StagingFile(tmp_path, SCOPE), GalleryState(1, bytes(32)), PARAMETERS, signers)
    assert (elsewhere.sequence, elsewhere.chain) == (1, bytes(32))
    assert elsewhere.counts() == (0, 0)


def test_what_the_gallery_has_by_now_is_forgotten(tmp_path: Path) -> None:
    staging = opened(tmp_path)
    changes = log_of(FIRST, SECOND)
    staging.add_changes(changes)
    chain = next_chain(BASE.chain, 1, FIRST.digest())
    assert staging.rebase(GalleryState(1, chain))
    assert staging.missing(9, 9) == ([0], [])
    assert list(staging.changes()) == changes[1:]
    assert not staging.rebase(GalleryState(1, bytes(32)))


def test_it_is_for_its_owner_only(tmp_path: Path) -> None:
    opened(tmp_path)
    (path,) = (tmp_path / FOLDER).glob("*.db")
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)


async def test_memory_does_not_grow_with_the_gallery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """26 MB of contents pass through objects of less than half of that, at both ends; and most of it is one write."""
    parameters = ParameterSet(dimension=512, scale=120, clip=18, modulus_bits=2048)
    monkeypatch.setattr(serving, "CHUNK_BYTES", 1 << 19)
    monkeypatch.setattr(catching_up, "_CALL_BYTES", 1 << 21)
    a, c = Matcher("a", tmp_path / "a", parameters), Matcher("c", tmp_path / "c", parameters)
    for pack in range(100):
        run(a.store, NAME, mutation(pack + 1, added=[(pack, 0, f"subject {pack}")], parameters=parameters))
    c.gallery._workers = Nobody()  # what workers hold is theirs
    a.gallery._workers = Nobody()
    await a.load()
    await c.load()
    size = a.store.bytes_after(NAME, 0)
    assert size > 26e6
    async with served(a) as stub:
        tracemalloc.start()
        try:
            await catch_up(c.followed, stub, "matcher-a")
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert c.store.state(NAME).chain == a.store.state(NAME).chain
    assert peak < size / 2


class Nobody:
    async def load(self, gallery: int, packs: object) -> None:
        pass


def test_a_file_is_made_again_without_what_only_the_collector_frees(tmp_path: Path) -> None:
    file = StagingFile(tmp_path, SCOPE)

    def come_and_go() -> None:
        staging = Staging.open(file, BASE, PARAMETERS, signers)
        staging.add_changes(log_of(FIRST, SECOND))
        staging.take_packs([(0, SECOND.packs[0])])
        staging.discard()

    come_and_go()
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            come_and_go()
        assert gc.collect() < 300  # an engine and tables of its own leave 2,000 each time
    finally:
        gc.enable()
    assert list((tmp_path / FOLDER).iterdir()) == []


def test_a_file_that_is_made_again_is_as_the_first_one(tmp_path: Path) -> None:
    file, seen = StagingFile(tmp_path, SCOPE), []
    for _ in range(2):
        with file.opened().connect() as connection:
            seen.append(connection.exec_driver_sql("SELECT sql FROM sqlite_master ORDER BY name").all())
            seen.append(connection.exec_driver_sql("SELECT version_num FROM alembic_version").all())
            seen.append(connection.exec_driver_sql("PRAGMA journal_mode").all())
            seen.append(connection.exec_driver_sql("PRAGMA synchronous").all())
        (path,) = (tmp_path / FOLDER).glob("*.db")
        seen.append(stat.S_IMODE(path.stat().st_mode))
        file.remove()
    assert seen[:5] == seen[5:]


def test_what_a_process_left_is_looked_at_again_by_itself(tmp_path: Path) -> None:
    file = StagingFile(tmp_path, SCOPE)
    Staging.open(file, BASE, PARAMETERS, signers).discard()
    staging = Staging.open(file, BASE, PARAMETERS, signers)
    staging.add_changes(log_of(FIRST))
    staging.close()
    assert Staging.open(file, BASE, PARAMETERS, signers).sequence == 1
    file.close()
    (path,) = (tmp_path / FOLDER).glob("*.db")
    path.write_bytes(b"not a database" * 1000)
    assert Staging.open(file, BASE, PARAMETERS, signers).sequence == 0
