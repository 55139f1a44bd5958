"""Galleries in a backup: one state of them, of a file or of a server, that either takes back as an old copy."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.matcher.galleries import KEY_ID, PARAMETERS, Model, mutation, run
from tests.storage.backends import Backend
from tests.storage.filled import ENROL, ERASE, GUEST, HIGHER, PROOF, STATEMENT, fill_gallery
from veilmatch.crypto.encryption.paillier import PublicKey
from veilmatch.crypto.errors import ConfigurationError, IntegrityError, KeyMismatchError
from veilmatch.server.backup.galleries import put, take
from veilmatch.server.config import GalleriesIn, MatcherSettings
from veilmatch.server.matcher.gallery.disk.store import Store

#: All that is asked of a key here.
KEY = cast(PublicKey, SimpleNamespace(key_id=KEY_ID, parameters=PARAMETERS))


def settings(where: GalleriesIn, *galleries: str) -> MatcherSettings:
    found: Any = SimpleNamespace(galleries_in=where, galleries=[*galleries], peers={"c": "", "b": ""})
    return cast(MatcherSettings, found)


@pytest.fixture
def taken(where: GalleriesIn, tmp_path: Path) -> Path:
    """What was taken of galleries in either place, while their matcher has them open."""
    fill_gallery(where)
    into = tmp_path / "backup"
    into.mkdir()
    with closing(Store(where, KEY_ID, PARAMETERS)) as store:
        entries = take(where, KEY, into)
        assert [(one.name, one.sequence, one.chain) for one in entries] == [
            (name, store.state(name).sequence, store.state(name).chain.hex()) for name in ("guests", "staff")
        ]
    assert [path.name for path in into.iterdir()] == ["gallery.db"]
    return into


def test_what_is_put_back_is_all_of_it_and_an_old_copy(backend: Backend, taken: Path) -> None:
    for there in (backend.another("back"), taken.parent / "in a file"):
        put(taken, KEY, settings(there, "staff", "later"))
        with closing(Store(there, KEY_ID, PARAMETERS)) as store:
            for name, committed in (("staff", [ENROL, ERASE]), ("guests", [GUEST])):
                store.open_gallery(name)
                expected = Model(name)
                for one in committed:
                    expected.commit(one)
                expected.check(store)
            assert (store.heard("staff"), store.proofs("staff")) == ({"c": STATEMENT}, [PROOF])
            assert store.state("staff").promised == HIGHER and store.state("staff").accepted is not None
            # Also one that was not in the backup: it may have been made, and signed for, since.
            assert store.galleries() == ["guests", "later", "staff"]
            assert all(store.unmet(name) == {"b", "c"} for name in store.galleries())
            assert store.open_gallery("later").sequence == 0
            # Rows that come after it get numbers of their own.
            run(store, "guests", mutation(9, added=[(0, 1, "gast 2")]))
        assert [path.name for path in taken.iterdir()] == ["gallery.db"]


def test_nothing_is_written_over(where: GalleriesIn, taken: Path) -> None:
    with pytest.raises(ConfigurationError, match="galleries already"):
        put(taken, KEY, settings(where, "staff"))


def test_a_restore_that_was_interrupted_leaves_what_no_matcher_opens(
    backend: Backend, taken: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = backend.another("back")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("veilmatch.server.backup.galleries.mark_finished", killed)
    with pytest.raises(KeyboardInterrupt):
        put(taken, KEY, settings(there, "staff"))
    with pytest.raises(IntegrityError, match="not complete"):
        Store(there, KEY_ID, PARAMETERS)


def test_galleries_of_another_key_and_none_at_all_are_refused(where: GalleriesIn, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no galleries to take"):
        take(where, KEY, tmp_path)
    fill_gallery(where)
    other = cast(PublicKey, SimpleNamespace(key_id=bytes(16), parameters=PARAMETERS))
    with pytest.raises(KeyMismatchError):
        take(where, other, tmp_path)
