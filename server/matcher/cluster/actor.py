"""What runs on a node of the cluster: a shard, and the matcher's database where the node can read it.

`nodes.py` makes Ray actors of this class. It has what every matcher of the installation has anyway: the public key,
ciphertexts, and for the moment of a query this matcher's share of a probe, uniformly random.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from sqlalchemy import select

from veilmatch.crypto.encryption.paillier import Paillier, PublicKey
from veilmatch.crypto.errors import StorageError, VeilmatchError
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.server.matcher.cluster import wire
from veilmatch.server.matcher.cluster.shard import Part, Shard, State, exponents_of
from veilmatch.server.matcher.gallery.disk.backends.sqlite import SqliteDatabase
from veilmatch.server.matcher.gallery.disk.reading import Reader
from veilmatch.server.matcher.gallery.disk.rows import find_gallery, of
from veilmatch.server.matcher.gallery.disk.schema import log
from veilmatch.server.matcher.query.pack_worker import make_handler
from veilmatch.server.workers.memory import return_large_blocks
from veilmatch.server.workers.threads import make_pool

#: Packs that are read, or asked for, at a time.
BATCH = 16
#: Bodies of the log that are read at a time: a long transaction would keep erased records in the write-ahead log.
_BODIES = 64


class ShardActor:
    """One shard on a node. names: of the galleries; database: the matcher's file, None if it is on a
    server, whose password stays with the matcher; machine: where that file may be opened.

    All methods take bytes and answer with bytes (wire.py); none raises.
    """

    def __init__(
        self,
        public_key: PublicKey,
        part: tuple[int, int],
        names: Sequence[str],
        database: str | None,
        machine: str,
        cpus: int,
    ) -> None:
        return_large_blocks()
        scheme = Paillier(public_key)
        self._names = names
        self._pool = make_pool(cpus, scheme.ring.releases_gil, make_handler, public_key)
        self._shard = Shard(Part(*part), self._pool, scheme, names)
        file = Path(database) if database is not None and machine == this_machine() else None
        self._file = GalleryFile(file, scheme.parameters) if file is not None else None
        self._following = [asyncio.Lock() for _ in names]

    async def match(self, head: bytes, packs: bytes, exponents: bytes) -> bytes:
        """packs: numbers, >u4; exponents: <i8[D] -> R of each pack, joined."""
        return await _answered(lambda: self._match(*wire.parse_head(head), packs, exponents))

    async def follow(self, head: bytes) -> bytes:
        """Catch up with a state from the file, if it can -> Status."""
        return await _answered(lambda: self._follow(*wire.parse_head(head)))

    async def extend(self, head: bytes, bodies: bytes) -> bytes:
        """bodies: of the changes that lead from here to this state -> Status."""
        return await _answered(lambda: self._extend(*wire.parse_head(head), bodies))

    async def put(self, head: bytes, packs: bytes) -> bytes:
        """packs: contents of missing ones -> Status."""
        return await _answered(lambda: self._put(*wire.parse_head(head), packs))

    async def _match(self, gallery: int, state: State, packs: bytes, exponents: bytes) -> bytes:
        numbers = np.frombuffer(packs, dtype=">u4").tolist()
        return b"".join(await self._shard.match(gallery, state, numbers, exponents_of(exponents)))

    async def _follow(self, gallery: int, state: State) -> bytes:
        why = ""
        async with self._following[gallery]:
            if self._file is None:
                why = "the database is no file of this machine"
            elif not self._shard.is_at(gallery, state):
                try:
                    await self._read(self._file, gallery, state)
                except VeilmatchError as error:
                    # Whatever is wrong with the file: the matcher has what it has read itself.
                    why = str(error)
        return self._status(gallery, why)

    async def _read(self, file: GalleryFile, gallery: int, state: State) -> None:
        name, here = self._names[gallery], self._shard.state(gallery)
        if here.sequence < state.sequence:
            await self._shard.extend(gallery, file.bodies(name, here.sequence, state.sequence), state)
        while missing := self._shard.missing(gallery)[:BATCH]:
            found = await asyncio.to_thread(file.packs, name, missing)
            if not found:
                raise StorageError("packs of a state that is not there", got=missing[0])
            await self._shard.put(gallery, found)

    async def _extend(self, gallery: int, state: State, bodies: bytes) -> bytes:
        async with self._following[gallery]:
            await self._shard.extend(gallery, wire.split(bodies), state)
        return self._status(gallery)

    async def _put(self, gallery: int, state: State, packs: bytes) -> bytes:
        async with self._following[gallery]:
            await self._shard.put(gallery, list(wire.split(packs)))
        return self._status(gallery)

    def _status(self, gallery: int, why: str = "") -> bytes:
        shard, missing = self._shard, self._shard.missing(gallery)
        here = socket.gethostname(), os.getpid()
        status = wire.Status(shard.state(gallery), tuple(missing[:BATCH]), shard.packs(gallery), *here, why)
        return status.encode()


class GalleryFile:
    """gallery.db of a matcher, read by another process of the same machine. Methods block."""

    def __init__(self, path: Path, parameters: ParameterSet) -> None:
        self._database = SqliteDatabase(path, reads_only=True)
        self._reader = Reader(self._database, parameters, None)

    def bodies(self, name: str, after: int, up_to: int) -> Iterator[tuple[int, bytes]]:
        """Yield (sequence, encoded body) of the changes after number `after`, up to and with `up_to`."""
        while after < up_to:
            with self._database.reading() as connection:
                numbers = log.c.sequence.between(after + 1, min(after + _BODIES, up_to))
                query = select(log.c.sequence, log.c.body).where(of(log, find_gallery(connection, name)), numbers)
                rows = connection.execute(query.order_by(log.c.sequence)).all()
            if not rows:
                return
            yield from ((row.sequence, row.body) for row in rows)
            after = rows[-1].sequence

    def packs(self, name: str, numbers: Sequence[int]) -> list[tuple[int, bytes]]:
        """Return (number, content) of those of these packs that are there."""
        return self._reader.packs_at(name, list(islice(numbers, BATCH)))


def this_machine() -> str:
    """Return what tells machines apart: SQLite's write-ahead log is shared memory, and no other machine may open it."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


async def _answered(work: Callable[[], Awaitable[bytes]]) -> bytes:
    try:
        return wire.answer(await work())
    except Exception as error:
        return wire.failure(error)
