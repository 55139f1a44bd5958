"""A gallery of a version without certificates is refused with what to do; and what one enrolment added is found."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from tests.matcher.galleries import KEY_ID, PARAMETERS, mutation, run
from veilmatch.crypto.errors import IntegrityError
from veilmatch.server.matcher.gallery.disk.store import Store


@pytest.mark.parametrize("version", [3, 4])
def test_a_gallery_whose_changes_have_no_certificates_is_moved_and_not_opened(tmp_path: Path, version: int) -> None:
    Store(tmp_path, KEY_ID, PARAMETERS).close()
    with sqlite3.connect(tmp_path / "gallery.db") as database:
        database.execute(f"PRAGMA user_version = {version}")
    database.close()
    with pytest.raises(IntegrityError, match="no certificates") as caught:
        Store(tmp_path, KEY_ID, PARAMETERS)
    assert caught.value.got == str(version) and "veilmatch move" in str(caught.value.expected)


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
    store.close()
