"""Galleries in a file and on a server: the same tests for both. Import the fixtures into a conftest.

Where there is no server on the machine the tests are those of files alone, and tests/storage/test_postgres_here.py says
so; in CI it fails then.
"""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.storage.postgres import PostgresServer, programs
from veilmatch.server.config import GalleriesIn, StorageSettings

BACKENDS = ("sqlite", "postgres") if programs() else ("sqlite",)


@dataclass
class Backend:
    """A place for galleries, and a way past the store to what is in it. server: of a PostgreSQL database."""

    where: GalleriesIn
    server: PostgresServer | None = None

    def another(self, name: str) -> GalleriesIn:
        """Return a second place of the same kind."""
        return self.where / name if isinstance(self.where, Path) else self._server().new_database()

    def copy(self, name: str) -> GalleriesIn:
        """Return a copy of the place, which nobody has open. name: of the copy, where names matter."""
        if isinstance(self.where, Path):
            return Path(shutil.copytree(self.where, self.where.with_name(name)))
        return self._server().new_database(template=database_of(self.where))

    def execute(self, statement: str) -> None:
        """Change one row, in SQLite's words, and no reference is looked at."""
        if isinstance(self.where, Path):
            with closing(sqlite3.connect(self.where / "gallery.db")) as connection, connection:
                assert connection.execute(statement).rowcount == 1, statement
        else:
            self._server().execute(_in_postgres(statement), database_of(self.where), unchecked=True)

    def _server(self) -> PostgresServer:
        assert self.server is not None
        return self.server


def database_of(settings: StorageSettings) -> str:
    """Return the name of a database."""
    return urlsplit(settings.url).path.strip("/")


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One server for all tests of a process; who kills it starts it again."""
    server = PostgresServer()
    yield server
    server.stop()


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    """An empty place, of each kind."""
    if request.param == "sqlite":
        return Backend(tmp_path / "data")
    server: PostgresServer = request.getfixturevalue("postgres")
    return Backend(server.new_database(), server)


@pytest.fixture
def where(backend: Backend) -> GalleriesIn:
    """The same, for a store."""
    return backend.where


def _in_postgres(statement: str) -> str:
    statement = re.sub(r"zeroblob\((\d+)\)", r"decode(repeat('00', \1), 'hex')", statement)
    statement = statement.replace("AS BLOB", "AS bytea")
    return re.sub(r"x'([0-9a-f]*)'", r"'\\x\1'::bytea", statement)
