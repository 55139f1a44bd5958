"""A block that has passed its check, and the triples and products in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.dealing.bits import BitTriples
from veilmatch.crypto.dealing.blocks import BLOCK_UNITS, Block, Kind
from veilmatch.crypto.dealing.products import Products
from veilmatch.crypto.dealing.tags import tagged_triples
from veilmatch.crypto.keys.shares import SEED_BYTES
from veilmatch.crypto.pair.key_safety import TaggedTriple
from veilmatch.crypto.secret_access import SecretHolder

Material = list[TaggedTriple] | BitTriples | Products


@dataclass(frozen=True, slots=True, repr=False)
class CheckedBlock(SecretHolder):
    """One holder's part of a block, as BlockCheck leaves it. Only this module looks into the bytes."""

    content: bytes


def material(kind: Kind, pieces: Sequence[tuple[CheckedBlock, int, int]], modulus: Integer) -> Material:
    """Return what lies in some pieces (block, start, count) of checked blocks of a kind, in order."""
    if kind == "triples":
        return [t for block, start, count in pieces for t in _triples(block, start, count, modulus)]
    if kind == "products":
        return Products(*_columns(pieces, 2, np.dtype("<u8"), kind))
    return BitTriples(*_columns(pieces, 3, np.dtype(np.uint8), kind))


def _triples(block: CheckedBlock, start: int, count: int, modulus: Integer) -> list[TaggedTriple]:
    return tagged_triples(Block(block.content[:SEED_BYTES], block.content[SEED_BYTES:]), start, count, modulus)


def _columns(
    pieces: Sequence[tuple[CheckedBlock, int, int]], columns: int, unit: np.dtype[np.generic], kind: Kind
) -> list[np.ndarray]:
    parts = [
        np.frombuffer(block.content, dtype=unit).reshape(columns, BLOCK_UNITS[kind])[:, start : start + count]
        for block, start, count in pieces
    ]
    return list(np.concatenate(parts, axis=1).astype(unit.newbyteorder("=")))
