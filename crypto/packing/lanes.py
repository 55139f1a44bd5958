"""Lanes: one vector in a few ciphertexts, `lane_bits` a coordinate.

A lane holds coordinate + offset in [1, 2c+1]. After share conversion both holders cut their w into
lanes; lane_plus - lane_minus is the value again as long as no lane of the minus holder is so near
2^lane_bits that adding a value would carry. The minus holder sees that (`at_risk`) and draws a last mask under which
none is (pair/mask.py), so lanes are exact, not merely almost always right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from veilmatch.crypto.arithmetic import Integer, to_bytes
from veilmatch.crypto.dealing import Words
from veilmatch.crypto.errors import ProtocolError
from veilmatch.crypto.packing.fields import Array, cut, join
from veilmatch.crypto.parameters import HEADROOM_BITS, ParameterSet
from veilmatch.crypto.secret_access import SecretHolder


@dataclass(frozen=True, slots=True, repr=False)
class Vectors(SecretHolder):
    """This holder's part of converted vectors: lanes, all bits above them, and the ring share of the coordinates."""

    lanes: Array
    above: NDArray[np.uint8]
    ring: Array

    def chosen(self, which: NDArray[np.bool_]) -> Vectors:
        """Return those of these n vectors that are chosen, bool[n]."""

        def piece(values: NDArray[Any]) -> NDArray[Any]:
            return values.reshape(len(which), -1)[which].ravel()

        return Vectors(piece(self.lanes), piece(self.above), piece(self.ring))


def pack(vector: Array, parameters: ParameterSet) -> list[Integer]:
    """Return the plaintexts that carry int64[D] coordinates of [-c, c]: `lane_ciphertexts` integers."""
    shifted = [int(x) + parameters.offset for x in vector]
    size, width = parameters.lanes, parameters.lane_bits
    return [join(shifted[i : i + size], width) for i in range(0, len(shifted), size)]


def record_part(lanes: Words, parameters: ParameterSet, *, is_plus: bool) -> list[Integer]:
    """Return this holder's part of the plaintexts that carry one vector: integers to be encrypted and multiplied in.

    lanes: this holder's part of each lane, uint64[D], used as integers whose differences are coordinate + offset: the
    parts of both add up to exactly what `pack` returns for the vector.
    """
    values, sign = lanes.tolist(), 1 if is_plus else -1
    size, width = parameters.lanes, parameters.lane_bits
    return [sign * join(values[i : i + size], width) for i in range(0, len(values), size)]


def unpack(shares: Sequence[Integer], parameters: ParameterSet) -> Array:
    """Return this holder's lanes in [0, 2^lane_bits), int64[n*D], from its w of the lane ciphertexts of n vectors."""
    if not shares or len(shares) % parameters.lane_ciphertexts:
        raise ProtocolError("number of lane ciphertexts", got=len(shares), expected=parameters.lane_ciphertexts)
    fields = cut(shares, parameters.lane_bits, parameters.lanes)
    vectors = fields.reshape(len(shares) // parameters.lane_ciphertexts, -1)
    return np.ascontiguousarray(vectors[:, : parameters.dimension]).ravel()


def above(shares: Sequence[Integer], parameters: ParameterSet) -> NDArray[np.uint8]:
    """Return all bits of every w above its last used lane, up to the size of N, in whole bytes, joined: uint8[...]."""
    tops = []
    for w, used in zip(shares, _used(shares, parameters), strict=True):
        below = parameters.lane_bits * used
        tops.append(to_bytes(w >> below, -(-(parameters.modulus_bits - below) // 8))[::-1])
    return np.frombuffer(b"".join(tops), dtype=np.uint8)


def _used(shares: Sequence[Integer], parameters: ParameterSet) -> list[int]:
    """How many lanes of each ciphertext carry a coordinate."""
    full, last = divmod(parameters.dimension, parameters.lanes)
    counts = [parameters.lanes] * full + ([last] if last else [])
    return [counts[i % parameters.lane_ciphertexts] for i in range(len(shares))]


def wraps_modulus(shares: Sequence[Integer], modulus: Integer) -> bool:
    """Return whether any w of the minus holder is so near N that adding a plaintext would wrap mod N."""
    return any(w >= modulus - (1 << (modulus.bit_length() - HEADROOM_BITS)) for w in shares)


def at_risk(lanes: Array, parameters: ParameterSet) -> bool:
    """Return whether a lane of the minus holder is within 2(2c+2) of 2^lane_bits and might carry."""
    return bool(np.any(lanes >= (1 << parameters.lane_bits) - parameters.lane_risk))


def words_at_risk(words: Words, parameters: ParameterSet) -> bool:
    """Return whether a word of the minus holder is so near 2^64 that adding coordinate + offset might wrap."""
    return bool(np.any(words >= np.uint64((1 << 64) - parameters.lane_risk)))


def ring_share(lanes: Array, parameters: ParameterSet, *, is_plus: bool) -> Array:
    """Return e_*, int64[D] in [0, 2^k): e_plus - e_minus = coordinates mod 2^k."""
    offset = parameters.offset if is_plus else 0
    return (lanes - offset) & ((1 << parameters.ring_bits) - 1)


def wraps_at_risk(ring: Array, parameters: ParameterSet) -> int:
    """Return how many coordinates of the minus holder's e lie within c of the wrap point of 2^k."""
    c, size = parameters.clip, 1 << parameters.ring_bits
    return int(np.count_nonzero((ring < c) | (ring >= size - c)))
