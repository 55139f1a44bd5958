"""The check of dealt blocks: honest ones pass and still multiply, and what is wrong in one shows."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import permutations
from math import log2

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.crypto.toys import toy_key
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.dealing import (
    BLOCK_UNITS,
    DEALT_UNITS,
    STOCK_KINDS,
    BitTriples,
    Block,
    BlockCheck,
    BlockName,
    CheckedBlock,
    Kind,
    Products,
    bit_triples,
    commit_opening,
    deal_tagged,
    material,
    products,
)  # fmt: skip
from veilmatch.crypto.dealing.buckets import arrangement, random_order, undetected_bits
from veilmatch.crypto.dealing.tag_check import TagCheck
from veilmatch.crypto.errors import DealtOpeningError, DealtStockError, ProtocolError
from veilmatch.crypto.keys.shares import DealerGammas
from veilmatch.crypto.secret_access import SECRET_ACCESS

N = Integer(toy_key(512).N)
GAMMAS = DealerGammas(Integer(2) ** 127 + 3, Integer(2) ** 127 + 5)
UNIT_BYTES = {"triples": 64, "bits": 1, "products": 8}


def checks(kind: Kind, plus: Block, minus: Block, coin: int) -> tuple[BlockCheck, BlockCheck]:
    name, nonces = BlockName("ab", bytes(32), 1, kind, 0), (coin.to_bytes(32, "big"), bytes(32))
    of_plus, of_minus = (GAMMAS.of_verifier(is_plus=p, access=SECRET_ACCESS) for p in (True, False))
    return (
        BlockCheck(name, plus, nonces, N, of_plus, is_plus=True),
        BlockCheck(name, minus, nonces, N, of_minus, is_plus=False),
    )


def committed(kind: Kind, check: BlockCheck, seed: int = 0, *, of_plus: bool) -> bytes:
    """What the dealer says that a holder must open under the coin of a check."""
    name = BlockName("ab", bytes(32), 1, kind, 0)
    return commit_opening(bytes([seed]) * 32, name, check.coin, N, of_plus=of_plus)


def proofs_of(kind: Kind, ours: BlockCheck, theirs: BlockCheck, seed: int = 0) -> tuple[bytes, bytes]:
    """What the plus and the minus holder send each other once both have opened."""
    return (
        ours.proof(theirs.opening, committed(kind, ours, seed, of_plus=False)),
        theirs.proof(ours.opening, committed(kind, theirs, seed, of_plus=True)),
    )


def run(kind: Kind, plus: Block, minus: Block, coin: int = 1, seed: int = 0) -> tuple[CheckedBlock, CheckedBlock]:
    ours, theirs = checks(kind, plus, minus, coin)
    proofs = proofs_of(kind, ours, theirs, seed)
    return ours.kept(proofs[1]), theirs.kept(proofs[0])


def dealt(kind: Kind, seed: int = 0) -> tuple[Block, Block]:
    name = BlockName("ab", bytes(32), 1, kind, 0)
    plus, minus = (deal_tagged(bytes([seed]) * 32, name, N, GAMMAS, for_plus=p) for p in (True, False))
    return plus, minus


def shifted(kind: Kind, block: Block, units: list[int], mask: int = 1) -> Block:
    """The block with the lowest byte of these units' corrections changed."""
    data = bytearray(block.corrections)
    size = UNIT_BYTES[kind]
    for unit in units:
        data[(unit + 1) * size - 1 if kind == "triples" else unit * size] ^= mask
    return Block(block.seed, bytes(data))


