"""What of a gallery is not what its log says, and putting it right: of a file and of what no checksum shows."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.matcher.galleries import KEY_ID, PACK_BYTES, PARAMETERS, RECORD_BYTES, Model, mutation, run
from veilmatch.crypto.errors import IntegrityError
from veilmatch.server.matcher.gallery.disk.store import Store

FIRST = mutation(1, added=[(0, 0, "ada"), (0, 1, "bela"), (1, 0, "ada")])
SECOND = mutation(2, added=[(1, 1, "cid")])
RECORD = "(SELECT content_id FROM templates WHERE subject = 'bela')"
PACK = "(SELECT content_id FROM packs WHERE pack = 1)"


def zeros(size: int, which: str) -> str:
    """Somebody who alters a content and its checksum."""
    fits = hashlib.sha256(bytes(size)).hexdigest()
    return f"UPDATE contents SET body = zeroblob({size}), checksum = x'{fits}' WHERE id = {which}"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store(tmp_path, KEY_ID, PARAMETERS)) as made:
        made.open_gallery("staff")
        run(made, "staff", FIRST)
        run(made, "staff", SECOND)
        yield made


def execute(folder: Path, statement: str) -> None:
    with closing(sqlite3.connect(folder / "gallery.db")) as connection, connection:
        assert connection.execute(statement).rowcount == 1, statement


DAMAGE = {
    "a record": (f"UPDATE contents SET body = zeroblob({RECORD_BYTES}) WHERE id = {RECORD}", set(), {(0, 1)}),
    "a record, and its checksum": (zeros(RECORD_BYTES, RECORD), set(), {(0, 1)}),
    "a checksum": (f"UPDATE contents SET checksum = zeroblob(32) WHERE id = {RECORD}", set(), {(0, 1)}),
    "a record that is gone": (f"DELETE FROM contents WHERE id = {RECORD}", set(), {(0, 1)}),
    "a subject": ("UPDATE templates SET subject = 'eve' WHERE subject = 'bela'", set(), {(0, 1)}),
    "a consent": ("UPDATE templates SET terms = x'7b7d' WHERE subject = 'bela'", set(), {(0, 1)}),
    "a subject that is none": ("UPDATE templates SET subject = x'ff' WHERE subject = 'bela'", set(), {(0, 1)}),
    "a pack": (f"UPDATE contents SET body = x'00' WHERE id = {PACK}", {1}, set()),
    "a pack, and its checksum": (zeros(PACK_BYTES, PACK), {1}, set()),
    "a checksum of a pack": (f"UPDATE contents SET checksum = zeroblob(32) WHERE id = {PACK}", {1}, set()),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_what_is_damaged_is_found_and_put_right(store: Store, tmp_path: Path, what: str) -> None:
    assert not store.differing("staff")
    statement, packs, templates = DAMAGE[what]
    execute(tmp_path, statement)
    found = store.differing("staff")
    assert (set(found.packs), set(found.templates)) == (packs, templates)
    records = {(t.pack, t.slot): (t.subject, t.record, t.terms) for one in (FIRST, SECOND) for t in one.added}
    store.mend("staff", {number: SECOND.packs[number] for number in packs}, {at: records[at] for at in templates})
    assert not store.differing("staff")
    model = Model("staff")
    for one in (FIRST, SECOND):
        model.commit(one)
    model.check(store)
    store.open_gallery("staff")


def test_a_damaged_log_is_no_measure(store: Store, tmp_path: Path) -> None:
    execute(tmp_path, "UPDATE galleries SET chain = zeroblob(32)")
    with pytest.raises(IntegrityError, match="contradicts its state"):
        store.differing("staff")


def test_a_template_that_no_change_has_brought_is_left_to_who_verifies(store: Store, tmp_path: Path) -> None:
    execute(tmp_path, "UPDATE templates SET slot = 2 WHERE subject = 'bela'")
    assert not store.differing("staff")
