"""Databases of tests that are new, without every step that makes one of them.

A gallery begins as its first revision made it and takes each step since, which is most of what opening a new one
costs, and tests open thousands. What the steps write into a new file is always the same: the first time in a process
they are taken and the statements noted, and the next new file of that kind is told these. Files that are not new, and
PostgreSQL, take the steps. Tests of the steps themselves do so too (tests/storage/conftest.py).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, event, inspect

from veilmatch.server.ground.revisions import Revisions

_take_steps = Revisions._steps
#: Statements and their values, by the folders of the scripts, the revisions that are in them, and the day, which one
#: step of galleries writes.
_noted: dict[tuple[tuple[Path, ...], tuple[str, ...], int], list[tuple[str, Any]]] = {}


def _steps_or_their_statements(self: Revisions, connection: Connection) -> None:
    if connection.dialect.name != "sqlite" or inspect(connection).get_table_names():
        _take_steps(self, connection)
        return
    kind = self._folders, tuple(self._known), int(time.time() // 86400)
    if kind in _noted:
        for statement, values in _noted[kind]:
            connection.exec_driver_sql(statement, values).close()
        return
    noted: list[tuple[str, Any]] = []
    with _noting(connection, noted):
        _take_steps(self, connection)
    _noted[kind] = noted


@contextmanager
def _noting(connection: Connection, noted: list[tuple[str, Any]]) -> Iterator[None]:
    def note(_connection: object, _cursor: object, statement: str, values: Any, *_: object) -> None:
        if not statement.lstrip().upper().startswith(("SELECT", "PRAGMA")):
            noted.append((statement, values))

    event.listen(connection, "before_cursor_execute", note)
    try:
        yield
    finally:
        event.remove(connection, "before_cursor_execute", note)


@contextmanager
def told_what_steps_write(*, told: bool = True) -> Iterator[None]:
    """New databases of this process are made so within this. told: False for steps, within a context with True."""
    before = Revisions._steps
    Revisions._steps = _steps_or_their_statements if told else _take_steps  # type: ignore[method-assign]
    try:
        yield
    finally:
        Revisions._steps = before  # type: ignore[method-assign]
