"""Programs of products: they give the plain product for all exponents, in a length that random ones have in common."""

from __future__ import annotations

import secrets

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kernel.numbers import MODULI, SIZES, ring_of
from veilmatch.crypto import _kernel
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.rings import programs
from veilmatch.crypto.rings.programs import Program, compile_program, usual_length
from veilmatch.crypto.rings.reference import ReferenceRing

Q = (1 << 61) - 1


def run_plainly(program: Program, bases: list[int], modulus: int) -> int:
    """What the kernel does with a program, on integers; no step may write a base or read what was not made."""
    if program.result is None:
        return 1 % modulus
    numbers = dict(enumerate(bases))
    to = program.result
    for to, left, right in program.steps.tolist():
        assert to >= len(bases)
        numbers[to] = numbers[left] * numbers[right] % modulus
    assert to == program.result
    return numbers[program.result] % modulus


def plain(bases: list[int], exponents: list[int], modulus: int) -> int:
    product = 1
    for base, exponent in zip(bases, exponents, strict=True):
        product = product * pow(base, exponent, modulus) % modulus
    return product % modulus


def patterns(count: int, bits: int) -> dict[str, list[int]]:
    top, last = (1 << bits) - 1, count - 1
    return {
        "all zero": [0] * count,
        "only the first": [top] + [0] * last,
        "only the last": [0] * last + [top],
        "only the last, one": [0] * last + [1],
        "all equal": [top] * count,
        "all one": [1] * count,
        "single bits": [1 << i % bits for i in range(count)],
        "2^k - 1": [(1 << i % bits + 1) - 1 for i in range(count)],
        "a pair and its sum": [(top // 3, top // 3 + 1, top // 3 * 2 + 1)[i % 3] & top for i in range(count)],
        "doubles": [(top // 2, top // 2 * 2)[i % 2] for i in range(count)],
        "edges": [(0, top, 1, top - 1, top // 2, top // 2 + 1)[i % 6] for i in range(count)],
        "Fibonacci": _fibonacci(count, top),
        "random": [secrets.randbits(bits) for _ in range(count)],
        "descending": [max(top - i, 0) for i in range(count)],
    }


def _fibonacci(count: int, top: int) -> list[int]:
    numbers = [1, 1]
    while len(numbers) < count:
        numbers.append((numbers[-1] + numbers[-2]) % (top + 1))
    return [x & top for x in numbers[:count]]


CASES = [(1, 1), (1, 14), (2, 1), (2, 15), (3, 2), (16, 1), (26, 14), (128, 1), (128, 2), (128, 17), (512, 17)]


@pytest.mark.parametrize(("count", "bits"), CASES)
@pytest.mark.parametrize("name", patterns(3, 3))
def test_a_program_gives_the_plain_product(count: int, bits: int, name: str) -> None:
    exponents = patterns(count, bits)[name]
    bases = [2 + secrets.randbelow(Q - 2) for _ in exponents]
    assert run_plainly(compile_program(exponents, bits), bases, Q) == plain(bases, exponents, Q)


@given(st.data(), st.integers(1, 20))
@settings(max_examples=200, deadline=None)
def test_any_exponents_give_the_plain_product(data: st.DataObject, bits: int) -> None:
    top = (1 << bits) - 1
    exponent = st.one_of(st.sampled_from((0, 1, top, top // 2, top // 2 + 1)), st.integers(0, top))
    exponents = data.draw(st.lists(exponent, min_size=1, max_size=10))
    bases = [3 + i for i in range(len(exponents))]
    assert run_plainly(compile_program(exponents, bits), bases, Q) == plain(bases, exponents, Q)


@pytest.mark.parametrize("count", [0, 1, 5])
def test_the_empty_product_has_no_program(count: int) -> None:
    program = compile_program([0] * count, 14)
    assert program.result is None and program.steps.shape == (0, 3)


@pytest.mark.parametrize(("count", "bits"), [(26, 14), (128, 17), (512, 17)])
def test_random_exponents_all_need_the_same_number_of_products(count: int, bits: int) -> None:
    """One in 30,000 may be longer, and is then as long as it must be: twice in 12 does not happen."""
    lengths = [len(compile_program([secrets.randbits(bits) for _ in range(count)], bits).steps) for _ in range(12)]
    usual = usual_length(count, bits)
    assert min(lengths) == usual and sum(length > usual for length in lengths) < 2


def test_exponents_that_need_more_products_than_usual_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "usual_length", lambda count, bits: 2)
    exponents = [secrets.randbits(14) | 1 << 13 for _ in range(40)]
    program = compile_program(exponents, 14)
    assert len(program.steps) > 2
    assert run_plainly(program, list(range(2, 42)), Q) == plain(list(range(2, 42)), exponents, Q)


@pytest.mark.parametrize("exponents", [[1, 0, 0], [3, 3, 3], [1, 2, 3], [0, 0, 2]])
def test_easy_exponents_are_filled_up_with_idle_products(exponents: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """All but those that need no product at all: none but zeros, or none but zeros and a single one."""
    monkeypatch.setattr(programs, "usual_length", lambda count, bits: 30)
    program = compile_program(exponents, 14)
    assert len(program.steps) == (0 if sum(exponents) == 1 else 30)
    assert run_plainly(program, [2, 3, 5], Q) == plain([2, 3, 5], exponents, Q)


def test_filling_up_does_not_change_with_the_exponents_seen() -> None:
    before = usual_length(64, 12)
    for _ in range(5):
        compile_program([secrets.randbits(12) for _ in range(64)], 12)
    assert usual_length(64, 12) == before


# -- in the kernel ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "bits"), [(1, 14), (2, 1), (3, 2), (26, 14), (128, 1), (128, 17)])
@pytest.mark.parametrize("name", patterns(3, 3))
def test_the_kernel_runs_a_program_as_gmpy2_multiplies(backend: str, count: int, bits: int, name: str) -> None:
    N = MODULI["random"](512)
    exponents = patterns(count, bits)[name]
    group, reference = ring_of(backend, N).pack_group(count), ReferenceRing(Integer(N)).pack_group(count)
    packs = [[Integer(secrets.randbelow(N**2)) for _ in exponents] for _ in range(ring_of(backend, N).lanes)]
    expected = []
    for lane, pack in enumerate(packs):
        group.put(lane, pack)
        reference.put(0, pack)
        expected += reference.products_of_powers(exponents, bits)
    assert group.products_of_powers(exponents, bits) == expected
    assert [group.get(lane) for lane in range(len(packs))] == packs, "a program wrote a base"


@pytest.mark.parametrize("bits", SIZES)
@pytest.mark.parametrize("kind", MODULI)
def test_products_of_edges_at_every_size(backend: str, bits: int, kind: str) -> None:
    N = MODULI[kind](bits)
    ring, edges = ring_of(backend, N), [N**2 - 1, N + 1, N - 1, N**2 - N, 1, 2, (1 << bits) - 1]
    exponents = [secrets.randbits(15) for _ in edges]
    group = ring.pack_group(len(edges))
    group.put(ring.lanes - 1, [Integer(x) for x in edges])
    assert group.products_of_powers(exponents, 15)[-1] == plain(edges, exponents, N**2)


def test_packs_are_kept_lane_by_lane_and_replaced(backend: str) -> None:
    N = MODULI["random"](512)
    ring = ring_of(backend, N)
    group = ring.pack_group(3)
    first, second = [Integer(2), Integer(3), Integer(5)], [Integer(7), Integer(N), Integer(0)]
    lanes = range(ring.lanes)
    assert group.get(0) == [0, 0, 0]
    for lane in lanes:
        group.put(lane, first)
        expected = [first if other <= lane else [0, 0, 0] for other in lanes]
        assert [group.get(other) for other in lanes] == expected
    assert group.products_of_powers([1, 2, 0], 14) == [18] * ring.lanes
    group.put(lanes[-1], second)
    assert [group.get(lane) for lane in lanes] == [first] * (ring.lanes - 1) + [second]
    assert group.products_of_powers([1, 2, 0], 14) == [18] * (ring.lanes - 1) + [7 * N**2 % N**2]


def test_a_long_program_of_a_single_number(backend: str) -> None:
    """Every step squares what the last one made, in its place."""
    N = MODULI["random"](512)
    ring = ring_of(backend, N)
    steps = np.array([(1, 0, 0)] + [(1, 1, 1)] * 99, dtype=np.int32)
    bases = ring.enter([Integer(3)])
    out = ring.enter([Integer(0)])
    _kernel.run(backend, ring._ring, out, ring.compress(bases), ring.lanes, 0, steps)
    assert ring.leave(out, 1) == [pow(3, 1 << 100, N**2)]


@pytest.mark.parametrize("lanes", [[0], [3, 1], list(range(4)), list(range(8))])
def test_packs_that_are_loaded_together_are_those_put_one_by_one(backend: str, lanes: list[int]) -> None:
    N = MODULI["random"](512)
    ring = ring_of(backend, N)
    lanes = [lane for lane in lanes if lane < ring.lanes]
    one, other = ring.pack_group(3), ring.pack_group(3)
    for group in (one, other):
        for lane in range(ring.lanes):
            group.put(lane, [Integer(N**2 - 1 - lane), Integer(0), Integer(lane)])
    packs = {lane: [Integer(secrets.randbelow(N**2)) for _ in range(3)] for lane in lanes}
    for lane, pack in packs.items():
        one.put(lane, pack)
    other.load({lane: b"".join(int(x).to_bytes(128, "big") for x in pack) for lane, pack in packs.items()})
    assert [other.get(lane) for lane in range(ring.lanes)] == [one.get(lane) for lane in range(ring.lanes)]
    assert all(other.get(lane) == pack for lane, pack in packs.items())
