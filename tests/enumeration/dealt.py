"""Dealt randomness and masks that are enumerated in place of the streams of AES and SHA-256.

In production every one of these values comes from a keystream. That a keystream is as good as uniform values is an
assumption (docs/security-argument.md); what is enumerated here is the protocol on uniform values.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from tests.enumeration.views import Codes
from veilmatch.crypto.arithmetic import Integer, to_bytes
from veilmatch.crypto.dealing import BitTriples, Products, Words
from veilmatch.crypto.digests import digest
from veilmatch.crypto.gates.boolean import Wire
from veilmatch.crypto.pair import exchange, mask
from veilmatch.crypto.pair.mask import SEED_BYTES, SessionMask

Bits = NDArray[np.uint8]


class EnumeratedMask(SessionMask):
    """A session mask whose draws are the values that it is given: of residues, words and bits, each a list of draws."""

    def __init__(self, residues: list[list[int]], words: list[Any], bits: list[Any]) -> None:
        self._given = {"residues": list(residues), "words": list(words), "bits": list(bits)}

    def residues(self, count: int, modulus: Integer) -> list[Integer]:
        return [Integer(x) for x in self._next("residues", count)]

    def words(self, count: int) -> Words:
        return np.array(self._next("words", count), dtype=np.uint64)

    def bits(self, count: int) -> Bits:
        return np.array(self._next("bits", count), dtype=np.uint8)

    def _next(self, kind: str, count: int) -> Any:
        drawn = self._given[kind].pop(0)
        assert len(drawn) == count
        return drawn


class RejectedError(Exception):
    """The minus holder is not safe under the last mask that it was given: it would draw another one."""


def numbered(seed: int) -> bytes:
    """A seed of a last mask."""
    return to_bytes(Integer(seed), SEED_BYTES)


@contextmanager
def last_masks(*given: int) -> Iterator[None]:
    """Let the minus holder draw seeds 0, 1, ..., of which each stands for the number given, mod N or as a word.

    Those that it is given are equally likely, so those that it does not reject are. Raises RejectedError at any draw
    after those given.
    """
    residues = {digest("last mask mod N", numbered(i)): x for i, x in enumerate(given)}
    words = {digest("last mask of words", numbered(i)): x for i, x in enumerate(given)}
    seeds = iter(range(len(given)))

    def draw(_: int) -> Integer:
        try:
            return Integer(next(seeds))
        except StopIteration:
            raise RejectedError from None

    def residues_of(seed: bytes, count: int, modulus: Integer) -> list[Integer]:
        return [Integer(residues[seed])] * count

    def words_of(seed: bytes, count: int) -> Words:
        return np.full(count, words[seed], dtype=np.uint64)

    with patch.multiple(mask, random_bits=draw, _residues=residues_of, _words=words_of):
        yield


@contextmanager
def every_safe_seed(found: list[list[int]], *given: int) -> Iterator[None]:
    """The same, and note of each last mask which seeds the minus holder may draw. It takes the first of them."""

    def draw_seed(is_safe: Any) -> bytes:
        found.append([i for i in range(len(given)) if is_safe(numbered(i))])
        return numbered(found[-1][0])

    with last_masks(*given), patch.object(exchange, "draw_seed", draw_seed):
        yield


def wire(bits: NDArray[np.generic]) -> Wire:
    """Bits along the last axis, eight to a byte: each column is an assignment, and all run side by side."""
    return np.packbits(bits.astype(np.uint8), axis=-1, bitorder="little")


def unwire(payload: bytes, columns: int) -> Bits:
    """Rows of bits in a message: uint8[rows, columns]."""
    return np.unpackbits(np.frombuffer(payload, dtype=np.uint8).reshape(-1, columns // 8), axis=1, bitorder="little")


def bits_of(number: Codes, count: int) -> Bits:
    """The lowest bits of numbers: uint8[count, columns]."""
    return (number >> np.arange(count)[:, None] & 1).astype(np.uint8)


def pattern(ands: int, columns: int, number: int) -> Bits:
    """Some value of bits that are held and not enumerated, the same in every column: uint8[ands, columns]."""
    rng = np.random.default_rng(number)
    return np.repeat(rng.integers(0, 2, (ands, 1), dtype=np.uint8), columns, axis=1)


def bit_material(held: tuple[Bits, Bits, Bits], other_a: Bits, other_b: Bits) -> tuple[BitTriples, BitTriples]:
    """Right bit triples, rows of gates: what one holder has, and of the other the c that fits its a and b."""
    a, b, c = held
    other_c = ((a ^ other_a) & (b ^ other_b)) ^ c
    mine, theirs = ([wire(part).ravel() for part in parts] for parts in (held, (other_a, other_b, other_c)))
    return BitTriples(*mine), BitTriples(*theirs)


def product_material(held: tuple[Codes, Codes], other: Codes, *, is_plus: bool) -> tuple[Products, Products]:
    """Right products: factor and product of one holder (is_plus: which), and of the other what fits its factor."""
    factor, product = (part.astype(np.uint64) for part in held)
    theirs = other.astype(np.uint64)
    # product_plus - product_minus = factor_plus * factor_minus
    rest = product - factor * theirs if is_plus else product + factor * theirs
    return Products(factor, product), Products(theirs, rest)
