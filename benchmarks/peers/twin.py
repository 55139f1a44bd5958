"""The baseline of two servers (benchmarks/twin_server.py), measured at full size on both kinds of arithmetic."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.peers.backend import using
from benchmarks.peers.rows import Cost, Peer, Row, Sizes, clocked, measured
from benchmarks.peers.work import PARAMETERS, gallery, probe, quantised
from benchmarks.twin_server import Packing, Search, split
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.encryption.paillier import Paillier
from veilmatch.crypto.keys.ceremony import Ceremony
from veilmatch.crypto.packing.fields import Array

#: Cosine at which Veilmatch decides here; the squared distance of unit vectors is 2 - 2*cosine.
_COSINE = 0.4


def peer(backend: str, values: int | None) -> Peer:
    """The twin servers on a backend, with so many values in a masked ciphertext (None: as many as fit)."""
    how = "2 values a ciphertext" if values == 2 else "full ciphertexts"
    return Peer(
        f"twin servers, {how}, {backend}",
        "nearest label",
        "encrypted",
        "encrypted",
        "nobody; the second server sees blinded differences of scores",
        128,
    )


def rows(dimension: int, sizes: Sizes, ceremony: Ceremony, backend: str, values: int | None) -> Iterator[Row]:
    """Measure over the first few templates: the work of every further one is the same."""
    parameters, name = PARAMETERS[dimension], peer(backend, values).name
    limit = round((2 - 2 * _COSINE) * parameters.scale**2)
    with using(backend):
        scheme = Paillier(ceremony.public_key)
        search = Search(scheme, split(ceremony), Packing.of(scheme, values))
        distinct = quantised(gallery(dimension, 4))
        templates = [_encrypted(scheme, v) for v in distinct]
        labels = scheme.encrypt_many([Integer(i + 1) for i in range(len(templates))])

        def ask(n: int) -> Cost:
            costs: list[Cost] = []
            with clocked(costs):
                encrypted = _encrypted(scheme, quantised(probe(dimension)[None])[0])
                label = search.nearest(templates[:n], labels[:n], encrypted, limit)
            assert label == 1
            return costs[0]

        # The first query fills caches. What the probe costs drops out of the line through the other two.
        few = Sizes(sizes.identities, 0, sizes.box_s)
        size = dimension * parameters.ciphertext_bytes
        for n, cost, how in measured(ask, few, (1, 1, len(templates))):
            yield Row(name, dimension, n, cost.cpu_s, cost.wall_s, how, size, size)


def _encrypted(scheme: Paillier, vector: Array) -> list[Integer]:
    """One ciphertext a coordinate."""
    return scheme.encrypt_many([Integer(int(x)) for x in vector])
