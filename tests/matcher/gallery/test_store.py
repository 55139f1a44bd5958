"""The gallery store: what is committed stays, what is not can be taken back, and what is erased is gone."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from tests.matcher.galleries import (
    BALLOT,
    KEY_ID,
    PACK_BYTES,
    PARAMETERS,
    Model,
    accept,
    commit,
    mutation,
    run,
    signed,
)
from veilmatch.crypto.errors import (
    DuplicateTokenError,
    IntegrityError,
    KeyMismatchError,
    UnavailableError,
    VeilmatchError,
)
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.server.matcher.agreement.acceptor import Accepted
from veilmatch.server.matcher.agreement.ballots import Ballot
from veilmatch.server.matcher.agreement.certificates import PROPOSAL
from veilmatch.server.matcher.gallery.disk.database import FILE_NAME, Database
from veilmatch.server.matcher.gallery.disk.schema import SCHEMA_VERSION
from veilmatch.server.matcher.gallery.disk.store import Store
from veilmatch.server.matcher.gallery.mutation import GalleryState, Mutation, initial_chain, next_chain

ENROL = mutation(1, added=[(0, 0, "ada"), (0, 1, "bela"), (1, 0, "ada")])
ERASE = mutation(2, removed=[(0, 0), (1, 0)])


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = open_store(tmp_path)
    yield store
    store.close()


def open_store(data_dir: Path) -> Store:
    store = Store(data_dir, KEY_ID, PARAMETERS)
    store.open_gallery("staff")
    return store


def snapshot(store: Store, name: str = "staff") -> tuple[object, ...]:
    return store.state(name), dict(store.packs(name)), list(store.templates(name))


HIGHER = Ballot(2, "bc")


# -- accept, commit, give way -----------------------------------------------------------------


def test_a_new_gallery_is_empty(store: Store) -> None:
    state = GalleryState(0, initial_chain("staff", KEY_ID, PARAMETERS))
    assert snapshot(store) == (state, {}, [])
    assert store.open_gallery("staff") == state
    assert store.galleries() == ["staff"]


def test_accepted_is_not_visible_and_committed_is(store: Store) -> None:
    state, *empty = snapshot(store)
    accepted = accept(store, "staff", ENROL)
    assert isinstance(state, GalleryState)
    chain = next_chain(state.chain, 1, ENROL.digest())
    assert accepted == replace(state, promised=BALLOT, accepted=Accepted(BALLOT, chain)) == store.state("staff")
    assert [dict(store.packs("staff")), list(store.templates("staff"))] == empty
    assert store.find_token("staff", ENROL.token) is None
    assert store.accepted_kind("staff") == "enrol"
    held, origin = store.accepted("staff")
    assert (held.body, origin) == (ENROL.body, signed("staff", 1, chain, PROPOSAL))
    assert (held.packs, {t.record for t in held.added}) == (ENROL.packs, {t.record for t in ENROL.added})
    with pytest.raises(IntegrityError):
        store.record("staff", 0, 0)

    assert commit(store, "staff") == GalleryState(1, chain, BALLOT)
    assert store.certificate("staff", 1) == signed("staff", 1, chain)
    assert store.certificate("staff", 2) is None
    expected = Model("staff")
    expected.commit(ENROL)
    expected.check(store)


def test_an_erasure_takes_effect_at_its_commit_only(store: Store) -> None:
    run(store, "staff", ENROL)
    expected = Model("staff")
    expected.commit(ENROL)
    accept(store, "staff", ERASE)
    expected.check(store)
    commit(store, "staff")
    expected.commit(ERASE)
    expected.check(store)
    assert list(store.templates("staff")) == [(0, 1, "bela")]
    assert sorted(dict(store.packs("staff"))) == [0, 1]


def test_what_gives_way_leaves_no_trace_and_frees_its_token(store: Store) -> None:
    run(store, "staff", ENROL)
    accept(store, "staff", ERASE)
    elsewhere = mutation(3, added=[(2, 0, "cid")])
    accept(store, "staff", elsewhere, HIGHER)
    commit(store, "staff")
    expected = Model("staff")
    expected.commit(ENROL)
    expected.commit(elsewhere)
    expected.check(store)
    run(store, "staff", ERASE)
    expected.commit(ERASE)
    expected.check(store)


def test_the_same_change_under_a_higher_ballot_is_written_once(store: Store) -> None:
    accept(store, "staff", ENROL)
    again = accept(store, "staff", ENROL, HIGHER)
    assert again.accepted is not None and again.accepted.ballot == HIGHER == again.promised
    assert store.accepted("staff")[0].body == ENROL.body
    commit(store, "staff")
    expected = Model("staff")
    expected.commit(ENROL)
    expected.check(store)


def test_what_was_promised_is_kept_and_nothing_below_it_is_accepted(tmp_path: Path) -> None:
    with closing(open_store(tmp_path)) as store:
        store.promise("staff", HIGHER)
    with closing(open_store(tmp_path)) as store:
        assert store.state("staff").promised == HIGHER
        with pytest.raises(IntegrityError, match="higher ballot"):
            store.promise("staff", BALLOT)
        chain = next_chain(store.state("staff").chain, 1, ENROL.digest())
        with pytest.raises(IntegrityError, match="another ballot"):
            store.accept("staff", ENROL, signed("staff", 1, chain, PROPOSAL), BALLOT)
        assert store.state("staff").accepted is None


def test_proposals_of_another_change_do_not_bring_one_in(store: Store) -> None:
    store.promise("staff", BALLOT)
    with pytest.raises(IntegrityError, match="proposals"):
        store.accept("staff", ENROL, signed("staff", 1, bytes(32), PROPOSAL), BALLOT)
    assert store.state("staff").accepted is None


def test_a_slot_can_change_hands_in_one_mutation(store: Store) -> None:
    run(store, "staff", ENROL)
    swap = mutation(2, added=[(0, 0, "cid")], removed=[(0, 0)])
    run(store, "staff", swap)
    expected = Model("staff")
    expected.commit(ENROL)
    expected.commit(swap)
    expected.check(store)


def test_only_the_accepted_mutation_can_be_committed(store: Store) -> None:
    with pytest.raises(IntegrityError):
        store.commit("staff", signed("staff", 1, store.state("staff").chain))
    accept(store, "staff", ENROL)
    with pytest.raises(IntegrityError):
        store.commit("staff", signed("staff", 1, bytes(32)))
    committed = commit(store, "staff")
    with pytest.raises(IntegrityError):
        store.commit("staff", signed("staff", 1, committed.chain))


def test_a_second_change_under_one_ballot_is_refused(store: Store) -> None:
    run(store, "staff", ENROL)
    accepted = accept(store, "staff", ERASE)
    with pytest.raises(IntegrityError, match="in this ballot"):
        accept(store, "staff", mutation(3, added=[(0, 5, "cid")]))
    assert store.state("staff") == accepted


def test_a_used_token_is_refused_and_found(store: Store) -> None:
    run(store, "staff", ENROL)
    with pytest.raises(DuplicateTokenError):
        accept(store, "staff", replace(ERASE, token=ENROL.token))
    entry = store.find_token("staff", ENROL.token)
    assert entry is not None
    assert (entry.sequence, entry.kind, entry.result) == (1, "enrol", ENROL.result)
    assert entry.request_digest == ENROL.request_digest
    assert store.find_token("staff", b"never used") is None


@pytest.mark.parametrize(
    "misfit",
    [
        mutation(2, added=[(0, 1, "cid")]),
        mutation(2, removed=[(0, 2)]),
        mutation(2, added=[(3, 0, "cid")]),
        mutation(2, added=[(2, 0, "cid"), (4, 0, "cid")]),
        replace(ERASE, packs={}),
        replace(ERASE, packs={**ERASE.packs, 1: bytes(PACK_BYTES - 1)}),
    ],
    ids=["occupied", "not occupied", "gap", "gap inside", "pack not given", "short pack"],
)
def test_a_mutation_that_does_not_fit_changes_nothing(store: Store, misfit: Mutation) -> None:
    run(store, "staff", ENROL)
    store.promise("staff", BALLOT)
    before = snapshot(store)
    with pytest.raises(IntegrityError):
        accept(store, "staff", misfit)
    assert snapshot(store) == before


def test_galleries_do_not_see_each_other(store: Store) -> None:
    store.open_gallery("guests")
    run(store, "staff", ENROL)
    guests = mutation(1, added=[(0, 0, "gast")])
    accept(store, "guests", guests)
    assert store.state("staff").accepted is None
    assert list(store.templates("guests")) == []
    run(store, "staff", ERASE)
    commit(store, "guests")
    for name, mutations in [("staff", [ENROL, ERASE]), ("guests", [guests])]:
        expected = Model(name)
        for done in mutations:
            expected.commit(done)
        expected.check(store)
    assert store.galleries() == ["guests", "staff"]


def test_a_gallery_that_was_never_opened_is_not_there(store: Store) -> None:
    with pytest.raises(KeyMismatchError):
        store.state("visitors")
    with pytest.raises(KeyMismatchError):
        accept(store, "visitors", ENROL)
    assert store.galleries() == ["staff"]


# -- again from disk --------------------------------------------------------------------------


def test_everything_survives_a_restart(tmp_path: Path) -> None:
    with closing(open_store(tmp_path)) as store:
        run(store, "staff", ENROL)
        accepted = accept(store, "staff", ERASE)
    with closing(Store(tmp_path, KEY_ID, PARAMETERS)) as store:
        assert store.open_gallery("staff") == accepted
        expected = Model("staff")
        expected.commit(ENROL)
        expected.check(store)
        commit(store, "staff")
        expected.commit(ERASE)
        expected.check(store)


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
    database = Database(tmp_path / FILE_NAME)
    expected = {
        "journal_mode": "wal",
        "synchronous": 2,
        "secure_delete": 1,
        "foreign_keys": 1,
        "busy_timeout": 8_000,
    }
    assert {name: database.pragma(name) for name in expected} == expected
    database.truncate_wal()
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


def test_what_gave_way_is_in_no_file_any_more(store: Store, tmp_path: Path) -> None:
    accept(store, "staff", ENROL)
    accept(store, "staff", mutation(3, added=[(0, 0, "cid")]), HIGHER)
    files = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert not any(t.record in files or t.subject.encode() in files for t in ENROL.added)
    assert b"staff" in files and b"cid" in files


# -- what is refused --------------------------------------------------------------------------


def test_another_key_or_parameter_set_is_refused(tmp_path: Path) -> None:
    with closing(open_store(tmp_path)) as store:
        run(store, "staff", ENROL)
    with pytest.raises(KeyMismatchError, match="another key"):
        Store(tmp_path, b"another key     ", PARAMETERS)
    with pytest.raises(KeyMismatchError, match="parameter set"):
        Store(tmp_path, KEY_ID, ParameterSet(dimension=5, modulus_bits=512))
    with closing(open_store(tmp_path)) as store:
        assert store.state("staff").sequence == 1


def damage(data_dir: Path, statement: str) -> None:
    with closing(sqlite3.connect(data_dir / FILE_NAME)) as connection:
        changed = connection.execute(statement)
        assert changed.rowcount == 1 or statement.startswith("PRAGMA")
        connection.commit()


def test_a_database_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    open_store(tmp_path).close()
    damage(tmp_path, f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    with pytest.raises(IntegrityError) as caught:
        Store(tmp_path, KEY_ID, PARAMETERS)
    assert (caught.value.got, caught.value.expected) == (str(SCHEMA_VERSION + 1), str(SCHEMA_VERSION))


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


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE galleries SET sequence = 1",
        "UPDATE galleries SET sequence = 3",
        "UPDATE galleries SET chain = zeroblob(32)",
        "UPDATE galleries SET accepted_chain = zeroblob(32)",
        "UPDATE galleries SET accepted_chain = NULL",
        "UPDATE galleries SET name = 'stuff'",
        "UPDATE log SET body = (SELECT body FROM log WHERE sequence = 2) WHERE sequence = 1",
        "UPDATE log SET body = (SELECT body FROM log WHERE sequence = 2) WHERE sequence = 3",
        "UPDATE log SET body = x'7b7d' WHERE sequence = 1",
        "UPDATE log SET token = x'00' WHERE sequence = 1",
        "DELETE FROM certificates WHERE sequence = 1",
        "UPDATE certificates SET certificate = x'' WHERE sequence = 1",
        "UPDATE certificates SET sequence = 3 WHERE sequence = 1",
        "INSERT INTO certificates SELECT gallery_id, 3, certificate FROM certificates WHERE sequence = 2",
        "UPDATE log SET sequence = 7 WHERE sequence = 2",
        "DELETE FROM log WHERE sequence = 3",
    ],
)
def test_a_log_that_contradicts_the_state_is_refused(tmp_path: Path, statement: str) -> None:
    with closing(open_store(tmp_path)) as store:
        run(store, "staff", ENROL)
        run(store, "staff", ERASE)
        accept(store, "staff", mutation(3, added=[(0, 0, "cid")]))
    damage(tmp_path, statement)
    with closing(Store(tmp_path, KEY_ID, PARAMETERS)) as store, pytest.raises(IntegrityError):
        store.open_gallery(store.galleries()[0])


def test_a_missing_pack_is_noticed(tmp_path: Path) -> None:
    with closing(open_store(tmp_path)) as store:
        run(store, "staff", ENROL)
    damage(tmp_path, "DELETE FROM packs WHERE pack = 0")
    with closing(open_store(tmp_path)) as store, pytest.raises(IntegrityError, match="missing"):
        list(store.packs("staff"))


def test_a_folder_that_cannot_be_used_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UnavailableError):
        Store(tmp_path / "file", KEY_ID, PARAMETERS)
    (tmp_path / FILE_NAME).mkdir()
    with pytest.raises(UnavailableError):
        Store(tmp_path, KEY_ID, PARAMETERS)


def test_errors_quote_no_statement_and_no_value(store: Store, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection:
        connection.execute("CREATE TRIGGER no BEFORE INSERT ON templates BEGIN SELECT RAISE(ABORT, 'ada'); END")
        connection.commit()
    with pytest.raises(VeilmatchError) as caught:
        accept(store, "staff", ENROL)
    assert str(caught.value) == "the gallery database is damaged (got SQLITE_CONSTRAINT_TRIGGER)"
    assert caught.value.__suppress_context__
    assert store.state("staff").accepted is None


# -- threads ----------------------------------------------------------------------------------


def test_each_gallery_may_be_used_by_a_thread_of_its_own(store: Store) -> None:
    names = [f"gallery {i}" for i in range(4)]
    errors: list[BaseException] = []

    def enrol(name: str) -> None:
        try:
            for number in range(8):
                run(store, name, mutation(number, added=[(0, number, name)]))
                assert len(list(store.templates(name))) == number + 1
                assert len(list(store.packs(name))) == 1
        except BaseException as error:
            errors.append(error)

    for name in names:
        store.open_gallery(name)
    threads = [threading.Thread(target=enrol, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    for name in names:
        expected = Model(name)
        for number in range(8):
            expected.commit(mutation(number, added=[(0, number, name)]))
        expected.check(store)


def test_packs_are_those_of_one_moment_whichever_thread_reads_on(store: Store) -> None:
    run(store, "staff", ENROL)
    before = dict(store.packs("staff"))
    packs = store.packs("staff")
    with ThreadPoolExecutor(1) as other_thread:
        seen = dict([other_thread.submit(next, packs).result()])
    run(store, "staff", mutation(2, added=[(1, 5, "cid")]))
    seen.update(packs)
    assert seen == before
    assert dict(store.packs("staff")) != before


# -- damaged records ---------------------------------------------------------------------


def flip(data_dir: Path, table: str, column: str, where: str) -> None:
    """Flip one bit in the middle of a stored value."""
    with closing(sqlite3.connect(data_dir / FILE_NAME)) as connection:
        ((row, value),) = connection.execute(f"SELECT rowid, {column} FROM {table} WHERE {where}").fetchall()
        changed = bytearray(value)
        changed[len(changed) // 2] ^= 1
        connection.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (bytes(changed), row))
        connection.commit()


RECORD_OF_BELA = "id = (SELECT content_id FROM templates WHERE subject = 'bela')"


def test_a_damaged_record_is_listed_and_refused_by_its_place_and_everything_else_is_there(tmp_path: Path) -> None:
    with closing(open_store(tmp_path)) as store:
        run(store, "staff", ENROL)
        places = {subject: (pack, slot) for pack, slot, subject in store.templates("staff")}
        assert store.damaged_records("staff") == []
    flip(tmp_path, "contents", "body", RECORD_OF_BELA)
    with closing(Store(tmp_path, KEY_ID, PARAMETERS, party="matcher-b")) as store:
        store.open_gallery("staff")
        (found,) = store.damaged_records("staff")
        assert (found.pack, found.slot, found.subject) == (*places["bela"], "bela")
        others = [place for subject, place in places.items() if subject != "bela"]
        assert others
        store.records("staff", [*others, (999, 0)])
        for refused in (
            lambda: store.record("staff", *places["bela"]),
            lambda: store.records("staff", [*others, places["bela"]]),
        ):
            with pytest.raises(IntegrityError, match="record of a template is damaged") as caught:
                refused()
            assert caught.value.party == "matcher-b"
            assert caught.value.got == f"pack {found.pack}, slot {found.slot} of staff"
            assert "gallery fetch --restored" in str(caught.value.expected)
        assert len(list(store.packs("staff"))) == len(ENROL.packs)


@pytest.mark.parametrize("column", ["checksum", "body"])
def test_a_record_is_damaged_whichever_of_value_and_checksum_was_changed(tmp_path: Path, column: str) -> None:
    with closing(open_store(tmp_path)) as store:
        run(store, "staff", ENROL)
    flip(tmp_path, "contents", column, RECORD_OF_BELA)
    with closing(open_store(tmp_path)) as store:
        assert [found.subject for found in store.damaged_records("staff")] == ["bela"]


def test_a_record_that_is_gone_is_damaged_too(tmp_path: Path) -> None:
    with closing(open_store(tmp_path)) as store:
        run(store, "staff", ENROL)
    damage(tmp_path, f"DELETE FROM contents WHERE {RECORD_OF_BELA}")
    with closing(open_store(tmp_path)) as store:
        assert [found.subject for found in store.damaged_records("staff")] == ["bela"]
