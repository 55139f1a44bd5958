"""Correlated randomness from the dealer: Beaver triples mod N, bit triples and products, from seeds.

The third key holder deals to a pair ahead of time, in numbered blocks. Per block the minus holder
gets a seed, the plus holder another seed and the corrections that make the products right; both
expand their seed with AES-256-CTR at the index they need. The dealer derives both seeds from a
secret of its own and the name of the block, so it keeps no state and a block asked for twice is the
same. Beaver, CRYPTO 1991; GMW, STOC 1987; DESIGN.md sections 2 and 5.

Single use is not decided here: see server/keyholder/stock.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from numpy.typing import NDArray

from veilmatch.crypto.arithmetic import Integer, from_bytes, to_bytes
from veilmatch.crypto.conversion import Triple
from veilmatch.crypto.digests import digest
from veilmatch.crypto.errors import ProtocolError
from veilmatch.crypto.keys import Pair
from veilmatch.crypto.secret_access import SecretHolder

Kind = Literal["triples", "bits", "products"]
#: All kinds, in the order of stock floors.
STOCK_KINDS: tuple[Kind, ...] = ("triples", "bits", "products")
Bytes = NDArray[np.uint8]
Words = NDArray[np.uint64]

#: Units in one block: triples mod N, bytes of eight bit triples each, or products mod 2^64.
BLOCK_UNITS: dict[Kind, int] = {"triples": 256, "bits": 1 << 16, "products": 1 << 14}
WORD_BYTES = 8
_AES_BLOCK = 16
#: Extra bytes before a reduction mod N: distance 2^-128 from uniform.
_EXCESS_BYTES = 16


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
    """One holder's part of a block: its seed, and for the plus holder the corrections (else empty)."""

    seed: bytes
    corrections: bytes


@dataclass(frozen=True, slots=True, repr=False)
class BitTriples(SecretHolder):
    """One holder's XOR shares of bit triples c = a AND b, eight to a byte: three uint8[n]."""

    a: Bytes
    b: Bytes
    c: Bytes


@dataclass(frozen=True, slots=True, repr=False)
class Products(SecretHolder):
    """One holder's part of products mod 2^64, two uint64[n]: product_plus - product_minus = factor_plus * factor_minus.

    For a multiplication of what one holder knows by what the other knows. Masked by its factor, either may be
    opened once, and to the peer alone: the dealer knows the factors.
    """

    factor: Words
    product: Words


def deal(dealing_seed: bytes, name: BlockName, modulus: Integer, *, for_plus: bool) -> Block:
    """Return the part of block `name` for one holder. Deterministic in all arguments."""
    seeds = {role: _block_seed(dealing_seed, name, role) for role in ("plus", "minus")}
    if not for_plus:
        return Block(seeds["minus"], b"")
    count = BLOCK_UNITS[name.kind]
    if name.kind == "bits":
        plus, minus = (_expand_bits(seeds[role], 0, count) for role in ("plus", "minus"))
        return Block(seeds["plus"], (((plus[0] ^ minus[0]) & (plus[1] ^ minus[1])) ^ minus[2]).tobytes())
    if name.kind == "products":
        (u, _), (v, product) = (_expand_products(seeds[role], 0, count) for role in ("plus", "minus"))
        return Block(seeds["plus"], (u * v + product).astype("<u8").tobytes())
    size = _modulus_bytes(modulus)
    corrections = []
    plus_parts, minus_parts = (_expand_triples(seeds[role], 0, count, modulus) for role in ("plus", "minus"))
    for plus_part, minus_part in zip(plus_parts, minus_parts, strict=True):
        a, b = plus_part[0] - minus_part[0], plus_part[1] - minus_part[1]
        corrections.append(to_bytes((a * b + minus_part[2]) % modulus, size))
    return Block(seeds["plus"], b"".join(corrections))


