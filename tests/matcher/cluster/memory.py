"""What the processes of a matcher and of its two actors grow by when they take packs; prints JSON.

python -m tests.matcher.cluster.memory ADDRESS TOKEN_FILE AUTHORITY CERTIFICATE KEY FOLDER
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sys
from dataclasses import replace
from pathlib import Path

import psutil

from tests.crypto.toys import toy_public_key
from tests.matcher.galleries import change_gallery, mutation
from veilmatch.common.settings import TlsSettings
from veilmatch.crypto.encryption.paillier import Paillier
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.server.config import ClusterSettings
from veilmatch.server.matcher.cluster import wire
from veilmatch.server.matcher.cluster.nodes import RayActors, connected
from veilmatch.server.matcher.cluster.packs import ClusterPacks
from veilmatch.server.matcher.cluster.shard import State
from veilmatch.server.matcher.gallery.disk.database import FILE_NAME
from veilmatch.server.matcher.gallery.disk.store import Store
from veilmatch.server.matcher.gallery.gallery import Gallery
from veilmatch.server.matcher.query.pack_worker import PackWorkers, make_handler
from veilmatch.server.workers.memory import return_large_blocks
from veilmatch.server.workers.threads import WorkerThreads

#: Packs of 64 kB: more bytes than processes of this size grow by for other reasons.
PARAMETERS = ParameterSet(dimension=512, scale=120, clip=18, modulus_bits=512)
CHANGES, PACKS = 16, 64


async def measure(actors: RayActors, folder: Path) -> dict[str, object]:
    key = toy_public_key(PARAMETERS)
    pool = WorkerThreads(1, make_handler, key)
    local = PackWorkers(pool, Paillier(key))
    store = Store(folder, key.key_id, PARAMETERS)
    packs = ClusterPacks("a", local, actors, store, ["main"], PARAMETERS, 120.0)
    gallery = Gallery("main", 0, store, packs, PARAMETERS.slots)
    await gallery.load()
    before = await resident(actors, gallery)
    for change in range(CHANGES):
        numbers = range(change * PACKS, (change + 1) * PACKS)
        made = mutation(change, [(number, 0, f"s{number}") for number in numbers], (), PARAMETERS)
        await change_gallery(gallery, replace(made, packs={number: content() for number in numbers}))
    after = await resident(actors, gallery)
    size = CHANGES * PACKS * PARAMETERS.dimension * PARAMETERS.ciphertext_bytes
    grown = [new - old for old, new in zip(before, after, strict=True)]
    return {"packs_bytes": size, "matcher": grown[0], "actors": grown[1:]}


async def resident(actors: RayActors, gallery: Gallery) -> list[int]:
    """Resident bytes of this process and of both actors, when they have what the gallery has."""
    head = wire.head(0, State(gallery.state.sequence, gallery.state.chain))
    answers = [await actors.ask(shard, "follow", head) for shard in range(actors.count)]
    found = [wire.Status.decode(wire.opened(answer)) for answer in answers]
    assert all(status.state.sequence == gallery.state.sequence and not status.missing for status in found)
    return [psutil.Process(pid).memory_info().rss for pid in (os.getpid(), *(status.pid for status in found))]


def content() -> bytes:
    """A pack of any numbers below N^2; nobody decrypts them."""
    size = PARAMETERS.ciphertext_bytes
    return b"".join(b"\0" + secrets.token_bytes(size - 1) for _ in range(PARAMETERS.dimension))


def main() -> None:
    address, token, authority, certificate, key, folder = sys.argv[1:]
    tls = TlsSettings(authority=Path(authority), certificate=Path(certificate), key=Path(key))
    settings = ClusterSettings(address=address, token_file=Path(token), tls=tls, shards=2)
    return_large_blocks()
    database = Path(folder) / FILE_NAME
    with connected(settings, "a", toy_public_key(PARAMETERS), ["main"], database) as actors:
        print(json.dumps(asyncio.run(measure(actors, Path(folder)))))


if __name__ == "__main__":
    main()
