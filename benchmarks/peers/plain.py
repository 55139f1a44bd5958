"""Nothing encrypted: numpy's product of the gallery with the probe, the least that comparing can cost."""

from __future__ import annotations

import time
from collections.abc import Iterator

from threadpoolctl import threadpool_limits

from benchmarks.peers.rows import Cost, Peer, Row, Sizes, measured
from benchmarks.peers.work import gallery, probe

PEER = Peer("numpy, in clear", "every score", "nothing", "nothing", "the server", None)
_REPEATS = 200


def rows(dimension: int, sizes: Sizes) -> Iterator[Row]:
    """Measure float32 products; each figure is the mean of many."""
    vectors = gallery(dimension, sizes.largest).astype("float32")
    q = probe(dimension).astype("float32")

    def ask(n: int) -> Cost:
        part = vectors[:n]
        cpu, wall = time.process_time(), time.perf_counter()
        for _ in range(_REPEATS):
            part @ q
        return Cost((time.process_time() - cpu) / _REPEATS, (time.perf_counter() - wall) / _REPEATS)

    with threadpool_limits(1):
        for n, cost, how in measured(ask, sizes):
            yield Row(PEER.name, dimension, n, cost.cpu_s, cost.wall_s, how, 4 * dimension, 4 * dimension)
