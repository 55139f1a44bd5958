"""What `veilmatch storage status` says of every database: as it is, as it will be, and why one is refused."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.storage import filled
from tests.storage.dumps import restore
from veilmatch.server.check.revisions import revisions_of
from veilmatch.server.config import KeyHolderSettings, MatcherSettings

COMMON = 'listen = "h:1"\ndata_dir = "data"\ndevices_dir = "devices"\npublic_key = "p"\nparty = "a"\n'
TLS = '[tls]\nauthority = "a"\ncertificate = "c"\nkey = "k"\n[peers]\nb = "h:3"\nc = "h:4"\n'


def said(folder: Path) -> dict[str, tuple[str, str | None, str]]:
    """By file: state, revision that was found, and the one that is known."""
    matcher, key_holder = folder / "matcher.toml", folder / "keyholder.toml"
    matcher.write_text(f'{COMMON}key_holder = "h:2"\n{TLS}')
    key_holder.write_text(f'{COMMON}key_file = "share.key"\n{TLS}')
    found = revisions_of(MatcherSettings.load(matcher)) + revisions_of(KeyHolderSettings.load(key_holder))
    return {Path(one.place).name: (one.state, one.revision, one.known) for one in found}


def why(folder: Path, name: str) -> str:
    found = revisions_of(MatcherSettings.load(folder / "matcher.toml"))
    return next(one.why for one in found if Path(one.place).name == name)


def test_before_and_after_a_start(tmp_path: Path) -> None:
    names = {"gallery.db": "0007", "stock.db": "0002"} | dict.fromkeys(["ledger.db", "pace.db", "refresh.db"], "0001")
    assert said(tmp_path) == {name: ("not there yet", None, known) for name, known in names.items()}
    data = tmp_path / "data"
    kinds = [name.removesuffix(".db") for name in names]
    staged = restore("staging", data).name
    for kind in kinds:
        restore(kind, data)
    names |= {staged: "0002"}
    before = {path.name: path.read_bytes() for path in data.rglob("*.db")}
    assert said(tmp_path) == {name: ("earlier", None, known) for name, known in names.items()}
    assert {path.name: path.read_bytes() for path in data.rglob("*.db")} == before
    for kind in kinds:
        getattr(filled, f"check_{kind}")(data)
    filled._staging(data).close()
    assert said(tmp_path) == {name: ("current", known, known) for name, known in names.items()}


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE alembic_version SET version_num = '0099'", "gallery.db is newer than this program"),
        ("PRAGMA user_version = 4", "changes have no certificates"),
        ("PRAGMA application_id = 1", "not a gallery database"),
    ],
)
def test_one_that_would_be_refused_is_refused_in_words(statement: str, words: str, tmp_path: Path) -> None:
    restore("gallery", tmp_path / "data")
    filled.check_gallery(tmp_path / "data")
    with closing(sqlite3.connect(tmp_path / "data" / "gallery.db")) as connection, connection:
        connection.execute(statement)
    assert said(tmp_path)["gallery.db"][0] == "refused"
    assert words in why(tmp_path, "gallery.db")
