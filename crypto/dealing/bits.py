"""Dealt bit triples, for the AND gates of circuits, eight to a byte. GMW, STOC 1987."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from veilmatch.crypto.dealing.blocks import DEALT_UNITS, Block, Bytes, stream_part
from veilmatch.crypto.secret_access import SecretHolder


@dataclass(frozen=True, slots=True, repr=False)
class BitTriples(SecretHolder):
    """One holder's XOR shares of bit triples c = a AND b, eight to a byte: three uint8[n]."""

    a: Bytes
    b: Bytes
    c: Bytes


def bit_triples(block: Block, start: int, count: int) -> BitTriples:
    """Return bytes start..start+count of a block of kind "bits"."""
    a, b, c = _expand(block.seed, start, count)
    if block.corrections:
        c = np.frombuffer(block.corrections, dtype=np.uint8)[start : start + count]
    return BitTriples(a, b, c)


def bit_corrections(plus_seed: bytes, minus_seed: bytes) -> bytes:
    """Return the plus holder's c of every byte of a block."""
    plus, minus = (_expand(seed, 0, DEALT_UNITS["bits"]) for seed in (plus_seed, minus_seed))
    return (((plus[0] ^ minus[0]) & (plus[1] ^ minus[1])) ^ minus[2]).tobytes()


def _expand(seed: bytes, start: int, count: int) -> tuple[Bytes, Bytes, Bytes]:
    a, b, c = (stream_part(seed, i, "bits", 1, start, count) for i in range(3))
    return a, b, c