@pytest.mark.parametrize("kind", STOCK_KINDS)
@given(coin=st.integers(0, 2**256 - 1), seed=st.integers(0, 255))
@settings(max_examples=5, deadline=None)
def test_what_comes_out_of_an_honest_block_multiplies(kind: Kind, coin: int, seed: int) -> None:
    x, y = (material(kind, [(part, 0, BLOCK_UNITS[kind])], N) for part in run(kind, *dealt(kind, seed), coin, seed))
    if isinstance(x, BitTriples) and isinstance(y, BitTriples):
        assert (((x.a ^ y.a) & (x.b ^ y.b)) == (x.c ^ y.c)).all() and len(x.a) == BLOCK_UNITS[kind]
    elif isinstance(x, Products) and isinstance(y, Products):
        assert (x.factor * y.factor == x.product - y.product).all() and len(x.factor) == BLOCK_UNITS[kind]
    else:
        pairs = list(zip(x, y, strict=True))  # type: ignore[arg-type]
        assert all(((p.a - q.a) * (p.b - q.b) - (p.ab - q.ab)) % N == 0 for p, q in pairs) and len(pairs) == 256
        of_plus, of_minus = (GAMMAS.of_verifier(is_plus=p, access=SECRET_ACCESS) for p in (True, False))
        assert all((p.key_a + of_plus * q.a - q.tag_a) % N == 0 for p, q in pairs), "the plus holder verifies"
        assert all((q.key_b + of_minus * p.b - p.tag_b) % N == 0 for p, q in pairs), "the minus holder verifies"


@pytest.mark.parametrize("kind", STOCK_KINDS)
def test_one_wrong_unit_anywhere_is_seen_by_both(kind: Kind) -> None:
    plus, minus = dealt(kind)
    rng = np.random.default_rng(1)
    for coin in range(12):
        unit = int(rng.integers(DEALT_UNITS[kind]))
        ours, theirs = checks(kind, shifted(kind, plus, [unit], 1 << coin % 8), minus, coin)
        proofs = proofs_of(kind, ours, theirs)
        for check, proof in ((ours, proofs[1]), (theirs, proofs[0])):
            with pytest.raises(DealtStockError) as caught:
                check.kept(proof)
            assert type(caught.value) is DealtStockError and caught.value.party == "keyholder-c"


@pytest.mark.parametrize("of_plus", [True, False])
def test_one_wrong_tag_anywhere_is_seen_by_both_and_names_the_dealer(of_plus: bool) -> None:
    tags = 2 * BLOCK_UNITS["triples"] + 1
    for coin, at in enumerate((0, 1, 2, tags - 2, tags - 1, *np.random.default_rng(2).integers(tags, size=6).tolist())):
        parts = list(dealt("triples"))
        part = parts[not of_plus]
        data = bytearray(part.corrections)
        data[len(data) - (tags - at) * UNIT_BYTES["triples"] + coin % 64] ^= 1 << coin % 8
        parts[not of_plus] = Block(part.seed, bytes(data))
        ours, theirs = checks("triples", *parts, coin)
        proofs = proofs_of("triples", ours, theirs)
        for check, proof in ((ours, proofs[1]), (theirs, proofs[0])):
            with pytest.raises(DealtStockError) as caught:
                check.kept(proof)
            assert caught.value.party == "keyholder-c"


def test_tags_that_are_right_under_another_gamma_are_refused() -> None:
    name = BlockName("ab", bytes(32), 1, "triples", 0)
    for gammas in (
        DealerGammas(Integer(2) ** 127 + 3, Integer(2) ** 127 + 7), DealerGammas(Integer(1), Integer(2) ** 127 + 5),
    ):  # fmt: skip
        plus, minus = (deal_tagged(bytes(32), name, N, gammas, for_plus=p) for p in (True, False))
        with pytest.raises(DealtStockError):
            run("triples", plus, minus)


@pytest.mark.parametrize("size", [0, 63, 65])
def test_a_combination_of_the_wrong_size_is_refused(size: int) -> None:
    check = TagCheck([Integer(1), Integer(2)], bytes(32), N)
    with pytest.raises(ProtocolError, match="combination"):
        check.values(bytes(size), [Integer(0)] * 2, [Integer(0)] * 2, Integer(1), is_plus=True)


@pytest.mark.parametrize("kind", STOCK_KINDS)
@pytest.mark.parametrize("share", [1.0, 0.5])
def test_many_wrong_units_are_seen(kind: Kind, share: float) -> None:
    plus, minus = dealt(kind)
    with pytest.raises(DealtStockError):
        run(kind, shifted(kind, plus, list(range(int(share * DEALT_UNITS[kind])))), minus)


