"""Dealt randomness: products are right at any offset, and no two blocks are alike."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.crypto.toys import toy_key
from veilmatch.crypto import dealing
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.dealing import BLOCK_UNITS, Block, BlockName, Kind, bit_triples, check_block, deal, triples

N = Integer(toy_key(512).N)
SEED = bytes(range(32))
TRIPLES = BlockName("ab", b"s" * 32, 1, "triples", 0)
BITS = replace(TRIPLES, kind="bits")


def both(name: BlockName, modulus: Integer = N, seed: bytes = SEED) -> tuple[Block, Block]:
    return deal(seed, name, modulus, for_plus=True), deal(seed, name, modulus, for_plus=False)


TRIPLE_BLOCKS = both(TRIPLES)
BIT_BLOCKS = both(BITS)


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


@given(ranges("bits"), ranges("triples"))
@settings(max_examples=30, deadline=None)
def test_a_range_is_a_part_of_its_block(bits: tuple[int, int], mod_n: tuple[int, int]) -> None:
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


@pytest.mark.parametrize("kind", ["triples", "bits"])
def test_dealing_again_gives_the_same_block(kind: Kind) -> None:
    assert both(replace(TRIPLES, kind=kind)) == both(replace(TRIPLES, kind=kind))


@pytest.mark.parametrize("kind", ["triples", "bits"])
def test_every_part_of_a_name_makes_another_block(kind: Kind) -> None:
    name = replace(TRIPLES, kind=kind)
    others = [
        (name, SEED),
        (replace(name, pair="ac"), SEED),
        (replace(name, stock=b"t" * 32), SEED),
        (replace(name, epoch=2), SEED),
        (replace(name, number=1), SEED),
        (replace(name, kind="bits" if kind == "triples" else "triples"), SEED),
        (name, SEED[::-1]),
    ]
    blocks = [part for other, seed in others for part in both(other, seed=seed)]
    assert len({block.seed for block in blocks}) == 2 * len(others), "each block and each role has its own seed"
    assert len({block.corrections for block in blocks}) == len(others) + 1, "the minus holder's are empty"


@pytest.mark.parametrize("blocks", [TRIPLE_BLOCKS, BIT_BLOCKS], ids=["triples", "bits"])
def test_plus_and_minus_holder_get_different_parts(blocks: tuple[Block, Block]) -> None:
    plus, minus = blocks
    assert plus.seed != minus.seed and plus.corrections and not minus.corrections


def test_shares_of_one_holder_look_uniform() -> None:
    for block in BIT_BLOCKS:
        part = bit_triples(block, 0, BLOCK_UNITS["bits"])
        for x in (part.a, part.b, part.c):
            ones = int(np.unpackbits(x).sum())
            assert abs(ones - 4 * BLOCK_UNITS["bits"]) < 4000, "11 standard deviations of 2^19 fair bits"
    for block in TRIPLE_BLOCKS:
        values = [x for t in triples(block, 0, 256, N) for x in (t.a, t.b, t.ab)]
        assert len(set(values)) == len(values) and min(values) < N // 50 and max(values) > N - N // 50


def test_triples_of_different_indices_differ() -> None:
    for block in TRIPLE_BLOCKS:
        assert len({t.a for t in triples(block, 0, 256, N)}) == 256


@pytest.mark.parametrize(("kind", "is_plus"), [("triples", True), ("triples", False), ("bits", True), ("bits", False)])
def test_block_of_the_other_role_or_kind_is_refused(kind: Kind, is_plus: bool) -> None:
    blocks = {("triples", True): TRIPLE_BLOCKS[0], ("triples", False): TRIPLE_BLOCKS[1],
              ("bits", True): BIT_BLOCKS[0], ("bits", False): BIT_BLOCKS[1]}  # fmt: skip
    assert check_block(blocks[kind, is_plus], kind, N, is_plus=is_plus) is blocks[kind, is_plus]
    for other_kind, other_role in blocks:
        if other_role != is_plus or (is_plus and other_kind != kind):
            with pytest.raises(dealing.ProtocolError):
                check_block(blocks[kind, is_plus], other_kind, N, is_plus=other_role)
