"""Multiplication of shared numbers mod 2^64, with dealt products.

Numbers are shared by difference: what the plus holder has less what the minus holder has. docs/protocol.md.
"""

from __future__ import annotations

from collections.abc import Generator

import numpy as np

from veilmatch.crypto.dealing import Products, Words
from veilmatch.crypto.errors import ProtocolError
from veilmatch.crypto.gates.boolean import Wire

#: Yields this holder's message, takes the other's, returns its shares of the results.
Multiplication = Generator[bytes, bytes, Words]


def multiply(mine: Words, products: Products, *, is_plus: bool) -> Multiplication:
    """One layer: return shares of x*y mod 2^64, where the plus holder knows x and the minus holder y, uint64[n].

    products: n of them, fresh. Both holders send what they know less their factor, which masks it. Beaver,
    CRYPTO 1991. Raises ProtocolError for another number of products, or a message of another size.
    """
    if len(products.factor) != len(mine) or len(products.product) != len(mine):
        raise ProtocolError("dealt products of another number", got=len(products.factor), expected=len(mine))
    sent = (mine - products.factor).astype("<u8").tobytes()
    received = yield sent
    if len(received) != len(sent):
        raise ProtocolError("a gate's message of the wrong size", got=len(received), expected=len(sent))
    theirs = np.frombuffer(received, dtype="<u8").astype(np.uint64)
    # (x - u)(y - v) is nobody's to add: the plus holder takes it in with x * (y - v).
    if is_plus:
        return np.asarray(products.product + mine * theirs, dtype=np.uint64)
    return np.asarray(products.product - products.factor * theirs, dtype=np.uint64)


def only_valid(
    valid: Wire, lanes: Words, vectors: int, offset: int, products: Products, *, is_plus: bool
) -> Multiplication:
    """Two layers: return shares of v*x + offset of every coordinate x, uint64[n*D], v being a vector's valid bit.

    valid: shares of n = `vectors` bits, packed, little-endian. lanes: this holder's lanes of the vectors, uint64[n*D],
    whose differences are x + offset. products: `only_valid_cost` of them. What comes out is a valid vector or zero.
    Raises ProtocolError for bits, lanes or products of another number, or a message of another size.
    """
    if len(valid) != -(-vectors // 8) or not len(lanes) or len(lanes) % vectors:
        raise ProtocolError("bits or lanes that do not fit the vectors", got=len(lanes), expected=f"D of {vectors}")
    flags = np.unpackbits(valid, count=vectors, bitorder="little").astype(np.uint64)
    # v_plus XOR v_minus = v_plus + v_minus - 2 * v_plus * v_minus
    both = yield from multiply(flags, _part(products, 0, vectors), is_plus=is_plus)
    share = (flags if is_plus else np.uint64(0) - flags) - np.uint64(2) * both
    # (V_plus - V_minus)(p - q) = V_plus*p + V_minus*q - V_plus*q - p*V_minus
    spread = np.repeat(share, len(lanes) // vectors)
    values = lanes - np.uint64(offset) if is_plus else lanes
    known = np.concatenate([spread, values] if is_plus else [values, spread])
    crossed = yield from multiply(known, _part(products, vectors, len(products.factor)), is_plus=is_plus)
    own = spread * values
    own = own + np.uint64(offset) if is_plus else np.uint64(0) - own
    return np.asarray(own - crossed[: len(lanes)] - crossed[len(lanes) :], dtype=np.uint64)


def only_valid_cost(vectors: int, dimension: int) -> int:
    """Return how many products `only_valid` uses."""
    return vectors * (1 + 2 * dimension)


def _part(products: Products, start: int, stop: int) -> Products:
    return Products(products.factor[start:stop], products.product[start:stop])
