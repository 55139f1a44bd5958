"""Shares of numbers mod 2^16 and of bits, and the randomness that two servers have in common.

A number x is x_0 + x_1 + x_2; server i holds x_i and x_(i+1), so any two servers hold all of it and one holds nothing.
Bits are shared likewise, with xor for the sum. 64 identities lie in one word: a plane is one bit of all of them.
"""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from veilmatch.crypto.packing.fields import Array

Numbers = NDArray[np.uint16]
Words = NDArray[np.uint64]

#: The gallery at one server.
Stored = list[Numbers]

SERVERS = 3
NUMBER_BITS = 16
WORD_BITS = 64
SEED_BYTES = 16
#: Identities that are multiplied together: their sums and a few rows stay in the first cache. Three times as fast as
#: rows of the whole gallery.
STRETCH = 2_048


class Randomness(Protocol):
    """Uniform values. Two that were made from one seed give the same ones, if they are asked for the same."""

    def numbers(self, *shape: int) -> Numbers:
        """Return numbers mod 2^16."""

    def words(self, *shape: int) -> Words:
        """Return words of 64 bits."""


class Stream:
    """AES-128 in counter mode. One for each pair of servers, which goes on from query to query."""

    def __init__(self, seed: bytes) -> None:
        """seed: 16 bytes, used for nothing else."""
        self._cipher = Cipher(algorithms.AES(seed), modes.CTR(bytes(16))).encryptor()

    def numbers(self, *shape: int) -> Numbers:
        """Return the next numbers mod 2^16."""
        return np.frombuffer(self._bytes(2 * math.prod(shape)), np.uint16).reshape(shape)

    def words(self, *shape: int) -> Words:
        """Return the next words of 64 bits."""
        return np.frombuffer(self._bytes(8 * math.prod(shape)), np.uint64).reshape(shape)

    def _bytes(self, count: int) -> bytes:
        return self._cipher.update(bytes(count))


@dataclass(frozen=True, repr=False)
class Bits:
    """What one server holds of shared bits. own, after: its two shares, words [planes][words]."""

    own: Words
    after: Words

    def __xor__(self, other: Bits) -> Bits:
        return Bits(self.own ^ other.own, self.after ^ other.after)

    def __getitem__(self, planes: slice) -> Bits:
        return Bits(self.own[planes], self.after[planes])

    def __len__(self) -> int:
        return len(self.own)

    @staticmethod
    def join(*parts: Bits) -> Bits:
        """Return the planes of all parts, one after the other."""
        return Bits(np.concatenate([part.own for part in parts]), np.concatenate([part.after for part in parts]))


def share_out(vectors: Array) -> tuple[Stored, Stored, Stored]:
    """Return what the three servers store of a gallery: their two shares of every coordinate.

    vectors: integers [n][D]. Stored are numbers [2 * D][STRETCH], and [2 * D] of the identities that are left:
    coordinates are rows, so that a product with a probe runs along identities.
    """
    x = vectors.T.astype(np.uint16)
    streams = [Stream(secrets.token_bytes(SEED_BYTES)) for _ in range(SERVERS - 1)]
    shares = [stream.numbers(*x.shape) for stream in streams]
    shares.append(x - shares[0] - shares[1])
    first, second, third = (_stretches(shares[i], shares[(i + 1) % SERVERS]) for i in range(SERVERS))
    return first, second, third


def _stretches(own: Numbers, after: Numbers) -> Stored:
    starts = range(0, own.shape[1], STRETCH)
    return [np.concatenate([own[:, i : i + STRETCH], after[:, i : i + STRETCH]]) for i in starts]


def planes(numbers: Numbers, width: int) -> Words:
    """Return the lowest `width` bits of numbers [n], one plane each: words [width][ceil(n / 64)], padded with zeros."""
    padded = np.zeros(-(-len(numbers) // WORD_BITS) * WORD_BITS, np.uint16)
    padded[: len(numbers)] = numbers
    bit = np.uint16(1) << np.arange(width, dtype=np.uint16)
    return np.packbits((padded & bit[:, None]) != 0, axis=1).view(np.uint64)


def booleans(plane: Words, count: int) -> NDArray[np.bool_]:
    """Return the bits of a plane of `planes`, those of the first `count` identities."""
    return np.unpackbits(plane.view(np.uint8), count=count).astype(np.bool_)