@pytest.mark.parametrize("is_plus", [True, False])
@pytest.mark.parametrize("kind", STOCK_KINDS)
def test_an_opening_that_is_not_the_one_dealt_names_the_peer_and_nothing_is_made_from_it(
    kind: Kind, is_plus: bool
) -> None:
    both = checks(kind, *dealt(kind), 1)
    ours, theirs = both if is_plus else both[::-1]
    right, promise = theirs.opening, committed(kind, ours, of_plus=not is_plus)
    flipped = [bytes(x ^ (i == at) for i, x in enumerate(right)) for at in (0, 31, 32, len(right) // 2, len(right) - 1)]
    for opening in (b"", right[:-1], right + b"x", ours.opening, *flipped):
        with pytest.raises(DealtOpeningError) as caught:
            ours.proof(opening, promise)
        assert caught.value.party == ("keyholder-b" if is_plus else "keyholder-a")
        with pytest.raises(ProtocolError, match="without the peer's opening"):
            ours.kept(bytes(32))
    assert ours.proof(right, promise)


@pytest.mark.parametrize("kind", STOCK_KINDS)
def test_a_commitment_is_to_one_block_one_coin_and_one_role(kind: Kind) -> None:
    ours, theirs = checks(kind, *dealt(kind), 1)
    name, seed = BlockName("ab", bytes(32), 1, kind, 0), bytes(32)
    others = [
        commit_opening(seed, name, ours.coin, N, of_plus=True),
        commit_opening(seed, name, bytes(32), N, of_plus=False),
        commit_opening(bytes([1]) * 32, name, ours.coin, N, of_plus=False),
        *(
            commit_opening(seed, replace(name, **{field: value}), ours.coin, N, of_plus=False)
            for field, value in (("pair", "ac"), ("stock", bytes([1]) * 32), ("epoch", 2), ("number", 1))
        ),
        *(commit_opening(seed, replace(name, kind=k), ours.coin, N, of_plus=False) for k in STOCK_KINDS if k != kind),
    ]
    assert len(set(others)) == len(others)
    for other in others:
        with pytest.raises(DealtOpeningError):
            ours.proof(theirs.opening, other)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_nobody_commits_under_a_coin_of_another_size(size: int) -> None:
    with pytest.raises(ProtocolError, match="coin"):
        commit_opening(bytes(32), BlockName("ab", bytes(32), 1, "bits", 0), bytes(size), N, of_plus=True)


@pytest.mark.parametrize("kind", ["bits", "products"])
def test_whoever_knows_the_coin_knows_which_words_come_out_and_not_where(kind: Kind) -> None:
    plus, minus = dealt(kind)
    check = checks(kind, plus, minus, 1)[0]
    (block, _) = run(kind, plus, minus, 1)
    if kind == "bits":
        words, size = bit_triples(plus, 0, DEALT_UNITS[kind]).a.view(np.uint64), BLOCK_UNITS[kind]
    else:
        words, size = products(plus, 0, DEALT_UNITS[kind]).factor, BLOCK_UNITS[kind] * 8
    came_out = np.frombuffer(block.content[:size], dtype="<u8")
    expected = words[arrangement(check.coin, len(came_out)).kept]
    assert sorted(came_out) == sorted(expected)
    assert (came_out == expected).sum() < 20, "of 2^14 in random places one stays where it was"


def test_the_bound_is_that_of_all_arrangements_of_a_small_block() -> None:
    """Two buckets of two and one opened unit: count the orders in which t buckets' worth of wrong units pass."""
    orders = list(permutations(range(5)))
    best = 0.0
    for wrong in ({0, 1}, {0, 1, 2, 3}):
        passed = sum(
            order[0] not in wrong and all(len({u in wrong for u in order[i : i + 2]}) == 1 for i in (1, 3))
            for order in orders
        )
        best = max(best, passed / len(orders))
    assert undetected_bits(2, 2, 1) == pytest.approx(-log2(best))


def test_a_wrong_block_passes_less_than_once_in_2_to_the_40() -> None:
    for words in (BLOCK_UNITS["bits"] // 8, BLOCK_UNITS["products"]):
        assert undetected_bits(words) == pytest.approx(45.4, abs=0.05)


def test_the_random_order_is_one_of_all_orders_and_each_as_often() -> None:
    counts = Counter(tuple(random_order(i.to_bytes(32, "big"), 3)) for i in range(6000))
    assert len(counts) == 6 and all(800 < count < 1200 for count in counts.values())
