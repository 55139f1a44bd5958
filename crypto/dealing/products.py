"""Dealt products mod 2^64, for the inner product of the validity gate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from veilmatch.crypto.dealing.blocks import DEALT_UNITS, WORD_BYTES, Block, Words, stream_part
from veilmatch.crypto.secret_access import SecretHolder


@dataclass(frozen=True, slots=True, repr=False)
class Products(SecretHolder):
    """One holder's part of products mod 2^64, two uint64[n]: product_plus - product_minus = factor_plus * factor_minus.

    For a multiplication of what one holder knows by what the other knows. Masked by its factor, either may be
    opened once, and to the peer alone: the dealer knows the factors.
    """

    factor: Words
    product: Words


def products(block: Block, start: int, count: int) -> Products:
    """Return products start..start+count of a block of kind "products"."""
    factor, product = _expand(block.seed, start, count)
    if block.corrections:
        product = np.frombuffer(block.corrections, dtype="<u8")[start : start + count].astype(np.uint64)
    return Products(factor, product)


def product_corrections(plus_seed: bytes, minus_seed: bytes) -> bytes:
    """Return the plus holder's product of every unit of a block, joined."""
    (u, _), (v, product) = (_expand(seed, 0, DEALT_UNITS["products"]) for seed in (plus_seed, minus_seed))
    return (u * v + product).astype("<u8").tobytes()


def _expand(seed: bytes, start: int, count: int) -> tuple[Words, Words]:
    factor, product = (stream_part(seed, i, "products", WORD_BYTES, start, count).view("<u8") for i in range(2))
    return factor.astype(np.uint64), product.astype(np.uint64)
