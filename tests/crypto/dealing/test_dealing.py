"""Dealt randomness: products are right at any offset, and no two blocks are alike."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.crypto.toys import toy_key
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.dealing import (
    BLOCK_UNITS,
    Block,
    BlockName,
    Kind,
    bit_triples,
    check_block,
    deal,
    products,
    triples,
)
from veilmatch.crypto.errors import ProtocolError

N = Integer(toy_key(512).N)
SEED = bytes(range(32))
TRIPLES = BlockName("ab", b"s" * 32, 1, "triples", 0)
BITS = replace(TRIPLES, kind="bits")
PRODUCTS = replace(TRIPLES, kind="products")
KINDS: tuple[Kind, ...] = ("triples", "bits", "products")


def both(name: BlockName, modulus: Integer = N, seed: bytes = SEED) -> tuple[Block, Block]:
    return deal(seed, name, modulus, for_plus=True), deal(seed, name, modulus, for_plus=False)


TRIPLE_BLOCKS = both(TRIPLES)
BIT_BLOCKS = both(BITS)
PRODUCT_BLOCKS = both(PRODUCTS)


def ranges(kind: Kind) -> st.SearchStrategy[tuple[int, int]]:
    """start and count inside a block, often touching its ends."""
    units = BLOCK_UNITS[kind]
    starts = st.one_of(st.sampled_from((0, 1, 15, 16, 17, units - 1)), st.integers(0, units - 1))
    return starts.flatmap(
        lambda start: st.tuples(
            st.just(start), st.one_of(st.just(units - start), st.integers(1, min(64, units - start)))
        )
    )


@given(ranges("triples"))
@settings(max_examples=40, deadline=None)
def test_products_mod_n_are_right_at_every_offset(where: tuple[int, int]) -> None:
    plus, minus = (triples(block, *where, N) for block in TRIPLE_BLOCKS)
    assert len(plus) == len(minus) == where[1]
    for x, y in zip(plus, minus, strict=True):
        assert (x.a - y.a) * (x.b - y.b) % N == (x.ab - y.ab) % N
        assert all(0 <= part < N for t in (x, y) for part in (t.a, t.b, t.ab))


@given(ranges("bits"))
@settings(max_examples=40)
def test_products_of_bits_are_right_at_every_offset(where: tuple[int, int]) -> None:
    x, y = (bit_triples(block, *where) for block in BIT_BLOCKS)
    assert len(x.a) == len(x.b) == len(x.c) == where[1]
    assert np.array_equal((x.a ^ y.a) & (x.b ^ y.b), x.c ^ y.c)


@given(ranges("products"))
@settings(max_examples=40, deadline=None)
def test_products_of_words_are_right_at_every_offset(where: tuple[int, int]) -> None:
    x, y = (products(block, *where) for block in PRODUCT_BLOCKS)
    assert len(x.factor) == len(x.product) == where[1]
    assert np.array_equal(x.factor * y.factor, x.product - y.product), "mod 2^64"


@given(ranges("bits"), ranges("triples"), ranges("products"))
@settings(max_examples=30, deadline=None)
def test_a_range_is_a_part_of_its_block(bits: tuple[int, int], mod_n: tuple[int, int], words: tuple[int, int]) -> None:
    for block in PRODUCT_BLOCKS:
        every, some = products(block, 0, BLOCK_UNITS["products"]), products(block, *words)
        place = slice(words[0], words[0] + words[1])
        assert np.array_equal(every.factor[place], some.factor) and np.array_equal(every.product[place], some.product)
    for block in BIT_BLOCKS:
        whole, part = bit_triples(block, 0, BLOCK_UNITS["bits"]), bit_triples(block, *bits)
        start, stop = bits[0], bits[0] + bits[1]
        assert all(np.array_equal(getattr(whole, x)[start:stop], getattr(part, x)) for x in "abc")
    for block in TRIPLE_BLOCKS:
        assert triples(block, 0, 256, N)[mod_n[0] : mod_n[0] + mod_n[1]] == triples(block, *mod_n, N)


@pytest.mark.parametrize("bits", [512, 1024, 3072])
def test_products_are_right_for_every_modulus_size(bits: int) -> None:
    modulus = Integer(toy_key(bits).N)
    plus, minus = (triples(block, 250, 6, modulus) for block in both(TRIPLES, modulus))
    for x, y in zip(plus, minus, strict=True):
        assert (x.a - y.a) * (x.b - y.b) % modulus == (x.ab - y.ab) % modulus


@pytest.mark.parametrize("kind", KINDS)
def test_dealing_again_gives_the_same_block(kind: Kind) -> None:
    assert both(replace(TRIPLES, kind=kind)) == both(replace(TRIPLES, kind=kind))


@pytest.mark.parametrize("kind", KINDS)
def test_every_part_of_a_name_makes_another_block(kind: Kind) -> None:
    name = replace(TRIPLES, kind=kind)
    others = [
        (name, SEED),
        (replace(name, pair="ac"), SEED),
        (replace(name, stock=b"t" * 32), SEED),
        (replace(name, epoch=2), SEED),
        (replace(name, number=1), SEED),
        *((replace(name, kind=other), SEED) for other in KINDS if other != kind),
        (name, SEED[::-1]),
    ]
    blocks = [part for other, seed in others for part in both(other, seed=seed)]
    assert len({block.seed for block in blocks}) == 2 * len(others), "each block and each role has its own seed"
    assert len({block.corrections for block in blocks}) == len(others) + 1, "the minus holder's are empty"


@pytest.mark.parametrize("blocks", [TRIPLE_BLOCKS, BIT_BLOCKS, PRODUCT_BLOCKS], ids=KINDS)
def test_plus_and_minus_holder_get_different_parts(blocks: tuple[Block, Block]) -> None:
    plus, minus = blocks
    assert plus.seed != minus.seed and plus.corrections and not minus.corrections


def test_shares_of_one_holder_look_uniform() -> None:
    for block in BIT_BLOCKS:
        part = bit_triples(block, 0, BLOCK_UNITS["bits"])
        for x in (part.a, part.b, part.c):
            ones = int(np.unpackbits(x).sum())
            assert abs(ones - 4 * BLOCK_UNITS["bits"]) < 4000, "11 standard deviations of 2^19 fair bits"
    for block in PRODUCT_BLOCKS:
        words = products(block, 0, BLOCK_UNITS["products"])
        for column in (words.factor, words.product):
            ones = int(np.unpackbits(column.view(np.uint8)).sum())
            assert abs(ones - 32 * len(column)) < 5700, "11 standard deviations of 2^20 fair bits"
    for block in TRIPLE_BLOCKS:
        values = [x for t in triples(block, 0, 256, N) for x in (t.a, t.b, t.ab)]
        assert len(set(values)) == len(values) and min(values) < N // 50 and max(values) > N - N // 50


def test_triples_of_different_indices_differ() -> None:
    for block in TRIPLE_BLOCKS:
        assert len({t.a for t in triples(block, 0, 256, N)}) == 256


@pytest.mark.parametrize("is_plus", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_block_of_the_other_role_or_of_another_size_is_refused(kind: Kind, is_plus: bool) -> None:
    blocks = {
        (kind, role): block
        for kind, both_parts in zip(KINDS, (TRIPLE_BLOCKS, BIT_BLOCKS, PRODUCT_BLOCKS), strict=True)
        for role, block in zip((True, False), both_parts, strict=True)
    }
    assert check_block(blocks[kind, is_plus], kind, N, is_plus=is_plus) is blocks[kind, is_plus]
    for other_kind, other_role in blocks:
        # Bits and products are as long; a block of the one in place of the other fails the pair's check.
        same_size = len(blocks[other_kind, True].corrections) == len(blocks[kind, True].corrections)
        if other_role != is_plus or (is_plus and not same_size):
            with pytest.raises(ProtocolError):
                check_block(blocks[kind, is_plus], other_kind, N, is_plus=other_role)
