"""What the code of before revisions left behind is opened by this one: all of it is there, and it works."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import structlog
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import MetaData, create_engine

from tests.storage import filled
from tests.storage.dumps import FILES, restore
from veilmatch.server.admission import ledger
from veilmatch.server.ground.revisions import Kind, Revisions
from veilmatch.server.keyholder.refresh import pace, record
from veilmatch.server.keyholder.stock import schema as stock
from veilmatch.server.matcher.follow import staging_file
from veilmatch.server.matcher.gallery.disk import schema

TABLES: dict[Kind, MetaData] = {
    "gallery": schema.metadata,
    "ledger": ledger._metadata,
    "stock": stock.metadata,
    "pace": pace._metadata,
    "refresh": record._metadata,
    "staging": staging_file.metadata,
}


def kind_of(name: str) -> Kind:
    return "gallery" if name == "rotating" else name  # type: ignore[return-value]


def version_of(path: Path) -> tuple[str, int]:
    with closing(sqlite3.connect(path)) as connection:
        ((revision,),) = connection.execute("SELECT version_num FROM alembic_version").fetchall()
        ((in_head,),) = connection.execute("PRAGMA user_version").fetchall()
    return revision, in_head


def tables_of(path: Path) -> set[tuple[str, ...]]:
    """Every table and index: name, and columns with type, null and place in the key."""
    with closing(sqlite3.connect(path)) as connection:
        names = connection.execute("SELECT type, name FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%'").fetchall()
        found = set[tuple[str, ...]]()
        for kind, name in names:
            rows = connection.execute(f"PRAGMA {kind}_info({name})").fetchall()
            found |= {(kind, name, *map(str, row[1:4] + row[5:])) for row in rows}
            if kind == "table":
                keys = connection.execute(f"PRAGMA foreign_key_list({name})").fetchall()
                found |= {("reference", name, *map(str, key[2:5])) for key in keys}
        return found


@pytest.mark.parametrize("name", FILES)
def test_a_data_directory_from_before_revisions_goes_on(name: str, tmp_path: Path) -> None:
    path = restore(name, tmp_path)
    with structlog.testing.capture_logs() as log:
        structlog.configure()
        getattr(filled, f"check_{name}")(tmp_path)
    head = Revisions.of(kind_of(name)).head
    told = [line for line in log if line["event"] == "database brought up" and line["database"] == path.name]
    assert [(line["found"], line["revision"]) for line in told] == [("before revisions", head)]
    if path.exists():
        assert version_of(path) == (head, int(head))


@pytest.mark.parametrize("name", FILES)
def test_what_is_brought_up_and_what_is_made_anew_are_the_same(name: str, tmp_path: Path) -> None:
    earlier = restore(name, tmp_path / "earlier")
    with closing(sqlite3.connect(earlier, isolation_level=None)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    engines = [create_engine(f"sqlite:///{path}") for path in (earlier, tmp_path / "new.db")]
    for engine in engines:
        with engine.begin() as connection:
            Revisions.of(kind_of(name)).bring_to_head(connection, "it")
            differences = compare_metadata(MigrationContext.configure(connection), TABLES[kind_of(name)])
            assert differences == []
        engine.dispose()
    assert tables_of(earlier) == tables_of(tmp_path / "new.db")
