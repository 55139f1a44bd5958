"""A gallery of real ciphertexts under the toy key, and what any answer about it decrypts to."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from tests.crypto.toys import TOY, toy_key, toy_public_key
from tests.matcher.galleries import change_gallery, mutation
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.encryption.paillier import Paillier
from veilmatch.crypto.packing.fields import Array
from veilmatch.server.matcher.cluster.actor import ShardActor, this_machine
from veilmatch.server.matcher.cluster.packs import Actors, ClusterPacks
from veilmatch.server.matcher.gallery.disk.database import FILE_NAME
from veilmatch.server.matcher.gallery.disk.store import Store
from veilmatch.server.matcher.gallery.gallery import Gallery
from veilmatch.server.matcher.query.pack_worker import PackWorkers, make_handler
from veilmatch.server.workers.threads import WorkerThreads

PUBLIC_KEY = toy_public_key(TOY)
SCHEME = Paillier(PUBLIC_KEY)
NAMES = ["main", "other"]
#: Five runs of packs, the last one not full.
PACKS = 36


class Packed:
    """Galleries on disk, the packs of `main` in clear, and a matcher's local workers."""

    def __init__(self, folder: Path, packs: int = PACKS) -> None:
        self.folder = folder
        self.store = Store(folder, PUBLIC_KEY.key_id, TOY)
        self.local = PackWorkers(WorkerThreads(1, make_handler, PUBLIC_KEY), SCHEME)
        self.here = PackWorkers(WorkerThreads(2, make_handler, PUBLIC_KEY), SCHEME)
        self.gallery = Gallery(NAMES[0], 0, self.store, self.here, TOY.slots)
        self.clear: dict[int, list[int]] = {}
        self._first = packs
        self._changes = 0

    async def open(self) -> Packed:
        await self.gallery.load()
        for start in range(0, self._first, 9):  # several changes: the log has more than one body
            await self.change(range(start, min(start + 9, self._first)))
        return self

    async def change(self, packs: Sequence[int]) -> None:
        """Put a template into each of these packs, and fresh contents."""
        made = mutation(self._changes, [(pack, self._changes, f"s{pack}") for pack in packs], (), TOY)
        self._changes += 1
        contents = {}
        for pack in packs:
            self.clear[pack] = [secrets.randbits(200) for _ in range(TOY.dimension)]
            numbers = SCHEME.encrypt_many([Integer(m) for m in self.clear[pack]])
            contents[pack] = b"".join(map(SCHEME.serialise, numbers))
        await change_gallery(self.gallery, replace(made, packs=contents))

    def on(self, actors: Actors, wait_s: float = 10.0) -> ClusterPacks:
        return ClusterPacks("a", self.local, actors, self.store, NAMES, TOY, wait_s)

    async def check(self, cluster: ClusterPacks, packs: Sequence[int] | None = None) -> None:
        """Assert that the cluster answers as the integers in clear do, and as the threads of this process."""
        numbers = sorted(self.clear) if packs is None else list(packs)
        share = exponents()
        expected = [self.product(pack, share) for pack in numbers]
        state = self.gallery.state
        for packs_ in (cluster, self.here):
            assert [decrypt(r) async for part in packs_.match(0, state, numbers, share) for r in part] == expected

    def product(self, pack: int, share: Array) -> int:
        return sum(int(e) * m for e, m in zip(share, self.clear[pack], strict=True)) % int(PUBLIC_KEY.modulus)


class Here:
    """Shards in this process, for what a cluster is not needed for. lost: those that do not answer."""

    def __init__(self, folder: Path, count: int, machine: str | None = None) -> None:
        self.args = (NAMES, str(folder / FILE_NAME), machine or this_machine(), 1)
        self.actors = [self.fresh(i, count) for i in range(count)]
        self.count = count
        self.asked: list[str] = []

    def fresh(self, index: int, count: int) -> ShardActor:
        return ShardActor(PUBLIC_KEY, (index, count), *self.args)

    async def ask(self, shard: int, method: str, *parts: bytes) -> bytes:
        self.asked.append(method)
        answer: bytes = await getattr(self.actors[shard], method)(*parts)
        return answer


def exponents() -> Array:
    """A uniformly random share of a probe."""
    return np.array([secrets.randbelow(1 << TOY.ring_bits) for _ in range(TOY.dimension)], dtype=np.int64)


def decrypt(c: bytes) -> int:
    key, number = toy_key(TOY.modulus_bits), int.from_bytes(c, "big")
    return key.log(pow(number, key.o, key.square)) * key.kappa % key.N
