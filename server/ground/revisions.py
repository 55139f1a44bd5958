"""Which revision a database has, and how it comes to the one that this code knows.

    LEDGER = Revisions.of("ledger")
    with engine.begin() as connection:            # of SQLite: BEGIN IMMEDIATE
        found = LEDGER.bring_to_head(connection, "ledger.db")  # all steps, or none of them

Scripts, their order and the table `alembic_version` are Alembic's; its command line and its configuration are not used.
Steps go forward only. Whoever opens the transaction commits it, so that a kill at any moment leaves the database as it
was or as it is to be.
"""

from __future__ import annotations

import threading
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import Connection, inspect

from veilmatch.crypto.errors import IntegrityError

if TYPE_CHECKING:
    from alembic.script import ScriptDirectory

#: Every kind of database that daemons have.
Kind = Literal["gallery", "ledger", "stock", "pace", "refresh", "staging"]
_SCRIPTS = Path(__file__).parents[1] / "revisions"
_TABLE, _FOUND = "alembic_version", "SELECT version_num FROM alembic_version"
#: Alembic keeps the context of its operations in a global.
_one_at_a_time = threading.Lock()


class Revisions:
    """The revisions of one kind of database. folders: of its scripts."""

    def __init__(self, *folders: Path) -> None:
        self._folders = folders

    @staticmethod
    def of(kind: Kind) -> Revisions:
        """Return those of a kind of database of this code."""
        return Revisions(_SCRIPTS / kind)

    @property
    def head(self) -> str:
        """The last revision that this code knows."""
        return self._known[-1]

    @cached_property
    def _known(self) -> list[str]:
        return sorted(script.revision for script in self._scripts.walk_revisions())

    @cached_property
    def _scripts(self) -> ScriptDirectory:
        from alembic.script import ScriptDirectory

        return ScriptDirectory(str(self._folders[0]), version_locations=[str(folder) for folder in self._folders])

    def is_at_head(self, connection: Connection, name: str) -> bool:
        """Return whether a database has the last revision. Raises IntegrityError as `found` does."""
        return self.found(connection, name) == self.head

    def found(self, connection: Connection, name: str) -> str | None:
        """Return the revision of a database, None if it has none: it is new, or from before there were revisions.

        name: of the database, for errors; so below. Raises IntegrityError if it is newer than this code, or what it
        says is no revision.
        """
        found = revision_in(connection)
        if found is None or found in self._known:
            return found
        if found.isdecimal() and int(found) > int(self.head):
            raise IntegrityError(
                f"{name} is newer than this program",
                got=f"revision {found}",
                expected=f"revision {self.head} at most",
                hint="Start the version of Veilmatch that this database was last used with, or a later one. Databases"
                " are brought forward at a start, and never back (docs/storage.md).",
            )
        raise IntegrityError(
            f"{name} has a revision that there is not", got=found[:32], expected=f"{self.head} at most"
        )

    def require_head(self, connection: Connection, name: str) -> None:
        """Raise IntegrityError unless a database, which somebody else has open, has the revision that is read here."""
        if not self.is_at_head(connection, name):
            raise IntegrityError(
                f"{name} is of an earlier version",
                got=f"revision {revision_in(connection) or 'none'}",
                expected=f"revision {self.head}",
                hint="Start its daemon with this version of Veilmatch: it brings the database up.",
            )

    def bring_to_head(self, connection: Connection, name: str) -> str | None:
        """Take every step to the last revision, in the transaction that `connection` is in; return what was found.

        Raises IntegrityError as `found` does, and whatever a step raises.
        """
        found = self.found(connection, name)
        if found != self.head:
            with _one_at_a_time:
                self._steps(connection)
            if connection.dialect.name == "sqlite":
                # For programs that look at the head of the file; those of before read it there.
                connection.exec_driver_sql(f"PRAGMA user_version = {int(self.head)}")
        return found

    def _steps(self, connection: Connection) -> None:
        from alembic.migration import MigrationContext
        from alembic.operations import Operations

        def steps(at: str, _context: MigrationContext) -> list[Any]:
            return self._scripts._upgrade_revs("head", at)

        context = MigrationContext.configure(connection, opts={"fn": steps, "script": self._scripts})
        with Operations.context(context):
            context.run_migrations()


def revision_in(connection: Connection) -> str | None:
    """Return what a database says of its revision, None if it says nothing."""
    if not inspect(connection).has_table(_TABLE):
        return None
    found = connection.exec_driver_sql(_FOUND).scalars().all()
    return ", ".join(sorted(found)) or None
