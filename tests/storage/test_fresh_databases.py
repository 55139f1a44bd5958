"""New databases of other tests (tests/fresh_databases.py) are what the steps make, to the last setting."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import get_args

import pytest
from sqlalchemy import create_engine, event

from tests.fresh_databases import told_what_steps_write
from veilmatch.server.ground.revisions import Kind, Revisions

SETTINGS = ("user_version", "application_id", "auto_vacuum", "encoding", "page_size")


def made(path: Path, kind: Kind) -> tuple[list[str], list[object], int]:
    """Make a new database; return what is in it, its settings, and how many statements it took."""
    engine, count = create_engine(f"sqlite:///{path}"), 0

    @event.listens_for(engine, "before_cursor_execute")
    def counted(*_: object) -> None:
        nonlocal count
        count += 1

    with engine.begin() as connection:
        Revisions.of(kind).bring_to_head(connection, path.name)
    engine.dispose()
    with closing(sqlite3.connect(path)) as found:
        return list(found.iterdump()), [found.execute(f"PRAGMA {name}").fetchone() for name in SETTINGS], count


@pytest.mark.parametrize("kind", get_args(Kind))
def test_they_are_the_same(kind: Kind, tmp_path: Path) -> None:
    *steps, took = made(tmp_path / "steps.db", kind)
    with told_what_steps_write():
        *noted, _ = made(tmp_path / "noted.db", kind)
        *told, needed = made(tmp_path / "told.db", kind)
    assert len(steps[0]) > 3
    assert steps == noted == told
    assert needed < took
