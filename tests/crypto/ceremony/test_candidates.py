"""Shared candidates: their range, residues and summands; trial division as plain division has it."""

from __future__ import annotations

import random

import numpy as np
import pytest

from tests.crypto.ceremony.table import combined, play, seats
from veilmatch.crypto.arithmetic import Integer, gcd
from veilmatch.crypto.ceremony.inversion import random_units
from veilmatch.crypto.ceremony.seats import Stream
from veilmatch.crypto.ceremony.shared import Shared
from veilmatch.crypto.ceremony.sieve import Range, Sieve, lifted, product_summand, summand, summand_of_two
from veilmatch.crypto.ceremony.trial_division import without_small_factors
from veilmatch.crypto.ceremony.two.fermat import ALL_ROLES
from veilmatch.crypto.errors import ParameterError
from veilmatch.crypto.keys.parties import PARTIES, Party

LOW, HIGH = Integer(3) << 126, Integer(1) << 128


def candidates(count: int = 100) -> tuple[Sieve, list[int], list[int], dict[Party, Shared]]:
    """A sieve, the units, and the candidates in clear and shared."""
    sieve = Sieve.of(60, 5000)
    units = play(lambda seat: random_units(seat, count, sieve.modulus)).of_all()
    within, at = Range.between(LOW, HIGH, sieve.modulus), seats()
    shared = {p: lifted(at[p], units[i], within) for i, p in enumerate(PARTIES)}
    return sieve, combined(units), combined(shared), shared


def test_a_sieve_is_made_of_all_odd_primes_up_to_its_bound() -> None:
    sieve = Sieve.of(12, 40)
    assert sieve.constructed == (3, 5, 7, 11) and sieve.modulus == 1155
    assert sieve.tested == (13, 17, 19, 23, 29, 31, 37)
    assert len(Sieve.of(206, 1 << 12).constructed) == 36 and Sieve.of(206, 1 << 12).constructed[-1] == 157
    with pytest.raises(ParameterError):
        Sieve.of(12, 1 << 17)


def test_candidates_are_odd_of_their_range_and_have_their_residues() -> None:
    sieve, units, numbers, shared = candidates()
    assert all(x % 2 == 1 and LOW <= x < HIGH for x in numbers)
    assert [x % sieve.modulus for x in numbers] == units
    assert all(gcd(Integer(x), sieve.modulus) == 1 for x in numbers)
    assert [shared[p].ahead[0] % 2 for p in PARTIES] == [0, 1, 0] and all(min(shared[p].ahead) >= 0 for p in PARTIES)


def test_candidates_fill_their_range() -> None:
    _, _, numbers, _ = candidates(600)
    positions = [float((x - LOW) / (HIGH - LOW)) for x in numbers]
    # The sum of three uniform numbers: mean 1/2, deviation 1/6.
    assert abs(np.mean(positions) - 0.5) < 0.04 and abs(np.std(positions) - 1 / 6) < 0.03


def test_a_range_without_room_is_refused() -> None:
    with pytest.raises(ParameterError, match="no room"):
        Range.between(LOW, HIGH, Integer(1) << 100 | 1)


def test_summands_add_up_and_are_known_to_one_party_each() -> None:
    _, _, numbers, shared = candidates(20)
    assert [1 + 2 * sum(row) for row in zip(*(summand(shared[p]) for p in PARTIES), strict=True)] == numbers
    for first, second, dealer in ALL_ROLES:
        parts = [summand_of_two(shared[p], first, second) for p in (first, second)]
        assert [1 + 2 * sum(row) for row in zip(*parts, strict=True)] == numbers
        assert summand_of_two(shared[dealer], first, second) == []
    _, _, others, other = candidates(20)
    products = [sum(row) for row in zip(*(product_summand(shared[p], other[p]) for p in PARTIES), strict=True)]
    assert products == [x * y for x, y in zip(numbers, others, strict=True)]


def divided(numbers: list[int], primes: tuple[int, ...]) -> list[list[bool]]:
    """What the three say of these odd numbers."""
    halves = [(x - 1) // 2 for x in numbers]
    a, b = ([random.randrange(h // 2 + 1) for h in halves] for _ in range(2))
    own = {"a": a, "b": b, "c": [h - x - y for h, x, y in zip(halves, a, b, strict=True)]}
    return play(lambda seat: without_small_factors(seat, list(map(Integer, own[seat.party])), primes)).of_all()


@pytest.mark.parametrize("primes", [(3,), (3, 5, 7), (65521,), Sieve.of(2, 1 << 16).tested])
def test_trial_division_finds_what_plain_division_finds(primes: tuple[int, ...]) -> None:
    largest = primes[-1]
    numbers = [random.randrange(1 << 400) | 1 for _ in range(20)]
    numbers += [largest * (random.randrange(1 << 400) | 1), largest, 1, primes[0] * largest]
    expected = [all(x % r for r in primes) for x in numbers]
    assert divided(numbers, primes) == [expected] * 3
    assert not all(expected) and any(expected)


def test_every_small_odd_number_is_divided_rightly() -> None:
    numbers = list(range(1, 3000, 2))
    assert divided(numbers, (3, 5, 7, 11, 13))[0] == [all(x % r for r in (3, 5, 7, 11, 13)) for x in numbers]


def test_candidates_pass_and_fail_trial_division_as_they_should() -> None:
    sieve, _, numbers, shared = candidates()
    kept = play(lambda seat: without_small_factors(seat, summand(shared[seat.party]), sieve.tested)).of_all()
    assert kept == [[all(x % r for r in sieve.tested) for x in numbers]] * 3


def test_residues_of_a_stream_are_uniform() -> None:
    r = np.array([2, 3, 65521], dtype=np.uint64)
    drawn = Stream(bytes(32)).residues(30_000, r)
    for column, modulus in zip(drawn.T, (2, 3, 65521), strict=True):
        cells = np.bincount((column * np.uint64(min(modulus, 50)) // np.uint64(modulus)).astype(int))
        expected = 30_000 / len(cells)
        assert ((cells - expected) ** 2 / expected).sum() < len(cells) + 6 * (2 * len(cells)) ** 0.5
        assert int(column.max()) < modulus
    assert Stream(bytes(32)).residues(1, np.array([1], dtype=np.uint64)).tolist() == [[0]]


def test_residues_of_a_stream_are_those_of_its_words() -> None:
    data = Stream(bytes(32)).octets(24 * 2 * 2)
    words = [int.from_bytes(data[i : i + 8], "little") for i in range(0, len(data), 8)]
    r = [65521, 7]
    expected = [
        [(words[2 * i + j] * 2**128 + words[4 + 2 * i + j] * 2**64 + words[8 + 2 * i + j]) % r[j] for j in range(2)]
        for i in range(2)
    ]
    assert Stream(bytes(32)).residues(2, np.array(r, dtype=np.uint64)).tolist() == expected
