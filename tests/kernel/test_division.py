"""Quotients of many numbers at once: the same on every backend, and none of what is no unit."""

from __future__ import annotations

import math
import random

import pytest

from tests.kernel.numbers import MODULI, ring_of
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.rings.native.ring import NativeRing
from veilmatch.crypto.rings.reference import ReferenceRing

BITS = 512
#: With a factor that it shares with others.
N = 3 * MODULI["random"](BITS - 2) | 1


def units(modulus: int, count: int, seed: int) -> list[int]:
    chance, found = random.Random(seed), [1, modulus**2 - 1, modulus + 1, 2, modulus**2 - modulus + 1]
    found += [chance.randrange(modulus**2) for _ in range(20 * count)]
    return [x for x in found if math.gcd(x, modulus) == 1][:count]


def joined(numbers: list[int], size: int) -> bytes:
    return b"".join(x.to_bytes(size, "big") for x in numbers)


@pytest.fixture(params=["random", "all ones"])
def modulus(request: pytest.FixtureRequest) -> int:
    return MODULI[request.param](BITS)


@pytest.mark.parametrize("count", [1, 3, 4, 5, 8, 9, 33])
def test_quotients_are_those_of_integers(backend: str, modulus: int, count: int) -> None:
    a, b, factor = units(modulus, count, 1), units(modulus, count, 2)[::-1], modulus * 77 + 1
    expected = [x * pow(y, -1, modulus**2) * factor % modulus**2 for x, y in zip(a, b, strict=True)]
    size = ring_of(backend, modulus).number_bytes
    for ring in (ring_of(backend, modulus), ReferenceRing(Integer(modulus))):
        assert ring.quotients(joined(a, size), joined(b, size), Integer(factor)) == joined(expected, size)


@pytest.mark.parametrize("at", [0, 3, 8, 9])
@pytest.mark.parametrize("number", [0, 3, N, 3 * 7, N**2 - 3, N * 5])
@pytest.mark.parametrize("of", ["dividends", "divisors"])
def test_a_number_that_shares_a_factor_is_refused(backend: str, of: str, number: int, at: int) -> None:
    assert math.gcd(number, N) > 1
    ring = NativeRing(Integer(N), backend)
    both = {"dividends": units(N, 10, 1), "divisors": units(N, 10, 2)}
    ring.quotients(*(joined(x, ring.number_bytes) for x in both.values()), Integer(1))
    both[of][at] = number
    for one in (ring, ReferenceRing(Integer(N))):
        with pytest.raises(ZeroDivisionError):
            one.quotients(*(joined(x, ring.number_bytes) for x in both.values()), Integer(1))
