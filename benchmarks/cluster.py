"""What a search's multiplication costs through Ray: the same packs in threads of this process, and on two actors.

python benchmarks/cluster.py [--packs 1 10 92]

Both on this machine, one after the other, so that what Ray adds is seen and nothing is won. Needs the extra `ray`. The
packs hold random numbers, which take as long as ciphertexts.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.matcher.cluster.nodes_here import Nodes, nodes
from tests.matcher.galleries import change_gallery, mutation
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.encryption.paillier import Paillier, PublicKey
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.server.matcher.cluster.nodes import connected
from veilmatch.server.matcher.cluster.packs import ClusterPacks
from veilmatch.server.matcher.gallery.disk.database import FILE_NAME
from veilmatch.server.matcher.gallery.disk.store import Store
from veilmatch.server.matcher.gallery.gallery import Gallery
from veilmatch.server.matcher.query.pack_worker import PackWorkers, make_handler
from veilmatch.server.matcher.query.packs import Packs
from veilmatch.server.workers.threads import WorkerThreads

PARAMETERS = ParameterSet()
REPEATS = 9
#: How long shards may take to read their packs.
FILLED_S = 900.0


async def measure(cluster: Nodes, folder: Path, sizes: Sequence[int]) -> None:
    modulus = (1 << (PARAMETERS.modulus_bits - 1)) | secrets.randbits(PARAMETERS.modulus_bits - 1) | 1
    key = PublicKey(PARAMETERS, Integer(modulus), Integer(secrets.randbits(2 * PARAMETERS.modulus_bits - 1)))
    with connected(cluster.settings(), "a", key, ["main"], folder / FILE_NAME) as actors:
        threads = PackWorkers(WorkerThreads(2, make_handler, key), Paillier(key))
        store = Store(folder, key.key_id, PARAMETERS)
        gallery = Gallery("main", 0, store, threads, PARAMETERS.slots)
        await gallery.load()
        spread = ClusterPacks("a", threads, actors, store, ["main"], PARAMETERS, FILLED_S)
        print("packs  threads ms  cluster ms   (fastest; median)")
        for size in sizes:
            new = range(gallery.index.pack_count, size)
            made = mutation(size, [(pack, 0, f"s{pack}") for pack in new], (), PARAMETERS)
            await change_gallery(gallery, replace(made, packs={pack: content() for pack in new}))
            taken = [await times(packs, gallery, size) for packs in (threads, spread)]
            words = [f"{min(one):5.1f}; {statistics.median(one):5.1f}" for one in taken]
            print(f"{size:5}  {words[0]:>12}  {words[1]:>12}")


async def times(packs: Packs, gallery: Gallery, size: int) -> list[float]:
    """Milliseconds of each but the first."""
    found = []
    for _ in range(REPEATS):
        share = np.array([secrets.randbelow(1 << PARAMETERS.ring_bits) for _ in range(PARAMETERS.dimension)])
        started = time.perf_counter()
        async for _ in packs.match(0, gallery.state, range(size), share):
            pass
        found.append(1000 * (time.perf_counter() - started))
    return found[1:]


def content() -> bytes:
    size = PARAMETERS.ciphertext_bytes
    return b"".join(b"\0" + secrets.token_bytes(size - 1) for _ in range(PARAMETERS.dimension))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--packs", type=int, nargs="+", default=[1, 10, 92], help="galleries, ascending")
    sizes = parser.parse_args().packs
    with nodes() as cluster, tempfile.TemporaryDirectory() as folder:
        cluster.start_head(cpus=2)
        asyncio.run(measure(cluster, Path(folder), sizes))


if __name__ == "__main__":
    main()
