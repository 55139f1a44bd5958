"""What a database of galleries can do, whichever it is; `sqlite.py` and `postgres.py` do it.

One process writes, one transaction at a time. What has returned survives a kill of the process and a power cut, of the
machine that the database is on.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from sqlalchemy import Connection, inspect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from veilmatch.crypto.errors import StorageError, VeilmatchError
from veilmatch.server.monitoring import meters

#: Shorter than devices wait for an answer by default (15 s), so that whose database is locked is still told.
BUSY_TIMEOUT_S = 8

#: Asks for one row, in SQL with ? for values; None if there is none.
Ask = Callable[[str, Sequence[Any]], Any]


class Database(ABC):
    """One open database. Any number of threads may use it; each transaction has its own connection.

    name: for logs and errors. Errors of the database leave as IntegrityError (it is damaged) or StorageError (all
    others), without their text, which quotes statements and values.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    def reading(self) -> AbstractContextManager[Connection]:
        """A transaction that sees one state."""

    @abstractmethod
    def reading_fast(self) -> AbstractContextManager[Ask]:
        """The same without the cost of putting statements together, for what every verification goes through."""

    @abstractmethod
    def writing(self, *, moves_log: bool = True) -> AbstractContextManager[Connection]:
        """A transaction: durable when the block has ended, undone if it ends by an exception.

        moves_log: whether its end may take long for housekeeping; without it, it takes a moment.
        """

    @abstractmethod
    def upgrading(self) -> AbstractContextManager[Connection]:
        """The same for statements that change tables; who uses it looks for references that are left over."""

    @abstractmethod
    def dangling(self, connection: Connection) -> int:
        """Return how many references name rows that are not there: of what was damaged, or of a step that is wrong."""

    @abstractmethod
    def forget_erased(self) -> None:
        """Overwrite what was erased wherever this program can; see docs/storage.md."""

    @abstractmethod
    def require_usable(self, connection: Connection) -> None:
        """Raise unless the database is sound and of a kind that revisions can be applied to, and keeps what it says.

        It is asked before anything is read or changed. It may be new.
        """

    @abstractmethod
    def close(self) -> None:
        """Close every connection."""

    @abstractmethod
    def typed(self, error: DBAPIError) -> VeilmatchError:
        """Return what an error of the database is here."""

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Let errors of the database leave as errors of ours. The original is dropped."""
        try:
            yield
        except DBAPIError as error:
            raise self.typed(error) from None
        except PoolTimeoutError:
            raise self.unusable("too many connections at once") from None

    @contextmanager
    def committing(self) -> Iterator[None]:
        """Measure how long a commit takes to be on disk, or at the server that has the database."""
        started = time.perf_counter()
        yield
        meters.synced("gallery", 1, time.perf_counter() - started)

    def unusable(self, why: str) -> StorageError:
        """Return the error for a database that cannot be read or written now."""
        return StorageError(
            f"{self.name} cannot be read or written", needed="a database that can be written", available=why
        )


def is_new(connection: Connection) -> bool:
    """Return whether nothing is in the database."""
    return not inspect(connection).get_table_names()
