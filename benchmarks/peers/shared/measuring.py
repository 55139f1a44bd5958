"""The search in secret shares as a row of the comparison."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

import numpy as np

from benchmarks.peers.rows import Cost, Peer, Row, Sizes, clocked, measured
from benchmarks.peers.shared import Search, share_out
from benchmarks.peers.shared.search import Traffic
from benchmarks.peers.shared.shares import NUMBER_BITS
from benchmarks.peers.work import PARAMETERS, gallery, probe, quantised

PEER = Peer(
    "secret shares, three servers",
    "a bit for each identity",
    "in shares",
    "in shares",
    "nobody; two servers together: all scores, the gallery and every probe, without any key",
    128,
)
_COSINE = 0.4
_REPEATS = 20


def rows(dimension: int, sizes: Sizes) -> Iterator[Row]:
    """Measure the device and all three servers; every answer is compared with that of plain integers."""
    parameters = PARAMETERS[dimension]
    vectors, q = quantised(gallery(dimension, sizes.largest)), quantised(probe(dimension)[None])[0]
    threshold = parameters.threshold(_COSINE)
    expected = vectors @ q >= threshold
    assert expected[0]
    # |score - threshold| <= M + S^2 < 2^(k-2), so k - 1 bits hold the sign: 16 in both sets that are measured.
    width = parameters.ring_bits - 1
    assert parameters.norm_max + parameters.scale**2 < 1 << (width - 1) and width <= NUMBER_BITS
    seen: dict[int, Traffic] = {}

    def ask(n: int) -> Cost:
        search, costs = Search(share_out(vectors[:n]), width), list[Cost]()
        for _ in range(_REPEATS + 1):
            with clocked(costs):
                found = search.matches(q, threshold)
            assert np.array_equal(found, expected[:n])
        seen[n] = search.traffic
        # Not the first one, which is the first to touch its memory.
        return Cost(*(statistics.median(getattr(cost, x) for cost in costs[1:]) for x in ("cpu_s", "wall_s")))

    stored = 3 * 2 * dimension * NUMBER_BITS // 8
    for n, cost, how in measured(ask, sizes):
        most = max(seen)
        traffic, times = (seen[n], 1.0) if n in seen else (seen[most], n / most)
        yield Row(
            PEER.name, dimension, n, cost.cpu_s, cost.wall_s, how, traffic.device, stored,
            server_bytes=traffic.servers * times, rounds=traffic.rounds,
        )  # fmt: skip
