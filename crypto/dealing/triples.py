"""Dealt Beaver triples mod N, for share conversion. Beaver, CRYPTO 1991."""

from __future__ import annotations

from veilmatch.crypto.arithmetic import Integer, from_bytes, to_bytes
from veilmatch.crypto.dealing.blocks import AES_BLOCK_BYTES, DEALT_UNITS, Block, keystream
from veilmatch.crypto.pair.conversion import Triple

#: Extra bytes before a reduction mod N: distance 2^-128 from uniform.
EXCESS_BYTES = 16


def modulus_bytes(modulus: Integer) -> int:
    """Return the length of a value mod N on the wire."""
    return (modulus.bit_length() + 7) // 8


def triples(block: Block, start: int, count: int, modulus: Integer) -> list[Triple]:
    """Return triples start..start+count of a block of kind "triples"."""
    size = modulus_bytes(modulus)
    parts = _expand(block.seed, start, count, modulus)
    if not block.corrections:
        return [Triple(a, b, ab) for a, b, ab in parts]
    at = [from_bytes(block.corrections[i * size : (i + 1) * size]) % modulus for i in range(start, start + count)]
    return [Triple(a, b, ab) for (a, b, _), ab in zip(parts, at, strict=True)]


def triple_corrections(plus_seed: bytes, minus_seed: bytes, modulus: Integer) -> bytes:
    """Return the plus holder's ab of every triple of a block, joined."""
    size, corrections = modulus_bytes(modulus), []
    plus_parts, minus_parts = (_expand(seed, 0, DEALT_UNITS["triples"], modulus) for seed in (plus_seed, minus_seed))
    for plus_part, minus_part in zip(plus_parts, minus_parts, strict=True):
        a, b = plus_part[0] - minus_part[0], plus_part[1] - minus_part[1]
        corrections.append(to_bytes((a * b + minus_part[2]) % modulus, size))
    return b"".join(corrections)


def _expand(seed: bytes, start: int, count: int, modulus: Integer) -> list[tuple[Integer, Integer, Integer]]:
    size = -(-(modulus_bytes(modulus) + EXCESS_BYTES) // AES_BLOCK_BYTES) * AES_BLOCK_BYTES
    stream = keystream(seed, 3 * size * start, 3 * size * count)
    x = [from_bytes(stream[i : i + size]) % modulus for i in range(0, len(stream), size)]
    return list(zip(x[0::3], x[1::3], x[2::3], strict=True))
