"""Secret powers and what brings numbers into the kernel and out again: equal to plain pow for every exponent."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kernel.numbers import (
    BACKENDS,
    MODULI,
    SIZES,
    Pair,
    edge_pairs,
    radix,
    ring_of,
    to_groups,
    to_pairs,
    value,
)
from veilmatch.crypto import _kernel
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.rings.native.limbs import empty
from veilmatch.crypto.rings.native.ring import NativeRing
from veilmatch.crypto.rings.reference import ReferenceRing

EXPONENTS = {
    "0": 0,
    "1": 1,
    "2": 2,
    "one window": 31,
    "second window": 32,
    "alternating windows": 0x7C1F07C1F,
    "all ones of 8 bits": (1 << 8) - 1,
    "all ones of 40 bits": (1 << 40) - 1,
    "all ones of 200 bits": (1 << 200) - 1,
    "top bit of 8": 1 << 7,
    "top bit of 40": 1 << 39,
    "top bit of 208": 1 << 207,
    "a bit in the middle": 1 << 101,
    "random of 129 bits": random.Random(1).getrandbits(129) | 1 << 128,
}


def edge_numbers(N: int) -> list[int]:
    """Residues mod N^2 that may be bases, in the order in which a group is filled."""
    chance = random.Random(N)
    return [0, 1, N - 1, N, N + 1, N**2 - 1, N**2 - N, 7 * N, N * (N - 1) + N - 1, 2, chance.randrange(N**2)]


@pytest.mark.parametrize("bits", SIZES)
@pytest.mark.parametrize("kind", MODULI)
def test_what_enters_leaves_unchanged(backend: str, bits: int, kind: str) -> None:
    N = MODULI[kind](bits)
    ring, numbers = ring_of(backend, N), edge_numbers(N)
    groups = ring.enter([Integer(x) for x in numbers])
    R = radix(ring)
    pairs = to_pairs(ring, groups, len(numbers))
    assert [value(pair, N) for pair in pairs] == [x * R % N**2 for x in numbers]
    assert max(map(max, pairs)) < 4 * N
    assert ring.leave(groups, len(numbers)) == numbers


@pytest.mark.parametrize("bits", SIZES)
@pytest.mark.parametrize("kind", MODULI)
def test_plain_numbers_of_any_digits_enter(backend: str, bits: int, kind: str) -> None:
    """All that bytes can hold, reduced or not; it leaves reduced."""
    N = MODULI[kind](bits)
    ring = ring_of(backend, N)
    room, size = ring._limbs * ring._limb_bits, ring.number_bytes
    top = (1 << 8 * size) - 1
    numbers = [top, top - 1, 1 << 8 * size - 1, (1 << room) - 1 & top, 1 << room & top, top >> room << room, N**2]
    groups = ring.enter_bytes(b"".join(x.to_bytes(size, "big") for x in numbers))
    pairs = to_pairs(ring, groups, len(numbers))
    assert [value(pair, N) for pair in pairs] == [x * radix(ring) % N**2 for x in numbers]
    assert max(map(max, pairs)) < 4 * N
    assert ring.leave_bytes(groups, len(numbers)) == b"".join((x % N**2).to_bytes(size, "big") for x in numbers)


@pytest.mark.parametrize("limbs", [10, 20, 60, 120])
def test_numbers_of_every_size_are_read_and_written(backend: str, limbs: int) -> None:
    """From one byte to all that a group has digits for, in numbers of lanes that fill a group and that do not."""
    N = (1 << limbs * ring_of(backend, 3)._limb_bits - 6) - 1
    ring = ring_of(backend, N)
    whole = 2 * limbs * ring._limb_bits // 8
    for size in sorted({1, 2, 7, 8, 9, 15, 16, 17, whole // 2, whole - 8, whole - 7, whole - 1, whole}):
        for count in (1, ring.lanes, ring.lanes + 1):
            data = random.Random(size).randbytes(size * count)
            groups = empty(ring.group_shape(-(-count // ring.lanes)))
            _kernel.enter(backend, ring._ring, groups, ring._enter_factors, size, data)
            left = bytearray(whole * count)
            _kernel.leave(backend, ring._ring, left, whole, groups)
            numbers = [int.from_bytes(data[at : at + size], "big") % N**2 for at in range(0, len(data), size)]
            assert left == b"".join(x.to_bytes(whole, "big") for x in numbers)
            cut = bytearray(size * count)
            _kernel.leave(backend, ring._ring, cut, size, groups)
            assert cut == b"".join((x % (1 << 8 * size)).to_bytes(size, "big") for x in numbers)


@pytest.mark.parametrize("bits", SIZES)
def test_unreduced_pairs_leave_reduced(backend: str, bits: int) -> None:
    N = MODULI["random"](bits)
    ring = ring_of(backend, N)
    pairs = edge_pairs(ring)
    inverse = pow(radix(ring), -1, N**2)
    assert ring.leave(to_groups(ring, pairs), len(pairs)) == [value(pair, N) * inverse % N**2 for pair in pairs]


def test_a_partial_group_enters_and_leaves(backend: str) -> None:
    N = MODULI["random"](512)
    ring = ring_of(backend, N)
    for count in range(2 * ring.lanes + 1):
        numbers = [Integer(3) ** (i + 40) % N**2 for i in range(count)]
        groups = ring.enter(numbers)
        assert len(groups) == -(-count // ring.lanes)
        assert ring.leave(groups, count) == numbers
        assert ring.powers_secret(numbers, Integer(77)) == [pow(x, 77, N**2) for x in numbers]


def test_a_number_outside_the_ring_does_not_enter(backend: str) -> None:
    N = MODULI["random"](512)
    ring = ring_of(backend, N)
    for number in (Integer(-1), Integer(N) * radix(ring)):
        with pytest.raises(OverflowError):
            ring.enter([number])


@pytest.mark.parametrize("exponent", EXPONENTS.values(), ids=EXPONENTS)
@pytest.mark.parametrize("bits", [512, 1024])
def test_powers_equal_plain_ones(backend: str, bits: int, exponent: int) -> None:
    N = MODULI["random"](bits)
    numbers = edge_numbers(N)
    powers = ring_of(backend, N).powers_secret([Integer(x) for x in numbers], Integer(exponent))
    assert powers == [pow(x, exponent, N**2) for x in numbers]


@pytest.mark.parametrize("kind", MODULI)
@pytest.mark.parametrize("bits", SIZES)
def test_powers_equal_plain_ones_for_every_modulus(backend: str, bits: int, kind: str) -> None:
    N, exponent = MODULI[kind](bits), Integer(random.Random(2).getrandbits(56))
    numbers = [Integer(x) for x in edge_numbers(N)]
    powers = ring_of(backend, N).powers_secret(numbers, exponent)
    assert powers == [pow(int(x), int(exponent), N**2) for x in numbers]
    units = [x for x in numbers if x]
    assert ReferenceRing(Integer(N)).powers_secret(units, exponent) == [
        p for p, x in zip(powers, numbers, strict=True) if x
    ]


@pytest.mark.parametrize("bits", SIZES)
def test_powers_by_an_exponent_for_each_number_equal_plain_ones(backend: str, bits: int) -> None:
    N, rng = MODULI["random"](bits), random.Random(3)
    numbers = edge_numbers(N)
    edges = [1, 2, 31, 32, 2**64 - 1, 2**69, 2**70 - 1]
    exponents = [Integer(e) for e in (*edges, *(rng.getrandbits(70) for _ in numbers[len(edges) :]))]
    ring, expected = ring_of(backend, N), [pow(x, int(e), N**2) for x, e in zip(numbers, exponents, strict=True)]
    for count in {1, ring.lanes - 1, ring.lanes, ring.lanes + 1, len(numbers)} - {0}:
        bases = [Integer(x) for x in numbers[:count]]
        assert ring.powers_secret_each(bases, exponents[:count]) == expected[:count]
    units = [(Integer(x), e) for x, e in zip(numbers, exponents, strict=True) if x]
    assert ReferenceRing(Integer(N)).powers_secret_each(*zip(*units, strict=True)) == [
        power for power, x in zip(expected, numbers, strict=True) if x
    ]
    assert ring.powers_secret_each([], []) == []


def test_exponents_that_are_not_one_for_each_number_are_refused(backend: str) -> None:
    ring = ring_of(backend, MODULI["random"](512))
    groups = ring.enter([Integer(2)] * 2 * ring.lanes)
    with pytest.raises(ValueError, match="not exponents for"):
        _kernel.power(ring.backend, ring._ring, groups, groups, True, b"\1" * (4 * ring.lanes + 1))
    with pytest.raises(ValueError, match="argument 2 is"):
        ring.powers_secret_each([Integer(2)] * 2, [Integer(1)])


@pytest.mark.parametrize("digit", [0, 1, 16, 31])
def test_every_window_of_one_digit(backend: str, digit: int) -> None:
    """The exponent is `digit` in all windows, in a length that cuts the top one."""
    N = MODULI["low word -1"](512)
    for size in (1, 4, 5, 6, 9):
        exponent = sum(digit << shift for shift in range(0, 8 * size, 5)) % (1 << 8 * size)
        assert raw_power(ring_of(backend, N), [5], exponent.to_bytes(size, "little")) == [pow(5, exponent, N**2)]


def raw_power(ring: NativeRing, numbers: list[int], exponent: bytes) -> list[Integer]:
    """Powers by an exponent that keeps its leading zeros."""
    groups = ring.enter([Integer(x) for x in numbers])
    out = empty(groups.shape)
    _kernel.power(ring.backend, ring._ring, out, groups, False, exponent)
    return ring.leave(out, len(numbers))


@pytest.mark.parametrize("exponent", [b"", b"\0", b"\0" * 9, b"\1" + b"\0" * 6, b"\xff" * 3 + b"\0" * 2])
def test_leading_zeros_change_nothing(backend: str, exponent: bytes) -> None:
    N = MODULI["random"](512)
    plain = int.from_bytes(exponent, "little")
    assert raw_power(ring_of(backend, N), [0, 1, 2, N], exponent) == [pow(x, plain, N**2) for x in (0, 1, 2, N)]


def test_powers_of_unreduced_pairs_stay_below_2N(backend: str) -> None:
    N = MODULI["random"](1024)
    ring = ring_of(backend, N)
    pairs: list[Pair] = edge_pairs(ring)[-24:]
    groups, exponent = to_groups(ring, pairs), 0x1F3A5
    _kernel.power(backend, ring._ring, groups, groups, False, exponent.to_bytes(3, "little"))  # in the operand's place
    inverse = pow(radix(ring), 1 - exponent, N**2)
    found = to_pairs(ring, groups, len(pairs))
    assert [value(pair, N) for pair in found] == [pow(value(p, N), exponent, N**2) * inverse % N**2 for p in pairs]
    assert max(map(max, found)) < 2 * N


def test_powers_of_nothing_are_nothing(backend: str) -> None:
    assert ring_of(backend, MODULI["random"](512)).powers_secret([], Integer(5)) == []


@given(st.integers(3, 1 << 560), st.integers(0, 1 << 600), st.integers(0, 1 << 70), st.integers())
@settings(max_examples=60, deadline=None)
def test_powers_equal_plain_ones_for_any_modulus(N: int, x: int, exponent: int, seed: int) -> None:
    N |= 1
    numbers = [x % N**2, random.Random(seed).randrange(N**2)]
    for name in BACKENDS:
        powers = NativeRing(Integer(N), name).powers_secret([Integer(x) for x in numbers], Integer(exponent))
        assert powers == [pow(x, exponent, N**2) for x in numbers]
