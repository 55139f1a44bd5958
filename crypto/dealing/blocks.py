"""Dealt blocks: what they are called, how large they are, and the seeds and keystreams that fill them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from numpy.typing import NDArray

from veilmatch.crypto.digests import digest
from veilmatch.crypto.keys.parties import Pair
from veilmatch.crypto.secret_access import SecretHolder

Kind = Literal["triples", "bits", "products"]
#: All kinds, in the order of stock floors.
STOCK_KINDS: tuple[Kind, ...] = ("triples", "bits", "products")
Bytes = NDArray[np.uint8]
Words = NDArray[np.uint64]

#: Units that one block gives: triples mod N, bytes of eight bit triples each, or products mod 2^64.
BLOCK_UNITS: dict[Kind, int] = {"triples": 256, "bits": 1 << 17, "products": 1 << 14}
WORD_BYTES = 8
#: Of products and of words of bits, one in so many comes out of the check of its bucket; see buckets.py.
BUCKET_WORDS = 4
#: And so many are opened.
OPENED_WORDS = 4
#: Units that are dealt for one block: what its check uses up (check.py) is more than what it gives.
DEALT_UNITS: dict[Kind, int] = {
    "triples": 2 * BLOCK_UNITS["triples"],
    "bits": BUCKET_WORDS * BLOCK_UNITS["bits"] + OPENED_WORDS * WORD_BYTES,
    "products": BUCKET_WORDS * BLOCK_UNITS["products"] + OPENED_WORDS,
}
AES_BLOCK_BYTES = 16


@dataclass(frozen=True, slots=True)
class BlockName:
    """Which block: pair, stock (32 bytes, agreed by the pair), key epoch, kind, and number from 0."""

    pair: Pair
    stock: bytes
    epoch: int
    kind: Kind
    number: int


@dataclass(frozen=True, slots=True, repr=False)
class Block(SecretHolder):
    """One holder's part of a block as it was dealt: its seed, and for the plus holder the corrections (else empty)."""

    seed: bytes
    corrections: bytes


def block_seed(dealing_seed: bytes, name: BlockName, role: str) -> bytes:
    """Return the 32-byte seed of one holder's part; role: plus or minus."""
    info = digest("dealt block", name.pair, name.stock, name.epoch, name.kind, name.number, role)
    return HKDFExpand(hashes.SHA256(), 32, info).derive(dealing_seed)


def keystream(seed: bytes, offset: int, length: int) -> bytes:
    """Return `length` bytes of the AES-CTR keystream of a seed from `offset` on, a multiple of 16."""
    counter = (offset // AES_BLOCK_BYTES).to_bytes(16, "big")
    return Cipher(algorithms.AES(seed), modes.CTR(counter)).encryptor().update(bytes(length))


def stream_part(seed: bytes, stream: int, kind: Kind, unit: int, start: int, count: int) -> Bytes:
    """Units start..start+count of one of several streams, each as long as a block: every unit keeps its place."""
    first = (stream * DEALT_UNITS[kind] + start) * unit
    aligned = first // AES_BLOCK_BYTES * AES_BLOCK_BYTES
    data = keystream(seed, aligned, first - aligned + count * unit)
    return np.frombuffer(data[first - aligned :], dtype=np.uint8)