def check_block(block: Block, kind: Kind, modulus: Integer, *, is_plus: bool) -> Block:
    """Return the block if its sizes are right for its holder. Raises ProtocolError otherwise."""
    unit = {"bits": 1, "products": WORD_BYTES, "triples": _modulus_bytes(modulus)}[kind]
    expected = BLOCK_UNITS[kind] * unit if is_plus else 0
    if len(block.seed) != 32 or len(block.corrections) != expected:
        raise ProtocolError("a dealt block of the wrong size", got=len(block.corrections), expected=expected)
    return block


def triples(block: Block, start: int, count: int, modulus: Integer) -> list[Triple]:
    """Return triples start..start+count of a block of kind "triples"."""
    size = _modulus_bytes(modulus)
    parts = _expand_triples(block.seed, start, count, modulus)
    if not block.corrections:
        return [Triple(a, b, ab) for a, b, ab in parts]
    at = [from_bytes(block.corrections[i * size : (i + 1) * size]) % modulus for i in range(start, start + count)]
    return [Triple(a, b, ab) for (a, b, _), ab in zip(parts, at, strict=True)]


def bit_triples(block: Block, start: int, count: int) -> BitTriples:
    """Return bytes start..start+count of a block of kind "bits"."""
    a, b, c = _expand_bits(block.seed, start, count)
    if block.corrections:
        c = np.frombuffer(block.corrections, dtype=np.uint8)[start : start + count]
    return BitTriples(a, b, c)


def products(block: Block, start: int, count: int) -> Products:
    """Return products start..start+count of a block of kind "products"."""
    factor, product = _expand_products(block.seed, start, count)
    if block.corrections:
        product = np.frombuffer(block.corrections, dtype="<u8")[start : start + count].astype(np.uint64)
    return Products(factor, product)


def _block_seed(dealing_seed: bytes, name: BlockName, role: str) -> bytes:
    info = digest("dealt block", name.pair, name.stock, name.epoch, name.kind, name.number, role)
    return HKDFExpand(hashes.SHA256(), 32, info).derive(dealing_seed)


def _modulus_bytes(modulus: Integer) -> int:
    return (modulus.bit_length() + 7) // 8


def keystream(seed: bytes, offset: int, length: int) -> bytes:
    """Return `length` bytes of the AES-CTR keystream of a seed from `offset` on, a multiple of 16."""
    counter = (offset // _AES_BLOCK).to_bytes(16, "big")
    return Cipher(algorithms.AES(seed), modes.CTR(counter)).encryptor().update(bytes(length))


def _expand_triples(seed: bytes, start: int, count: int, modulus: Integer) -> list[tuple[Integer, Integer, Integer]]:
    size = -(-(_modulus_bytes(modulus) + _EXCESS_BYTES) // _AES_BLOCK) * _AES_BLOCK
    stream = keystream(seed, 3 * size * start, 3 * size * count)
    x = [from_bytes(stream[i : i + size]) % modulus for i in range(0, len(stream), size)]
    return list(zip(x[0::3], x[1::3], x[2::3], strict=True))


def _expand_bits(seed: bytes, start: int, count: int) -> tuple[Bytes, Bytes, Bytes]:
    a, b, c = (_stream_part(seed, i, "bits", 1, start, count) for i in range(3))
    return a, b, c


def _expand_products(seed: bytes, start: int, count: int) -> tuple[Words, Words]:
    factor, product = (_stream_part(seed, i, "products", WORD_BYTES, start, count).view("<u8") for i in range(2))
    return factor.astype(np.uint64), product.astype(np.uint64)


def _stream_part(seed: bytes, stream: int, kind: Kind, unit: int, start: int, count: int) -> Bytes:
    """Units start..start+count of one of several streams, each as long as a block: every unit keeps its place."""
    first = (stream * BLOCK_UNITS[kind] + start) * unit
    aligned = first // _AES_BLOCK * _AES_BLOCK
    data = keystream(seed, aligned, first - aligned + count * unit)
    return np.frombuffer(data[first - aligned :], dtype=np.uint8)
