"""Arithmetic of two parties with a dealer, and Fermat's test, against plain arithmetic."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache
from typing import Any

import gmpy2
import pytest

from tests.crypto.ceremony.table import Played, play, seats
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.ceremony.rounds import Steps
from veilmatch.crypto.ceremony.seats import Seat
from veilmatch.crypto.ceremony.two import fermat
from veilmatch.crypto.ceremony.two.checking import CheckedComputation
from veilmatch.crypto.ceremony.two.computation import Computation, Operand, Part, Roles
from veilmatch.crypto.ceremony.two.fermat import ALL_ROLES, FermatTest, passing, passing_checked, passing_in_turn
from veilmatch.crypto.ceremony.two.field import MERSENNE, Field
from veilmatch.crypto.ceremony.two.zeros import any_zero
from veilmatch.crypto.errors import DealtStockError, ParameterError
from veilmatch.crypto.keys.parties import PARTIES, Party

F521 = Field(521)
ROLES = pytest.mark.parametrize("roles", ALL_ROLES)


def split(values: list[int], field: Field, roles: Roles) -> dict[Party, Part]:
    """Shares of numbers."""
    F = int(field.prime)
    first = [random.randrange(F) for _ in values]
    second = [(v - x) % F for v, x in zip(values, first, strict=True)]
    return {roles[0]: list(map(Integer, first)), roles[1]: list(map(Integer, second)), roles[2]: []}


def total(results: list[Any], field: Field, roles: Roles) -> list[int]:
    """What three results are shares of; the dealer has none."""
    by_party = dict(zip(PARTIES, results, strict=True))
    assert by_party[roles[2]] == []
    return [int((x + y) % field.prime) for x, y in zip(by_party[roles[0]], by_party[roles[1]], strict=True)]


def computed(
    roles: Roles, step: Callable[[Computation, dict[str, Part]], Steps[Any]], field: Field = F521, **numbers: list[int]
) -> Played:
    """Run a step of a computation at all three."""
    parts = {name: split(values, field, roles) for name, values in numbers.items()}
    count = len(next(iter(numbers.values())))
    return play(
        lambda seat: step(Computation(seat, field, roles, count), {n: part[seat.party] for n, part in parts.items()})
    )


@pytest.mark.parametrize("bits", MERSENNE)
def test_fields_are_prime_and_reduce(bits: int) -> None:
    field = Field(bits)
    F = int(field.prime)
    if bits < 2300:
        assert gmpy2.is_prime(F)
    for x in (0, 1, F - 1, F, F + 1, -1, -F, -F - 1, (F - 1) ** 2, -((F - 1) ** 2), random.randrange(-(F**3), F**3)):
        assert field.reduce(Integer(x)) == x % F
    assert Field.holding(bits - 1) == field


def test_there_is_no_field_for_too_many_bits() -> None:
    with pytest.raises(ParameterError):
        Field.holding(MERSENNE[-1])


@ROLES
def test_products_and_squares(roles: Roles) -> None:
    x, y, small = ([random.getrandbits(bits) for _ in range(6)] for bits in (200, 200, 20))

    def steps(at: Computation, of: dict[str, Part]) -> Steps[list[Part]]:
        y = yield from at.operand(of["y"])
        first, x = yield from at.times_and_operand(of["x"], y)
        return [
            first,
            (yield from at.times(of["y"], x)),
            (yield from at.square(of["x"])),
            (yield from at.square_times(of["x"], (yield from at.operand(of["small"])))),
            at.minus(of["x"], of["y"]),
            at.scaled(of["x"], 3),
            at.public(5),
        ]

    F = int(F521.prime)
    results = computed(roles, steps, x=x, y=y, small=small).of_all()
    found = [total([r[k] for r in results], F521, roles) for k in range(7)]
    assert found[0] == found[1] == [u * v for u, v in zip(x, y, strict=True)]
    assert found[2] == [u * u for u in x]
    assert found[3] == [u * u * v for u, v in zip(x, small, strict=True)]
    assert found[4] == [(u - v) % F for u, v in zip(x, y, strict=True)]
    assert found[5] == [3 * u for u in x] and found[6] == [5] * 6


@ROLES
def test_products_of_what_each_party_knows(roles: Roles) -> None:
    numbers = {p: [random.getrandbits(150) for _ in range(5)] for p in PARTIES}

    def three(seat: Seat) -> Steps[Part]:
        return Computation(seat, F521, roles, 5).product_of_three(list(map(Integer, numbers[seat.party])))

    def two(seat: Seat) -> Steps[Part]:
        mine = [] if seat.party == roles[2] else list(map(Integer, numbers[seat.party]))
        return Computation(seat, F521, roles, 5).product_of_two(mine)

    of = [numbers[p] for p in roles]
    played = play(three)
    assert total(played.of_all(), F521, roles) == [x * y * z for x, y, z in zip(*of, strict=True)]
    assert played.rounds == 1
    played = play(two)
    assert total(played.of_all(), F521, roles) == [x * y for x, y, _ in zip(*of, strict=True)]
    assert played.rounds == 1


@ROLES
def test_a_cut_number_is_rounded_down_or_one_more(roles: Roles) -> None:
    x = [random.getrandbits(300) for _ in range(300)] + [0, 1, 2**100 - 1, 2**100]
    parts, at = split(x, F521, roles), seats()
    cut = [Computation(at[p], F521, roles, len(x)).truncate(parts[p], 100) for p in PARTIES]
    off = [found - (u >> 100) for found, u in zip(total(cut, F521, roles), x, strict=True)]
    assert set(off) == {0, 1}


def test_a_number_near_the_size_of_the_field_is_cut_wrongly_as_often_as_said() -> None:
    field, roles, bits = Field(61), ALL_ROLES[0], 58
    x = [2**bits - 1] * 4000
    parts, at = split(x, field, roles), seats()
    cut = [Computation(at[p], field, roles, len(x)).truncate(parts[p], 10) for p in PARTIES]
    wrong = sum(found - (u >> 10) not in (0, 1) for found, u in zip(total(cut, field, roles), x, strict=True))
    expected = 4000 * 2 ** (bits - 61)
    assert abs(wrong - expected) < 6 * expected**0.5


@ROLES
def test_a_row_with_a_zero_is_found(roles: Roles) -> None:
    columns = {"x": [0, 5, 7, 9, 0], "y": [3, 0, 1, 2, 0], "z": [1, 1, 0, 2**520, 3]}
    played = computed(roles, lambda at, of: any_zero(at, list(of.values())), **columns)
    assert played.of_all() == [[True, True, True, False, True]] * 3 and played.rounds == 2


@ROLES
def test_a_pair_finds_a_zero_without_a_referee(roles: Roles) -> None:
    columns = {"x": [0, 5, 7, 9], "y": [3, 0, 1, 2], "z": [1, 1, 0, 2**520]}
    parts = {name: split(values, F521, roles) for name, values in columns.items()}
    played = play(
        lambda seat: CheckedComputation(seat, F521, roles, 4).any_zero([part[seat.party] for part in parts.values()])
    )
    assert dict(zip(PARTIES, played.of_all(), strict=True)) == {
        roles[0]: [True, True, True, False], roles[1]: [True, True, True, False], roles[2]: [],
    }  # fmt: skip


# -- a dealer that deals something else --------------------------------------------------------------------


class WrongDealer(CheckedComputation):
    """Adds one to one of the numbers that it deals, in the order of dealing."""

    wrong = 0
    dealt_so_far = 0

    def deal(self, count: int, values: Callable[[], list[Integer]]) -> Steps[Part]:
        number, self.dealt_so_far = self.dealt_so_far, self.dealt_so_far + 1

        def altered() -> list[Integer]:
            honest = values()
            if number == self.wrong:
                honest[-1] = self.field.reduce(honest[-1] + 1)
            return honest

        return (yield from super().deal(count, altered))


def everything(at: CheckedComputation, of: Part, mine: list[Integer]) -> Steps[None]:
    x = yield from at.operand(of)
    y = yield from at.operand((yield from at.product_of_two(mine)))
    yield from at.times(of, x)
    yield from at.square(of)
    yield from at.square_times(of, y)
    yield from at.check_dealt()


@pytest.mark.parametrize("wrong", range(8))
@ROLES
def test_whatever_was_dealt_wrongly_is_found_by_both(roles: Roles, wrong: int) -> None:
    of = split([1, 2, 3], F521, roles)

    def steps(seat: Seat) -> Steps[None]:
        at = (WrongDealer if seat.party == roles[2] else CheckedComputation)(seat, F521, roles, 3)
        at.wrong = wrong  # type: ignore[attr-defined]
        return everything(at, of[seat.party], [] if seat.party == roles[2] else [Integer(5)] * 3)

    errors = play(steps).errors
    if wrong == 7:  # there are seven: product, product, square, three of the square by an operand, one to give up
        assert not errors
    else:
        expected = (DealtStockError, f"keyholder-{roles[2]}")
        assert {p: (type(e), e.party) for p, e in errors.items()} == dict.fromkeys(roles[:2], expected)


# -- Fermat's test ---------------------------------------------------------------------------------------------

SIZE = 21


@cache
def numbers() -> list[int]:
    """Primes, composites, and all that Fermat's test with base 2 lets pass."""
    found = [m for m in range((1 << 20) + 1, 1 << 21, 2) if pow(2, m - 1, m) == 1 and not gmpy2.is_prime(m)][:6]
    found += [int(gmpy2.next_prime(random.randrange(1 << 20, (1 << 21) - 200))) for _ in range(6)]
    return found + [random.randrange(1 << 20, 1 << 21) | 1 for _ in range(20)] + [(1 << 20) | 1, (1 << 21) - 1]


