"""A real PostgreSQL server for tests: made in a folder of its own, asked for passwords, killed and started again."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import closing, suppress
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import psutil
import psycopg

from veilmatch.server.config import StorageSettings

#: Who a server is run as where the tests are root: it refuses to be.
ACCOUNT = "postgres"
ROLE = "veilmatch"
_START_S = 60.0
_numbers = count(1)


@cache
def programs() -> Path | None:
    """Return the folder of a server's programs, None if there is none on this machine."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if (on_path := shutil.which("initdb")) is not None:
        found.append(Path(on_path).parent)
    return max(found, key=lambda path: int(path.parent.name) if path.parent.name.isdecimal() else 0, default=None)


class PostgresServer:
    """A server with fsync on that listens on a socket in its folder only.

    within: where that folder is; None: in memory, where that can be.
    """

    def __init__(self, within: Path | None = None) -> None:
        found = programs()
        assert found is not None
        self._programs = found
        # Not in pytest's folder, which is nobody else's to enter; the path of a socket is short. In memory where that
        # can be: what has reached the kernel outlives every process, and that is what is killed here.
        memory = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else None
        self.folder = Path(tempfile.mkdtemp(prefix="veilmatch-pg-", dir=within or memory))
        self._data = self.folder / "data"
        self._as: dict[str, Any] = {}
        if os.getuid() == 0:
            self._as = {"user": ACCOUNT, "group": ACCOUNT, "extra_groups": []}
            shutil.chown(self.folder, ACCOUNT)
        self._password, self.password = secrets.token_hex(16), secrets.token_hex(16)
        self.password_file = self._private("password", self.password)
        first = self._private("first-password", self._password)
        if self._as:
            shutil.chown(first, ACCOUNT)
        self._run(
            "initdb", "--pgdata", self._data, "--username", ACCOUNT, "--auth", "scram-sha-256", "--pwfile", first,
            "--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync",
        )  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None
        self.start()
        self.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{self.password}'")

    @property
    def pid(self) -> int:
        """The process that starts all others of it."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [self._programs / "postgres", "-D", self._data, "-k", self.folder, "-c", "listen_addresses="]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, **self._as)
        until = time.monotonic() + _START_S
        while True:
            try:
                return self.execute("SELECT 1")
            except psycopg.OperationalError:
                assert time.monotonic() < until, (self.folder / "log").read_text()
                if self._process.poll() is not None:  # what the one before it left is still in use
                    return self.start()
                time.sleep(0.05)

    def kill(self) -> None:
        """kill -9 of the server and of every session."""
        assert self._process is not None
        # The first one first: it starts sessions anew, and they end without it.
        server = psutil.Process(self._process.pid)
        everything = [server, *server.children(recursive=True)]
        for process in everything:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        self._process.wait()
        psutil.wait_procs(everything)

    def stop(self) -> None:
        """End it in order, and forget everything."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(_START_S)
        shutil.rmtree(self.folder)

    def execute(self, statement: str, database: str = "postgres", *, unchecked: bool = False) -> None:
        """Have a statement done by whoever may do everything. unchecked: references too."""
        place = {"host": str(self.folder), "user": ACCOUNT, "password": self._password, "dbname": database}
        with closing(psycopg.connect(**place, autocommit=True)) as connection:
            if unchecked:
                connection.execute("SET session_replication_role = replica")
            changed = connection.execute(statement)  # type: ignore[call-overload]
            assert not unchecked or changed.rowcount == 1, statement

    def new_database(self, template: str = "template0") -> StorageSettings:
        """Return a database that a matcher may use, with its password in a file: an empty one, or a copy of another."""
        name = f"tests_{os.getpid()}_{next(_numbers)}"
        self.execute(f"CREATE DATABASE {name} OWNER {ROLE} TEMPLATE {template}")
        return self.settings(name)

    def settings(self, name: str) -> StorageSettings:
        """Return how a matcher is told of a database."""
        url = f"postgresql://{ROLE}@/{name}?host={self.folder}"
        return StorageSettings(url=url, password_file=self.password_file)

    def holds(self, text: str) -> bool:
        """Return whether any file of any database has this text in it; what is in memory only is written first."""
        self.execute("CHECKPOINT")
        for path in (self._data / "base").rglob("*"):
            with suppress(FileNotFoundError, IsADirectoryError):
                if text.encode() in path.read_bytes():
                    return True
        return False

    def _private(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.touch(mode=0o600)
        path.write_text(text + "\n")
        return path

    def _run(self, program: str, *arguments: str | Path) -> None:
        command = [self._programs / program, *arguments]
        subprocess.run(command, check=True, capture_output=True, cwd=self.folder, **self._as)
