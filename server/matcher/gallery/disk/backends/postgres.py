"""The galleries of one matcher in a PostgreSQL database of its own.

The connection that writes holds an advisory lock of the server for as long as it lives: so there is one writer, and one
that has lost its connection has lost the right to write with it. Every write goes over that connection, one at a time.
Readers have connections of their own, each transaction with one snapshot.

A connection that is lost ends what was going on with StorageError, and the next call makes another one. Whether a
commit that was under way then counts is not known; whoever called reads again (`Gallery.refresh`).
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import DBAPIError

from veilmatch.common.secret_file import read_private
from veilmatch.crypto.errors import (
    ConfigurationError,
    IntegrityError,
    MissingExtraError,
    StorageError,
    VeilmatchError,
)
from veilmatch.server.config import StorageSettings
from veilmatch.server.ground.database import in_log
from veilmatch.server.matcher.gallery.disk.backends.base import BUSY_TIMEOUT_S, Ask, Database, is_new

#: Of the advisory lock, one for each database of a server: "veil".
_LOCK = 0x7665696C
#: How long the lock is waited for at a start, for a server that has not noticed yet that its holder is gone, and later.
_LOCK_WAIT_S, _LOCK_AGAIN_S = 15.0, 2.0
_LOOK_S = 0.2
#: Of readers: those that are kept open, and more at once.
_READERS, _MORE_READERS = 8, 24
#: For a server that does not answer; less than another server waits for this one (`peer_timeout_s`).
_CONNECTING = {"connect_timeout": 3, "keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3,
               "tcp_user_timeout": 5000, "fallback_application_name": "veilmatch"}  # fmt: skip
#: Of every connection. The server too notices a matcher that is gone; and no commit returns before it is on disk.
_SESSION = (
    f"SET lock_timeout = {BUSY_TIMEOUT_S * 1000}",
    "SET tcp_keepalives_idle = 5",
    "SET tcp_keepalives_interval = 2",
    "SET tcp_keepalives_count = 3",
    "SELECT set_config('synchronous_commit', 'on', false)"
    " WHERE current_setting('synchronous_commit') IN ('off', 'local')",
)
#: Schemas in which everybody with an account may make functions: what is asked of the server could call one of those,
#: with all rights of the matcher. Every name is in full, or so could this.
_OPEN_SCHEMAS = (
    "SELECT n::pg_catalog.text FROM pg_catalog.unnest(pg_catalog.current_schemas(false)) AS n"
    " WHERE pg_catalog.has_schema_privilege('public'::pg_catalog.name, n::pg_catalog.text, 'CREATE'::pg_catalog.text)"
)
#: Of the environment, which says where a server is that the URL does not say it of.
_ELSEWHERE = ("PGHOST", "PGHOSTADDR", "PGSERVICE")
#: What a server has to be set to, so that what has returned survives it.
_REQUIRED = {"fsync": "on", "full_page_writes": "on", "server_encoding": "UTF8", "transaction_read_only": "off"}

#: By the first letters of SQLSTATE: what speaks of the server, the network or another session, not of the contents.
_NOT_OF_THE_CONTENTS = ("08", "25006", "28", "3D", "40", "42501", "53", "55", "57", "58")


class PostgresDatabase(Database):
    """An open database on a server. reads_only: beside the matcher that has it open; then it has no lock."""

    def __init__(self, settings: StorageSettings, *, reads_only: bool = False) -> None:
        require_psycopg()
        url = make_url(settings.url).set(drivername="postgresql+psycopg")
        super().__init__(f"PostgreSQL database {url.database}")
        self._engine = _engine(url, settings)
        snapshot = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        self._reading = self._engine.execution_options(**snapshot)
        self._turn = threading.Lock()
        self._writer: Connection | None = None
        #: The driver's connection below it.
        self._driver: Any = None
        self._has_lock = False
        if not reads_only:
            with self.translated(), self._turn:
                self._take_lock(_LOCK_WAIT_S)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """See Database."""
        with self.translated(), self._reading.begin() as connection:
            yield connection

    @contextmanager
    def reading_fast(self) -> Iterator[Ask]:
        """See Database."""
        with self.reading() as connection:

            def ask(statement: str, values: Sequence[Any]) -> Any:
                return connection.exec_driver_sql(statement.replace("?", "%s"), tuple(values)).fetchone()

            yield ask

    @contextmanager
    def writing(self, *, moves_log: bool = True) -> Iterator[Connection]:
        """See Database."""
        if not self._turn.acquire(timeout=BUSY_TIMEOUT_S):
            raise self.unusable("another change is being written")
        try:
            with self.translated():
                writer = self._with_lock()
                try:
                    with writer.begin() as transaction:
                        yield writer
                        with self.committing():
                            transaction.commit()
                except DBAPIError as error:
                    if error.connection_invalidated or writer.invalidated:
                        self._drop()
                    raise
        finally:
            self._turn.release()

    def upgrading(self) -> AbstractContextManager[Connection]:
        """See Database: tables are changed like rows here, and references are looked at as ever."""
        return self.writing()

    def dangling(self, connection: Connection) -> int:
        """See Database: the server lets none come up."""
        return 0

    def forget_erased(self) -> None:
        """Do nothing: what was erased is overwritten when the server makes use of its place, and not before."""

    def require_usable(self, connection: Connection) -> None:
        """Raise ConfigurationError if the server may lose what it has acknowledged, IntegrityError if it is not ours.

        It is not looked through for damage: the server has checksums of its own (docs/storage.md).
        """
        for name, expected in _REQUIRED.items():
            found = connection.exec_driver_sql(f"SHOW {name}").scalar()
            if found != expected:
                raise ConfigurationError(
                    f"{self.name} is on a server that is not set up for it",
                    got=f"{name} = {found}", expected=f"{name} = {expected}",
                )  # fmt: skip
        if not is_new(connection) and not connection.dialect.has_table(connection, "identity"):
            raise IntegrityError("the database is not a gallery database", expected="an empty one, for this matcher")

    def close(self) -> None:
        """See Database; the lock goes with its connection."""
        with self._turn:
            self._drop()
        self._engine.dispose()

    def typed(self, error: DBAPIError) -> VeilmatchError:
        """See Database. A connection that is lost has no SQLSTATE."""
        original = error.orig
        state = getattr(original, "sqlstate", None)
        said = f"{type(original).__name__}{f' ({state})' if state else ''}"
        if error.connection_invalidated or state is None or state.startswith(_NOT_OF_THE_CONTENTS):
            return self.unusable(f"PostgreSQL: {said}")
        return IntegrityError("the gallery database is damaged", got=f"PostgreSQL: {said}")

    def _with_lock(self) -> Connection:
        """Return the connection that writes, made anew if it was lost. Hold the turn."""
        if self._writer is not None:
            try:
                with self._writer.begin():
                    self._writer.exec_driver_sql("SELECT 1")
            except DBAPIError:
                self._drop()
        if self._writer is None:
            self._take_lock(_LOCK_AGAIN_S)
            in_log("connected again", database=self.name)
        assert self._writer is not None
        return self._writer

    def _take_lock(self, wait_s: float) -> None:
        """Make the connection that writes. Raises ConfigurationError if another process has the lock."""
        # Taken out of the pool: closed, it is gone, and the lock with it.
        connection = self._engine.connect().execution_options(isolation_level="READ COMMITTED")
        connection.detach()
        until_s = time.monotonic() + wait_s
        try:
            while not self._try_lock(connection):
                if time.monotonic() > until_s:
                    raise self._taken(connection)
                time.sleep(_LOOK_S)
        except BaseException:
            connection.close()
            raise
        self._writer, self._driver, self._has_lock = connection, connection.connection.dbapi_connection, True

    @staticmethod
    def _try_lock(connection: Connection) -> bool:
        with connection.begin():
            return bool(connection.exec_driver_sql(f"SELECT pg_try_advisory_lock({_LOCK})").scalar())

    def _taken(self, connection: Connection) -> VeilmatchError:
        """Return the error that another daemon writes there; of one that has written, a failure of its own."""
        with connection.begin():
            holder = connection.exec_driver_sql(
                "SELECT a.pid, coalesce(host(a.client_addr), 'its own machine') FROM pg_locks l"
                " JOIN pg_stat_activity a ON a.pid = l.pid JOIN pg_database d ON d.oid = l.database"
                " WHERE l.locktype = 'advisory' AND l.granted AND d.datname = current_database()"
            ).first()
        who = f"{self.name}: session {holder[0]} of the server, from {holder[1]}" if holder else self.name
        if self._has_lock:
            return StorageError(
                "another daemon has taken the gallery database over", needed="a database for this matcher alone",
                available=who,
            )  # fmt: skip
        return ConfigurationError(
            "another daemon uses the gallery database",
            got=who,
            expected="no other matcher there",
            hint="Every matcher needs a database of its own. If this one's daemon still runs, stop it.",
        )

    def _drop(self) -> None:
        if self._writer is not None:
            self._writer.invalidate()
            self._writer.close()
            # It belongs to no pool, so SQLAlchemy only forgets it: it would live, and its lock, for as long as an error
            # does that came over it.
            self._driver.close()
            self._writer = self._driver = None


def require_psycopg() -> None:
    """Raise MissingExtraError if the driver is not installed. Imports nothing."""
    if find_spec("psycopg") is None:
        raise MissingExtraError(
            "galleries in PostgreSQL need the extra `postgres` of Veilmatch",
            got="no module psycopg",
            expected="pip install 'veilmatch[postgres]'",
        )


def _engine(url: URL, settings: StorageSettings) -> Engine:
    given = {name: value for name, value in _CONNECTING.items() if name not in url.query}
    if "sslmode" not in url.query and (found := [name for name in _ELSEWHERE if os.environ.get(name)]):
        raise ConfigurationError(
            "the environment says where PostgreSQL is, and [storage] does not", got=", ".join(found),
            expected="url of [storage] with the host, and ?sslmode=verify-full if that is another machine",
        )  # fmt: skip
    engine = create_engine(
        url,
        connect_args=given,
        hide_parameters=True,
        # A connection that was lost while nobody used it is noticed before it is used.
        pool_pre_ping=True,
        pool_size=_READERS,
        max_overflow=_MORE_READERS,
        pool_timeout=BUSY_TIMEOUT_S,
    )

    @event.listens_for(engine, "do_connect")
    def _with_password(_dialect: object, _record: object, _words: object, fields: dict[str, Any]) -> None:
        # Read each time: the engine, which may be shown, does not have it, and the file may change.
        if settings.password_file is not None:
            fields["password"] = _password(settings)

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: object) -> None:
        with connection.cursor() as cursor:
            opened = [name for (name,) in cursor.execute(_OPEN_SCHEMAS).fetchall()]
            if opened:
                connection.close()
                raise ConfigurationError(
                    f"anybody may make functions in PostgreSQL database {url.database}, which would run as the matcher",
                    got=f"CREATE on schema {', '.join(opened)} for PUBLIC",
                    expected="REVOKE CREATE ON SCHEMA public FROM PUBLIC (docs/storage.md)",
                )
            for statement in _SESSION:
                cursor.execute(statement)
        connection.commit()

    return engine


def _password(settings: StorageSettings) -> str:
    assert settings.password_file is not None
    try:
        return read_private(settings.password_file, "the file of the database's password").decode().strip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise ConfigurationError(
            "the file of the database's password cannot be read", got=why, expected=str(settings.password_file)
        ) from None
