"""TenSEAL as an expert would use it: coordinates across slots, 2048 templates to a ciphertext, by its SEAL interface.

Coordinates across slots are the packing of Engelsma, Jain and Boddeti, "HERS: Homomorphically Encrypted Representation
Search", 2020; the diagonals and the baby and giant steps are those of Halevi and Shoup, CRYPTO 2014 and 2018. A
ciphertext of the gallery holds one diagonal of 2048 templates. The device sends one ciphertext; the server rotates it
`baby` times, once a query, multiplies, adds, relinearises once a giant step, and rotates what is left. This beats
sending every coordinate as a ciphertext of its own: a rotation costs the server less than an encryption costs the
device, and the device sends 1/D.

Parameters: the smallest that hold one multiplication at 128 bits, degree 4096 with moduli of 54 and 55 bits (109 bits
is the bound of the HomomorphicEncryption.org standard for this degree), scale 2^26, no rescaling because nothing is
multiplied after. Whoever encrypts holds the secret key, so encryption is symmetric: smaller and less noisy.
Errors of scores are about 3e-5; in a few slots, the first above all, the rounding of SEAL's rotations adds up to 3e-3.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.rows import Cost, Peer, Row, Sizes, clocked, measured
from benchmarks.peers.work import Floats, gallery, probe

PEER = Peer(
    "TenSEAL, packed by an expert",
    "every score",
    "encrypted",
    "encrypted",
    "holder of the secret key: all scores, and it can decrypt the gallery",
    128,
    "tenseal",
)
DEGREE, MODULI, SCALE = 4096, (54, 55), 2.0**26
SLOTS = DEGREE // 2


class PackedGallery:
    """The device with the secret key and the server with the gallery, in one process."""

    def __init__(self, vectors: Floats, baby: int) -> None:
        """vectors: [n][D], D a power of two up to 2048. baby: a power of two up to D, rotations of the probe."""
        import tenseal.sealapi as seal

        self._seal, self._dimension, self._baby = seal, vectors.shape[1], baby
        parameters = seal.EncryptionParameters(seal.SCHEME_TYPE.CKKS)
        parameters.set_poly_modulus_degree(DEGREE)
        parameters.set_coeff_modulus(seal.CoeffModulus.Create(DEGREE, list(MODULI)))
        self._context = seal.SEALContext(parameters, True, seal.SEC_LEVEL_TYPE.TC128)
        assert self._context.parameters_set()
        keys = seal.KeyGenerator(self._context)
        public, self._relin, self._galois = seal.PublicKey(), seal.RelinKeys(), seal.GaloisKeys()
        keys.create_public_key(public)
        keys.create_relin_keys(self._relin)
        steps = [*range(1, baby), *range(baby, self._dimension, baby)]
        keys.create_galois_keys(self._galois_elements(steps), self._galois)
        self._encryptor = seal.Encryptor(self._context, public)
        self._encryptor.set_secret_key(keys.secret_key())
        self._decryptor = seal.Decryptor(self._context, keys.secret_key())
        self._evaluator, self._encoder = seal.Evaluator(self._context), seal.CKKSEncoder(self._context)
        self._blocks = [self._block(vectors[i : i + SLOTS]) for i in range(0, len(vectors), SLOTS)]

    def scores(self, q: Floats, identities: int) -> Floats:
        """Return the scores of the first `identities` templates: all work of the device and of the server."""
        rotated = self._babies(self._encrypt(np.tile(q, SLOTS // self._dimension)))
        used = -(-identities // SLOTS)
        return np.concatenate([self._decrypt(self._matched(b, rotated)) for b in self._blocks[:used]])[:identities]

    @cached_property
    def sizes(self) -> tuple[float, float]:
        """Bytes of a probe, and of the gallery for each identity of a full block, both serialised."""
        plain = self._seal.Plaintext()
        self._encoder.encode([0.5] * SLOTS, SCALE, plain)
        # Serialised from here, a symmetric encryption holds a seed in place of its random half.
        with tempfile.TemporaryDirectory(prefix="veilmatch-bench-") as scratch:
            path = Path(scratch) / "c"
            self._encryptor.encrypt_symmetric(plain).save(str(path))
            seeded = path.stat().st_size
            self._encrypt(np.full(SLOTS, 0.5)).save(str(path))
            return seeded, path.stat().st_size * self._dimension / SLOTS

    def _block(self, vectors: Floats) -> list[Any]:
        """Diagonal g + b in slot u: coordinate (u + b) mod D of template u - g, by giant step g and baby step b."""
        D = self._dimension
        padded = np.zeros((SLOTS, D))
        padded[: len(vectors)] = vectors
        slot = np.arange(SLOTS)
        return [
            self._encrypt(padded[(slot - g) % SLOTS, (slot + b) % D])
            for g in range(0, D, self._baby)
            for b in range(self._baby)
        ]

    def _babies(self, c: Any) -> list[Any]:
        rotated = [c]
        for step in range(1, self._baby):
            out = self._seal.Ciphertext()
            self._evaluator.rotate_vector(c, step, self._galois, out)
            rotated.append(out)
        return rotated

    def _matched(self, block: list[Any], rotated: list[Any]) -> Any:
        evaluator, total, product = self._evaluator, None, self._seal.Ciphertext()
        for g in range(0, self._dimension, self._baby):
            part = self._seal.Ciphertext()
            evaluator.multiply(block[g], rotated[0], part)
            for b in range(1, self._baby):
                evaluator.multiply(block[g + b], rotated[b], product)
                evaluator.add_inplace(part, product)
            if g or self._baby < self._dimension:
                evaluator.relinearize_inplace(part, self._relin)
            if g:
                evaluator.rotate_vector_inplace(part, g, self._galois)
            if total is None:
                total = part
            else:
                evaluator.add_inplace(total, part)
        return total

    def _encrypt(self, values: Floats) -> Any:
        plain, c = self._seal.Plaintext(), self._seal.Ciphertext()
        self._encoder.encode(values.tolist(), SCALE, plain)
        self._encryptor.encrypt_symmetric(plain, c)
        return c

    def _decrypt(self, c: Any) -> Floats:
        plain = self._seal.Plaintext()
        self._decryptor.decrypt(c, plain)
        return np.array(self._encoder.decode_double(plain))

    @staticmethod
    def _galois_elements(steps: list[int]) -> list[int]:
        """A rotation by s is the automorphism 3^s mod 2n of the ring."""
        return sorted({pow(3, s, 2 * DEGREE) for s in steps})


def rows(dimension: int, sizes: Sizes) -> Iterator[Row]:
    """Measure. Raises ImportError without TenSEAL."""
    vectors, q = gallery(dimension, sizes.largest), probe(dimension)
    blocks = -(-sizes.largest // SLOTS)
    # Fewest rotations and relinearisations for the largest gallery: baby + blocks * 2 * D / baby.
    baby = min((1 << i for i in range(dimension.bit_length())), key=lambda b: b + 2 * blocks * dimension / b)
    packed, errors = PackedGallery(vectors, baby), []

    def ask(n: int) -> Cost:
        costs: list[Cost] = []
        with clocked(costs):
            scores = packed.scores(q, n)
        errors.append(float(np.abs(scores - vectors[:n] @ q).max()))
        return costs[0]

    device, template = packed.sizes
    for n, cost, how in measured(ask, sizes):
        yield Row(PEER.name, dimension, n, cost.cpu_s, cost.wall_s, how, device, template, max(errors))
