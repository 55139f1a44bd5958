"""Products and squares in pair form: right mod N^2 and below 2N for every operand that the kernel may meet."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kernel.numbers import (
    BACKENDS,
    MODULI,
    SIZES,
    Pair,
    carrying_parts,
    edge_pairs,
    edge_parts,
    radix,
    random_parts,
    ring_of,
    tightest_modulus,
    to_groups,
    to_pairs,
    value,
)
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.rings import choice
from veilmatch.crypto.rings.native.limbs import empty
from veilmatch.crypto.rings.native.ring import NativeRing


def assert_products(ring: NativeRing, found: list[Pair], left: list[Pair], right: list[Pair]) -> None:
    """Every pair found is left * right / R mod N^2, with both parts below 2N."""
    N, inverse = int(ring.modulus), pow(radix(ring), -1, int(ring._square))
    for pair, a, b in zip(found, left, right, strict=True):
        assert max(pair) < 2 * N, f"{a} * {b} is not below 2N"
        assert value(pair, N) == value(a, N) * value(b, N) * inverse % N**2, f"{a} * {b}"


def products(ring: NativeRing, left: list[Pair], right: list[Pair]) -> list[Pair]:
    a, b = to_groups(ring, left), to_groups(ring, right)
    return to_pairs(ring, ring.multiply(empty(a.shape), a, b), len(left))


def squares(ring: NativeRing, pairs: list[Pair]) -> list[Pair]:
    a = to_groups(ring, pairs)
    return to_pairs(ring, ring.square(empty(a.shape), a), len(pairs))


def random_pairs(ring: NativeRing, count: int) -> list[Pair]:
    parts = random_parts(ring, 2 * count)
    return list(zip(parts[:count], parts[count:], strict=True))


@pytest.fixture(params=SIZES)
def bits(request: pytest.FixtureRequest) -> int:
    return request.param


def test_every_backend_that_the_processor_runs_is_tested() -> None:
    assert choice.kernel_is_built()
    flags = set(Path("/proc/cpuinfo").read_text().split())
    ifma = {"avx512f", "avx512dq", "avx512vl", "avx512ifma", "avx512vbmi"}
    needed = {"ifma": ifma, "ifma4": ifma, "avx2": {"avx2"}, "portable": set[str]()}
    assert tuple(name for name in choice.NATIVE if needed[name] <= flags) == BACKENDS


@pytest.mark.parametrize("kind", MODULI)
def test_products_of_edges_are_right_and_below_2N(backend: str, bits: int, kind: str) -> None:
    ring = ring_of(backend, MODULI[kind](bits))
    pairs = edge_pairs(ring)
    right = random.Random(bits).sample(pairs, len(pairs))
    for operands in (pairs, right, pairs[::-1], random_pairs(ring, len(pairs))):
        assert_products(ring, products(ring, pairs, operands), pairs, operands)


@pytest.mark.parametrize("kind", MODULI)
def test_squares_of_edges_are_right_and_below_2N(backend: str, bits: int, kind: str) -> None:
    ring = ring_of(backend, MODULI[kind](bits))
    pairs = edge_pairs(ring) + random_pairs(ring, 30)
    assert_products(ring, squares(ring, pairs), pairs, pairs)


def test_every_edge_meets_every_edge(backend: str) -> None:
    ring = ring_of(backend, MODULI["random"](1024))
    edges = edge_parts(ring)
    left = [(a, b) for a in edges for b in edges]
    right = [(b, a) for a, b in left]
    assert_products(ring, products(ring, left, right), left, right)
    constant = [(edges[-1], edges[-1])] * len(left)
    assert_products(ring, products(ring, left, constant), left, constant)


def test_products_are_right_with_as_little_headroom_as_can_be(backend: str, bits: int) -> None:
    ring = ring_of(backend, tightest_modulus(backend, bits))
    assert radix(ring) // int(ring.modulus) == 64
    pairs = edge_pairs(ring) + random_pairs(ring, 30)
    assert_products(ring, products(ring, pairs, pairs[::-1]), pairs, pairs[::-1])
    assert_products(ring, squares(ring, pairs), pairs, pairs)


@pytest.mark.parametrize("kind", ["random", "all ones", "just above a power of two"])
def test_the_last_carry_runs_through_all_limbs(backend: str, bits: int, kind: str) -> None:
    ring = ring_of(backend, MODULI[kind](bits))
    parts = carrying_parts(ring)
    left: list[Pair] = [(x, y) for x in parts.values() for y in (0, x)]
    ones: list[Pair] = [(1, 0)] * len(left)
    found = products(ring, left, ones)
    assert_products(ring, found, left, ones)
    assert [low for low, _ in found] == [result for result in parts for _ in range(2)]
    upper: list[Pair] = [(0, x) for x in parts.values()]
    found = products(ring, upper, ones[: len(upper)])
    assert_products(ring, found, upper, ones[: len(upper)])
    assert {high for _, high in found} >= {result for result in parts if result > 2}


def test_one_factor_for_all_groups_is_each_of_them(backend: str, bits: int) -> None:
    ring = ring_of(backend, MODULI["random"](bits))
    left, factor = random_pairs(ring, 3 * ring.lanes), (1, 4 * int(ring.modulus) - 1)
    a, b = to_groups(ring, left), to_groups(ring, [factor] * ring.lanes)
    assert_products(ring, to_pairs(ring, ring.multiply(empty(a.shape), a, b), len(left)), left, [factor] * len(left))


def test_a_result_may_take_the_place_of_an_operand(backend: str, bits: int) -> None:
    ring = ring_of(backend, MODULI["random"](bits))
    left, right = random_pairs(ring, 20), edge_pairs(ring)[-20:]
    for number, aliased in enumerate((left, right)):
        operands = [to_groups(ring, left), to_groups(ring, right)]
        ring.multiply(operands[number], *operands)
        assert_products(ring, to_pairs(ring, operands[number], len(aliased)), left, right)
    both = to_groups(ring, left)
    assert_products(ring, to_pairs(ring, ring.multiply(both, both, both), len(left)), left, left)
    same = to_groups(ring, left)
    assert_products(ring, to_pairs(ring, ring.square(same, same), len(left)), left, left)


def test_no_groups_are_no_work(backend: str) -> None:
    ring = ring_of(backend, MODULI["random"](512))
    nothing = empty(ring.group_shape(0))
    assert ring.multiply(nothing, nothing, nothing).size == ring.square(nothing, nothing).size == 0


def test_operands_are_left_as_they_were(backend: str) -> None:
    ring = ring_of(backend, MODULI["random"](1024))
    a, b = to_groups(ring, random_pairs(ring, 9)), to_groups(ring, random_pairs(ring, 9)[::-1])
    before = a.tobytes(), b.tobytes(), ring._ring.tobytes()
    ring.multiply(empty(a.shape), a, b)
    ring.square(empty(a.shape), a)
    assert (a.tobytes(), b.tobytes(), ring._ring.tobytes()) == before


@pytest.mark.parametrize("limbs", [20, 40, 120])
def test_rings_of_few_and_of_the_most_limbs(backend: str, limbs: int) -> None:
    """Half as many tiles as limbs is even and odd; 120 limbs are the most that the kernel takes."""
    limb_bits = ring_of(backend, 3)._limb_bits
    ring = ring_of(backend, (1 << (limbs * limb_bits - 6)) - 1)
    assert ring._limbs == limbs
    pairs = edge_pairs(ring)
    assert_products(ring, products(ring, pairs, pairs[::-1]), pairs, pairs[::-1])
    assert_products(ring, squares(ring, pairs), pairs, pairs)


@st.composite
def small_cases(draw: st.DrawFn) -> tuple[int, Pair, Pair]:
    """An odd modulus of up to 600 bits and two pairs below 4N, often at edges."""
    bits = draw(st.integers(2, 600))
    whole = (1 << bits) - 1
    N = draw(st.one_of(st.sampled_from((whole, (1 << (bits - 1)) + 1, whole - 2)), st.integers(3, max(3, whole)))) | 1
    N = max(N, 3)
    patterns = [0, 1, N - 1, N, N + 1, 2 * N - 1, 4 * N - 1, 4 * N - 2, N // 2]
    patterns += [(1 << k) - d for k in range(26, N.bit_length(), 26) for d in (0, 1)]
    part = st.one_of(st.sampled_from(patterns), st.integers(0, 4 * N - 1))
    return N, draw(st.tuples(part, part)), draw(st.tuples(part, part))


@given(small_cases())
@settings(max_examples=150, deadline=None)
def test_products_and_squares_are_right_for_any_modulus(case: tuple[int, Pair, Pair]) -> None:
    N, a, b = case
    for name in BACKENDS:
        ring = NativeRing(Integer(N), name)
        assert_products(ring, products(ring, [a, b], [b, a]), [a, b], [b, a])
        assert_products(ring, squares(ring, [a, b]), [a, b], [a, b])
