"""A gallery of version 3 is brought to this version when it is opened, and says of its records who made them."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from tests.matcher.galleries import KEY_ID, PARAMETERS, mutation, run
from veilmatch.crypto.errors import IntegrityError
from veilmatch.server.matcher.gallery.schema import SCHEMA_VERSION
from veilmatch.server.matcher.gallery.store import Store


def make_version_3(folder: Path, version: int = 3) -> None:
    """Take away what version 4 added."""
    with sqlite3.connect(folder / "gallery.db") as database:
        for table, column in (("log", "device"), ("log", "valid_share"), ("templates", "by_device")):
            database.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
        database.execute(f"PRAGMA user_version = {version}")
    database.close()


def filled(folder: Path) -> None:
    """An enrolment, a step of a rotation, and another enrolment that is pending; no record is said to be a device's."""
    store = Store(folder, KEY_ID, PARAMETERS)
    store.open_gallery("staff")
    for number, kind, place in (
        (1, "enrol", (0, 0, "ada")),
        (2, "rotate", (0, 1, "bela")),
        (3, "enrol", (0, 2, "cid")),
    ):
        made = replace(mutation(number, [place]), kind=kind)
        made = replace(made, added=[replace(t, by_device=False) for t in made.added])
        if number < 3:
            run(store, "staff", made)
        else:
            store.prepare("staff", made)
    store.close()


def test_records_that_a_device_had_made_are_marked_and_those_of_a_rotation_are_not(tmp_path: Path) -> None:
    filled(tmp_path)
    make_version_3(tmp_path)
    store = Store(tmp_path, KEY_ID, PARAMETERS)
    state = store.open_gallery("staff")
    assert [store.record("staff", 0, slot).by_device for slot in (0, 1)] == [True, False]
    store.commit("staff", state.pending_chain or b"")
    assert store.record("staff", 0, 2).by_device
    entry = store.find_token("staff", b"token 1")
    assert entry is not None and (entry.device, entry.valid_share) == ("", b"")
    store.close()
    with sqlite3.connect(tmp_path / "gallery.db") as database:
        assert database.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)


def test_a_gallery_of_another_earlier_version_is_refused(tmp_path: Path) -> None:
    filled(tmp_path)
    make_version_3(tmp_path, version=2)
    with pytest.raises(IntegrityError, match="another version"):
        Store(tmp_path, KEY_ID, PARAMETERS)


def test_what_one_enrolment_added_is_found_by_its_token_until_it_is_erased(tmp_path: Path) -> None:
    store = Store(tmp_path, KEY_ID, PARAMETERS)
    store.open_gallery("staff")
    run(store, "staff", mutation(1, [(0, 0, "ada")]))
    run(store, "staff", mutation(2, [(0, 1, "ada")]))
    assert store.places_of("staff", b"token 1") == [(0, 0)]
    assert store.places_of("staff", b"token 2") == [(0, 1)]
    assert store.places_of("staff", b"token 9") == []
    run(store, "staff", mutation(3, removed=[(0, 0)]))
    assert store.places_of("staff", b"token 1") == []


def test_a_share_for_the_device_stays_with_the_mutation_over_a_restart(tmp_path: Path) -> None:
    store = Store(tmp_path, KEY_ID, PARAMETERS)
    store.open_gallery("staff")
    pending = store.prepare("staff", mutation(1, [(0, 0, "ada")]), b"\1").pending_chain
    store.close()
    store = Store(tmp_path, KEY_ID, PARAMETERS)
    store.open_gallery("staff")
    assert pending is not None and store.find_token("staff", b"token 1") is None
    store.commit("staff", pending)
    entry = store.find_token("staff", b"token 1")
    assert entry is not None and entry.valid_share == b"\1"