def summands(values: list[int], parties: tuple[Party, ...]) -> dict[Party, list[Integer]]:
    """Non-negative numbers of each party that sum up to (m - 1)/2."""
    rest = [(m - 1) // 2 for m in values]
    own: dict[Party, list[Integer]] = {p: [] for p in PARTIES}
    for party in parties[1:]:
        own[party] = [Integer(random.randrange(r + 1)) for r in rest]
        rest = [r - int(x) for r, x in zip(rest, own[party], strict=True)]
    own[parties[0]] = list(map(Integer, rest))
    return own


@ROLES
@pytest.mark.parametrize(("window", "base"), [(1, 5), (2, 2), (3, 2)])
def test_fermats_test_says_what_it_says_in_clear(roles: Roles, window: int, base: int) -> None:
    test, own = FermatTest(SIZE, window, base), summands(numbers(), PARTIES)
    bases = [base] * len(numbers())
    played = play(lambda seat: passing(seat, test, roles, own[seat.party], bases))
    assert played.of_all() == [[pow(base, m - 1, m) == 1 for m in numbers()]] * 3


@ROLES
def test_a_pair_tests_alone(roles: Roles) -> None:
    test, own = FermatTest(SIZE, 1, 7), summands(numbers(), roles[:2])
    bases = [(2, 3, 5, 7)[k % 4] for k in range(len(numbers()))]
    results = play(lambda seat: passing_checked(seat, test, roles, own[seat.party], bases)).of_all()
    expected = [pow(b, m - 1, m) == 1 for b, m in zip(bases, numbers(), strict=True)]
    assert dict(zip(PARTIES, results, strict=True)) == {roles[0]: expected, roles[1]: expected, roles[2]: []}


@pytest.mark.parametrize("count", [1, 2, 3, 10])
def test_a_batch_is_tested_by_thirds(count: int) -> None:
    values = numbers()[4 : 4 + count]
    own = summands(values, PARTIES)
    played = play(lambda seat: passing_in_turn(seat, FermatTest(SIZE), own[seat.party]))
    assert played.of_all() == [[pow(2, m - 1, m) == 1 for m in values]] * 3


@pytest.mark.parametrize(("bits", "window"), [(64, 2), (256, 2), (1536, 3)])
def test_the_reciprocal_is_close_enough(bits: int, window: int) -> None:
    test, roles = FermatTest(bits, window), ALL_ROLES[1]
    values = [1 << (bits - 1) | 1, (1 << bits) - 1] + [
        random.getrandbits(bits) | 1 << (bits - 1) | 1 for _ in range(20)
    ]
    parts = split(values, test.field, roles)

    def steps(seat: Seat) -> Steps[tuple[Operand, Part]]:
        return fermat._reciprocal(Computation(seat, test.field, roles, len(values)), test, parts[seat.party])

    found = total([part for _, part in play(steps).of_all()], test.field, roles)
    off = [x - (1 << test.reciprocal_bits) // m for x, m in zip(found, values, strict=True)]
    assert max(map(abs, off)) <= 8


@pytest.mark.parametrize(("bits", "window", "field"), [(256, 2, 607), (512, 2, 1279), (1024, 2, 2203), (1536, 3, 3217)])
def test_fields_have_their_sizes(bits: int, window: int, field: int) -> None:
    assert FermatTest(bits, window).field.bits == field
