"""TenSEAL as its users write it: CKKS, one ciphertext a template, an encrypted dot product for each.

The parameters and calls are those of its published face-verification tutorials (degree 8192, moduli of 60, 40, 40
and 60 bits, scale 2^40). The device has the secret key: it encrypts the gallery and the probe and decrypts every score.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.peers.rows import Cost, Peer, Row, Sizes, clocked, measured
from benchmarks.peers.work import gallery, probe

PEER = Peer(
    "TenSEAL, as users write it",
    "every score",
    "encrypted",
    "encrypted",
    "holder of the secret key: all scores, and it can decrypt the gallery",
    128,
    "tenseal",
)
#: Distinct ciphertexts of templates; a larger gallery repeats them (0.4 MB each).
_DISTINCT = 500


def rows(dimension: int, sizes: Sizes) -> Iterator[Row]:
    """Measure. Raises ImportError without TenSEAL."""
    import tenseal as ts

    context = ts.context(
        ts.SCHEME_TYPE.CKKS, poly_modulus_degree=8192, coeff_mod_bit_sizes=[60, 40, 40, 60], n_threads=1
    )
    context.global_scale = 2**40
    context.generate_galois_keys()
    vectors, q = gallery(dimension, min(_DISTINCT, sizes.largest)), probe(dimension)
    templates = [ts.ckks_vector(context, v) for v in vectors]
    errors: list[float] = []

    def ask(n: int) -> Cost:
        costs: list[Cost] = []
        with clocked(costs):
            encrypted = ts.ckks_vector(context, q)
            scores = [templates[i % len(templates)].dot(encrypted).decrypt()[0] for i in range(n)]
        errors.append(max(abs(s - vectors[i % len(vectors)] @ q) for i, s in enumerate(scores)))
        return costs[0]

    size = len(templates[0].serialize())
    for n, cost, how in measured(ask, sizes):
        yield Row(PEER.name, dimension, n, cost.cpu_s, cost.wall_s, how, size, size, max(errors))
