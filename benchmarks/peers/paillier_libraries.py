"""Two Paillier libraries as their users write it: encrypted templates, a probe in clear, one product a coordinate.

LightPHE (Serengil and Ozpinar, arXiv 2503.05850, the "two-tower" search) and python-paillier (`phe`). Both keys have
3072 bits. The server sees the probe. Whoever holds the secret key decrypts every score, and can decrypt the gallery.

Encrypting a template under such a key takes these libraries minutes, so the template is encrypted here with gmpy2 under
the library's own key, with randomisers that are products of a few: genuine ciphertexts, unfit for protecting anybody.
What is timed, multiplying, adding and decrypting, is the library's alone, and does not depend on randomisers. One
template is compared again and again.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import gmpy2
import numpy as np

from benchmarks.peers.rows import Cost, Peer, Row, Sizes, clocked, measured
from benchmarks.peers.work import gallery, probe, quantised

KEY_BITS = 3072
CIPHERTEXT_BYTES = KEY_BITS // 4
_SCORE_TO = "holder of the secret key: all scores, and it can decrypt the gallery"
_PROBE = "in clear: the server sees it"
PHE = Peer("python-paillier (phe)", "every score", _PROBE, "encrypted", _SCORE_TO, 128, "phe")
LIGHTPHE = Peer("LightPHE", "every score", _PROBE, "encrypted", _SCORE_TO, 128, "lightphe")


def phe_rows(dimension: int, sizes: Sizes) -> Iterator[Row]:
    """Measure python-paillier with integers. Raises ImportError without it."""
    from phe import EncryptedNumber, paillier

    public, private = paillier.generate_paillier_keypair(n_length=KEY_BITS)
    template, q = quantised(gallery(dimension, 1))[0].tolist(), quantised(probe(dimension)[None])[0].tolist()
    encrypted = [EncryptedNumber(public, c) for c in encrypt_quickly([x % public.n for x in template], public.n)]
    expected = sum(x * y for x, y in zip(template, q, strict=True))

    def ask(n: int) -> Cost:
        costs: list[Cost] = []
        with clocked(costs):
            for _ in range(n):
                score = private.decrypt(sum(c * y for c, y in zip(encrypted, q, strict=True)))
                assert score == expected
        return costs[0]

    # A probe in clear: the integers, one byte each.
    for n, cost, how in measured(ask, sizes, (_few(dimension),)):
        yield Row(PHE.name, dimension, n, cost.cpu_s, cost.wall_s, how, dimension, dimension * CIPHERTEXT_BYTES, 0.0)


def lightphe_rows(dimension: int, sizes: Sizes) -> Iterator[Row]:
    """Measure LightPHE with floats of [0, 1], as it wants them. Raises ImportError without it."""
    from lightphe import LightPHE

    scheme = LightPHE("Paillier", key_size=KEY_BITS)
    template, q = _from_0_to_1(gallery(dimension, 1)[0]), _from_0_to_1(probe(dimension))
    encrypted = _lightphe_tensor(scheme, template)
    expected, errors = float(np.dot(template, q)), []

    def ask(n: int) -> Cost:
        costs: list[Cost] = []
        with clocked(costs):
            for _ in range(n):
                score = scheme.decrypt(encrypted @ q)[0]
                errors.append(abs(score - expected))
        return costs[0]

    # Three ciphertexts a coordinate: numerator, its absolute value and denominator.
    size = 3 * dimension * CIPHERTEXT_BYTES
    for n, cost, how in measured(ask, sizes, (1,)):
        yield Row(LIGHTPHE.name, dimension, n, cost.cpu_s, cost.wall_s, how, 4 * dimension, size, max(errors))


def encrypt_quickly(ms: list[int], n: int) -> list[int]:
    """Return Paillier ciphertexts (1 + mn) * r^n mod n^2 whose r are products of two from a pool. For timing only."""
    square = gmpy2.mpz(n) ** 2
    pool = [gmpy2.powmod(2 + secrets.randbelow(n - 2), n, square) for _ in range(6)]
    return [int((1 + m * n) * secrets.choice(pool) * secrets.choice(pool) % square) for m in ms]


def _lightphe_tensor(scheme: Any, values: list[float]) -> Any:
    """What `scheme.encrypt(values)` returns, with ciphertexts of `encrypt_quickly`."""
    from lightphe.commons.phe_utils import fractionize
    from lightphe.models.Tensor import EncryptedTensor, Fraction

    n, precision = scheme.cs.plaintext_modulo, scheme.precision
    parts = [fractionize(value=x, modulo=n, precision=precision) for x in values]
    tops = encrypt_quickly([top for top, _ in parts], n)
    bottoms = encrypt_quickly([bottom for _, bottom in parts], n)
    fractions = [
        Fraction(dividend=top, abs_dividend=top, divisor=bottom, sign=1)
        for top, bottom in zip(tops, bottoms, strict=True)
    ]
    return EncryptedTensor(fractions=fractions, cs=scheme.cs, precision=precision)


def _from_0_to_1(vector: np.ndarray) -> list[float]:
    """Min-max normalisation: LightPHE multiplies tensors of positive numbers only."""
    low, high = vector.min(), vector.max()
    return [float(x) for x in (vector - low) / (high - low)]


def _few(dimension: int) -> int:
    """So many templates take python-paillier about a second."""
    return max(1, 2_000 // dimension)
