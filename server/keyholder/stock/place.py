"""Where a stock.db was made: on which machine, and as which file. One that is somewhere else is a copy, or was moved.

A copy says of used randomness that it is fresh, so it is not used. What a copy has not in common with the file that was
copied: the id of the machine, the number of the file and, where the file system gives it, a random number that is drawn
for each new file. A snapshot of a whole machine or disk has all of them; only the peers can notice that (memory.py).
Kept are digests that say nothing about the machine.
"""

from __future__ import annotations

import array
import fcntl
import os
from pathlib import Path

from sqlalchemy import Connection, insert, inspect, select

from veilmatch.crypto.digests import digest
from veilmatch.crypto.errors import IntegrityError
from veilmatch.server.keyholder.stock.schema import generation, place

_MACHINE_ID = Path("/etc/machine-id")
#: Files and variables of a container. The id in it is of its image, and changes with that.
_OF_CONTAINERS = (Path("/.dockerenv"), Path("/run/.containerenv")), ("container", "KUBERNETES_SERVICE_HOST")
#: FS_IOC_GETVERSION of linux/fs.h: _IOR('v', 1, long).
_GET_VERSION = 2 << 30 | array.array("l").itemsize << 16 | ord("v") << 8 | 1
MOVED_HINT = (
    "If it is a copy, of a backup, a snapshot or a clone, begin with an empty data directory. If it was moved here, or"
    " this machine got another id, run `veilmatch keyholder moved`: a new stock is begun, budgets and audit log go on."
)


def require_place(connection: Connection, path: Path, of: bytes) -> None:
    """Raise IntegrityError if a stock.db, of the generation `of`, was not made where it is.

    One of a version that did not say where it was made says so from now on; whoever opens the transaction commits it.
    """
    here = _here(path, of)
    made = _made(connection)
    if made is None:
        connection.execute(insert(place).values(id=1, machine=here[0], file=here[1]))
    elif (got := _difference(made, here)) is not None:
        raise IntegrityError(
            "the stock in the data directory is a copy, or was moved",
            got=f"{path}, {got}", expected="the stock.db that was made here", hint=MOVED_HINT,
        )  # fmt: skip


def moved_from(connection: Connection, path: Path) -> str | None:
    """Return in words how a stock.db is not where it was made; None if it is, or does not say. Nothing is written."""
    if not inspect(connection).has_table(place.name):
        return None
    found, made = connection.scalar(select(generation.c.value)), _made(connection)
    return None if made is None or found is None else _difference(made, _here(path, bytes(found)))


def _here(path: Path, of: bytes) -> tuple[bytes, bytes]:
    return _machine(of), _file(path, of)


def _made(connection: Connection) -> tuple[bytes, bytes] | None:
    row = connection.execute(select(place.c.machine, place.c.file)).one_or_none()
    return None if row is None else (bytes(row.machine), bytes(row.file))


def _difference(made: tuple[bytes, bytes], here: tuple[bytes, bytes]) -> str | None:
    if made[0] != here[0]:
        return "made on another machine"
    return "made as another file" if made[1] != here[1] else None


def _machine(of: bytes) -> bytes:
    try:
        found = b"" if _is_in_container() else _MACHINE_ID.read_bytes().strip()
    except OSError:
        found = b""
    return digest("stock machine", of, found)


def _is_in_container() -> bool:
    files, variables = _OF_CONTAINERS
    return any(file.exists() for file in files) or any(name in os.environ for name in variables)


def _file(path: Path, of: bytes) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        version = array.array("l", [0])
        try:
            fcntl.ioctl(descriptor, _GET_VERSION, version)
        except OSError:
            version[0] = 0  # the file system has none
        return digest("stock file", of, os.fstat(descriptor).st_ino, version[0] & 0xFFFFFFFF)
    finally:
        os.close(descriptor)
