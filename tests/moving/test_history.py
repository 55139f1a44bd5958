"""A gallery of version 4 in a database of this version: the same templates and tokens, in a chain with certificates."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.matcher.galleries import (
    KEY_ID,
    MODEL,
    ORGANISATIONS,
    PACK_BYTES,
    PARAMETERS,
    RECORD_BYTES,
    content,
    mutation,
    run,
    signers,
)
from tests.moving.version_4 import Old, write_version_4
from veilmatch.crypto.errors import GalleryMismatchError, IntegrityError, KeyMismatchError, StorageError
from veilmatch.server.matcher.agreement.ballots import Ballot
from veilmatch.server.matcher.agreement.certificates import Scope
from veilmatch.server.matcher.gallery.changes import check_changes
from veilmatch.server.matcher.gallery.disk.store import Store
from veilmatch.server.matcher.gallery.mutation import GalleryState, Record, initial_chain
from veilmatch.server.moving.earlier import opened
from veilmatch.server.moving.history import BALLOT, Moved, write_moved

SIGNERS = ORGANISATIONS["a"], ORGANISATIONS["b"]
SLOTS = PARAMETERS.slots


def record(seed: object) -> bytes:
    return content(f"record {seed}", RECORD_BYTES)


def packs_of(count: int) -> list[bytes]:
    return [content(f"pack {number}", PACK_BYTES) for number in range(count)]


def old(number: int, kind: str = "enrol", **more: object) -> Old:
    model = MODEL if kind in ("enrol", "bulk") else ""
    return Old(kind, f"token {number}".encode(), f'{{"templates": {number}}}', model, f"door-{number}", **more)  # type: ignore[arg-type]


#: Pack 0 is empty and its first slot given up; of the bulk enrolment one template has gone.
HISTORY = [
    old(1, templates=[(1, 0, "ada", record(1), False)]),
    old(2, "bulk", templates=[(2, 0, "bob", record(2), True), (2, 2, "eve", record(3), True)]),
    old(3, "erase", retired=[(0, 0), (2, 1)]),
    old(4, templates=[(1, 1, "ada", record(4), False)]),
]


def move(folder: Path, changes: Sequence[Old], packs: Sequence[bytes], **more: bool) -> tuple[Store, Moved]:
    write_version_4(folder / "old", KEY_ID, PARAMETERS, {"main": (changes, packs)}, **more)
    store = Store(folder / "new", KEY_ID, PARAMETERS)
    with opened(folder / "old", KEY_ID, PARAMETERS) as earlier:
        return store, write_moved(store, earlier, "main", SIGNERS)


def test_everything_is_there_with_its_tokens(tmp_path: Path) -> None:
    store, moved = move(tmp_path, HISTORY, packs_of(3))
    assert moved.templates == 4 and moved.sequence == 4, "one for the packs, one for each change that left a template"
    assert [pack for _, pack in store.packs("main")] == packs_of(3)
    assert list(store.templates("main")) == [(1, 0, "ada"), (1, 1, "ada"), (2, 0, "bob"), (2, 2, "eve")]
    assert store.record("main", 2, 2) == Record(record(3), by_device=True)
    assert store.record("main", 1, 1) == Record(record(4), by_device=False)
    assert sorted(store.retired("main")) == [(0, 0), (2, 1)]
    assert store.model("main") == MODEL
    for number in (1, 2, 4):
        entry = store.find_token("main", f"token {number}".encode())
        assert entry is not None and entry.request_digest == HISTORY[number - 1].request_digest
        assert (entry.device, entry.result) == (f"door-{number}", f'{{"templates": {number}}}')
    assert store.places_of("main", b"token 2") == [(2, 0), (2, 2)]
    assert store.open_gallery("main").chain == moved.chain, "the chain leads there"


def test_every_change_has_a_certificate_of_two_and_others_can_follow(tmp_path: Path) -> None:
    store, moved = move(tmp_path, HISTORY, packs_of(3))
    begin = GalleryState(0, initial_chain("main", KEY_ID, PARAMETERS))
    scope = Scope("main", KEY_ID)
    changes = store.changes_after("main", 0)
    after = check_changes(begin, changes, scope, signers)
    assert (after.sequence, after.chain) == (moved.sequence, moved.chain)
    with pytest.raises(IntegrityError):
        check_changes(begin, changes, Scope("other", KEY_ID), signers)
    third = Store(tmp_path / "third", KEY_ID, PARAMETERS)
    third.open_gallery("main")
    third.apply("main", changes, {found.leaf: found for found in store.contents_after("main", 0)})
    assert list(third.templates("main")) == list(store.templates("main"))
    run(store, "main", mutation(9, added=[(1, 2, "new")]))
    assert store.state("main").sequence == moved.sequence + 1


def test_who_signed_has_promised(tmp_path: Path) -> None:
    store, _ = move(tmp_path, HISTORY, packs_of(3))
    assert store.state("main").promised == BALLOT == Ballot(1, "ab")
    assert store.last_votes("main")["a"].vote.ballot <= store.state("main").promised


def test_both_matchers_make_the_same_history(tmp_path: Path) -> None:
    assert move(tmp_path / "a", HISTORY, packs_of(3))[1] == move(tmp_path / "b", HISTORY, packs_of(3))[1]
    other = [*HISTORY[:-1], old(5, templates=HISTORY[3].templates)]
    assert move(tmp_path / "c", other, packs_of(3))[1].chain != move(tmp_path / "d", HISTORY, packs_of(3))[1].chain


def test_an_empty_gallery_is_moved_too(tmp_path: Path) -> None:
    store, moved = move(tmp_path, [], [])
    assert moved.templates == 0 and list(store.packs("main")) == []


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.tuples(st.integers(0, 3), st.integers(0, SLOTS - 1)), max_size=6, unique=True), max_size=6))
def test_any_gallery(places: list[list[tuple[int, int]]]) -> None:
    taken: set[tuple[int, int]] = set()
    changes, expected = [], []
    for number, some in enumerate(places):
        mine = sorted(set(some) - taken)
        taken |= set(mine)
        templates = [(p, s, f"p{p}.{s}", record((p, s)), bool(s % 2)) for p, s in mine]
        expected += [(p, s, subject) for p, s, subject, _, _ in templates]
        changes.append(old(number, "bulk" if mine else "erase", templates=templates))
    with TemporaryDirectory() as folder:
        store, moved = move(Path(folder), changes, packs_of(4 if places else 0))
        assert list(store.templates("main")) == sorted(expected)
        assert moved.sequence == 1 + sum(bool(change.templates) for change in changes)
        store.close()


def test_what_is_not_settled_is_not_moved(tmp_path: Path) -> None:
    with pytest.raises(GalleryMismatchError, match="not settled"):
        move(tmp_path, HISTORY, packs_of(3), pending=True)


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE contents SET body = zeroblob(length(body)) WHERE id = 1",
        "UPDATE contents SET body = zeroblob(length(body)) WHERE id = (SELECT max(id) FROM contents)",
        "UPDATE log SET digest = zeroblob(32) WHERE sequence = 2",
        "DELETE FROM log WHERE sequence = 3",
        "UPDATE galleries SET chain = zeroblob(32)",
        "DELETE FROM packs WHERE pack = 1",
    ],
)
def test_what_is_damaged_is_not_moved(tmp_path: Path, damage: str) -> None:
    write_version_4(tmp_path / "old", KEY_ID, PARAMETERS, {"main": (HISTORY, packs_of(3))})
    with closing(sqlite3.connect(tmp_path / "old" / "gallery.db")) as database, database:
        database.execute(damage)
    store = Store(tmp_path / "new", KEY_ID, PARAMETERS)
    with opened(tmp_path / "old", KEY_ID, PARAMETERS) as earlier, pytest.raises(IntegrityError):
        write_moved(store, earlier, "main", SIGNERS)
    assert store.open_gallery("main").sequence == 0


def test_other_databases_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError), opened(tmp_path / "nothing", KEY_ID, PARAMETERS):
        pass
    move(tmp_path, HISTORY, packs_of(3))[0].close()
    with pytest.raises(IntegrityError, match="can be moved"), opened(tmp_path / "new", KEY_ID, PARAMETERS):
        pass
    with pytest.raises(KeyMismatchError), opened(tmp_path / "old", b"another key 1234", PARAMETERS):
        pass


def test_a_gallery_is_moved_once(tmp_path: Path) -> None:
    store, _ = move(tmp_path, HISTORY, packs_of(3))
    with opened(tmp_path / "old", KEY_ID, PARAMETERS) as earlier, pytest.raises(IntegrityError, match="already"):
        write_moved(store, earlier, "main", SIGNERS)
