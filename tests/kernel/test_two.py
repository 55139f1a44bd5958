"""Secret powers of one or two numbers with their parts side by side: the numbers that a whole group gives."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
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
    tightest_modulus,
    to_groups,
    to_pairs,
    value,
)
from veilmatch.crypto import _kernel
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.rings.native.groups import Groups
from veilmatch.crypto.rings.native.limbs import empty, empty_bytes
from veilmatch.crypto.rings.native.ring import NativeRing

pytestmark = pytest.mark.skipif("ifma4" not in BACKENDS, reason="this processor has no AVX-512 IFMA")


def raised(ring: NativeRing, pairs: list[Pair], exponents: list[int], size: int) -> list[Pair]:
    """Powers of the first two of a group of four; an exponent for each."""
    group = to_groups(ring, pairs)
    data = b"".join(e.to_bytes(size, "little") for e in exponents)
    _kernel.power_of_two("ifma4", ring._ring, group, group, True, data)
    found = to_pairs(ring, group, 4)
    assert found[2:] == [(0, 0), (0, 0)]
    return found[:2]


def assert_powers(ring: NativeRing, found: list[Pair], pairs: list[Pair], exponents: list[int]) -> None:
    N, R = int(ring.modulus), radix(ring)
    for result, pair, exponent in zip(found, pairs, exponents, strict=False):
        assert max(result) < 2 * N, f"{pair} to the {exponent} is not below 2N"
        assert value(result, N) == pow(value(pair, N), exponent, N**2) * pow(R, 1 - exponent, N**2) % N**2


@pytest.mark.parametrize("bits", SIZES)
@pytest.mark.parametrize("kind", [*MODULI, "tightest"])
def test_powers_of_edges_are_right_and_below_2N(bits: int, kind: str) -> None:
    """Unreduced ones up to 4N - 1, in both places, by exponents whose windows are products, squares and both."""
    ring = ring_of("ifma4", tightest_modulus("ifma4", bits) if kind == "tightest" else MODULI[kind](bits))
    pairs = edge_pairs(ring)
    others = random.Random(bits).sample(pairs, len(pairs))
    for at, (one, other) in enumerate(zip(pairs, others, strict=True)):
        exponents = [(1, 2, 3, 31, 0x7FF, 0x8421)[at % 6], (2, 1, 5, 0, 0xFFFF, 32)[at % 6]]
        four = [one, other, one, other]
        assert_powers(ring, raised(ring, four, exponents, 2), four, exponents)


@pytest.mark.parametrize("limbs", [10, 20, 30, 120])
def test_rings_of_few_and_of_the_most_limbs(limbs: int) -> None:
    ring = ring_of("ifma4", (1 << limbs * 52 - 6) - 1)
    assert ring._limbs == limbs
    for one, other in zip(edge_pairs(ring)[-20:], edge_pairs(ring)[:20], strict=True):
        assert_powers(ring, raised(ring, [one, other] * 2, [0x1234, 0xFEDC], 2), [one, other], [0x1234, 0xFEDC])


@given(st.integers(3, 1 << 560), st.integers(0, 1 << 1200), st.integers(0, 1 << 90), st.integers(0, 1 << 90))
@settings(max_examples=100, deadline=None)
def test_powers_equal_plain_ones_for_any_modulus(N: int, x: int, one: int, other: int) -> None:
    N |= 1
    ring, bases = NativeRing(Integer(N), "ifma4", two="ifma4"), [x % N**2, (x * x + 1) % N**2]
    found = ring.powers_secret_each([Integer(x) for x in bases], [Integer(one), Integer(other)])
    assert found == [pow(x, e, N**2) for x, e in zip(bases, (one, other), strict=True)]
    assert ring.powers_secret([Integer(x) for x in bases], Integer(one)) == [pow(x, one, N**2) for x in bases]


@pytest.mark.parametrize("digit", [0, 1, 16, 31])
def test_every_window_of_one_digit(digit: int) -> None:
    N = MODULI["low word -1"](512)
    ring = ring_of("ifma4", N)
    for size in (0, 1, 4, 5, 6, 9):
        exponent = sum(digit << shift for shift in range(0, 8 * size, 5)) % (1 << 8 * size)
        group = ring.enter([Integer(5), Integer(N + 2)])
        data = exponent.to_bytes(size, "little")
        _kernel.power_of_two("ifma4", ring._ring, group, group, False, data)
        assert ring.leave(group, 4) == [pow(5, exponent, N**2), pow(N + 2, exponent, N**2), 0, 0]


@pytest.mark.parametrize("backend", ["ifma", "ifma4"])
@pytest.mark.parametrize("few", ["ifma4", None])
@pytest.mark.parametrize("count", range(12))
def test_one_or_two_that_are_left_are_raised_so(
    count: int, few: str | None, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    N = MODULI["random"](512)
    ring = NativeRing(Integer(N), backend, few if backend == "ifma" else None, "ifma4")
    raised_so, original = [], Groups.power_of_two

    def counted(on: Groups, *given: Any, **named: Any) -> Any:
        raised_so.append(on.backend)
        return original(on, *given, **named)

    monkeypatch.setattr(Groups, "power_of_two", counted)
    bases, exponents = [Integer(3 + i * N) for i in range(count)], [Integer(7 << 9 * i) for i in range(count)]
    assert ring.powers_secret(bases, Integer(77)) == [pow(int(x), 77, N**2) for x in bases]
    expected = [pow(int(x), int(e), N**2) for x, e in zip(bases, exponents, strict=True)]
    assert ring.powers_secret_each(bases, exponents) == expected
    assert raised_so == ["ifma4"] * (2 if count % ring.lanes in (1, 2) else 0)


def test_arguments_that_do_not_fit_are_refused() -> None:
    ring = ring_of("ifma4", MODULI["random"](512))
    one, two = ring.enter([Integer(2)] * 4), ring.enter([Integer(2)] * 8)
    moved = empty_bytes(one.nbytes + 64)[8 : 8 + one.nbytes].view(np.uint64).reshape(one.shape)
    sound = ("ifma4", ring._ring, one, one, True, b"\3\1")
    _kernel.power_of_two(*sound)
    for at, wrong in [
        *((0, name) for name in ("ifma", "avx2", "", "ifma5")),
        *((2, array) for array in (two, moved, empty((0,)), one[0, 0])),
        *((3, array) for array in (two, moved, empty((0,)), one[0, 0])),
        *((5, data) for data in (b"\1", b"\1\2\3")),
        *((1, words) for words in (ring._ring[:-1], ring._ring[:0], np.ones(3 * 130 + 1, dtype=np.uint64))),
    ]:
        with pytest.raises(ValueError):
            _kernel.power_of_two(*sound[:at], wrong, *sound[at + 1 :])
    for unsound in (sound[:-1], (*sound, b""), ()):
        with pytest.raises(TypeError):
            _kernel.power_of_two(*unsound)
