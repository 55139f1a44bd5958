"""Statements of SQLAlchemy that are compiled once in a process of tests, and not again for each database.

An engine keeps what it has compiled, and tests open thousands of them, each for a few statements: compiling was half of
what these cost. What a statement becomes depends on the statement and on the kind of database, so that the engines of
all SQLite files may keep it together. A daemon has few engines for as long as it runs; there each keeps its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from sqlalchemy import Engine
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.util import LRUCache

#: Statements that are kept: more than there are.
_MOST = 5000

_compiled: LRUCache[Any, Any] = LRUCache(_MOST)


class _OneCache:
    """In place of an attribute of engines: what all SQLite files have compiled, or what another engine has."""

    def __get__(self, engine: Any, _: type[Any]) -> Any:
        return _compiled if isinstance(engine.dialect, SQLiteDialect_pysqlite) else engine.__dict__["_compiled_cache"]

    def __set__(self, engine: Any, own: Any) -> None:
        engine.__dict__["_compiled_cache"] = own


def _is_of_one_kind(self: SQLiteDialect_pysqlite, other: object) -> bool:
    # The dialect is part of the key under which a statement is kept.
    return type(other) is type(self) and other.paramstyle == self.paramstyle


def _hash_of_the_kind(self: SQLiteDialect_pysqlite) -> int:
    return hash((type(self), self.paramstyle))


@contextmanager
def compiled_once() -> Iterator[None]:
    """Engines of SQLite files that are made within this share what they compile."""
    with (
        patch.object(Engine, "_compiled_cache", _OneCache(), create=True),
        patch.object(SQLiteDialect_pysqlite, "__eq__", _is_of_one_kind),
        patch.object(SQLiteDialect_pysqlite, "__hash__", _hash_of_the_kind),
    ):
        yield
