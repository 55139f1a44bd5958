"""Replicated numbers, coins and inverses, against plain arithmetic."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import gmpy2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.crypto.ceremony.table import combined, dealt, of_parts, play, seats
from veilmatch.crypto.arithmetic import Integer, gcd
from veilmatch.crypto.ceremony.coins import coin, committed, public_residues
from veilmatch.crypto.ceremony.inversion import inverses, random_units
from veilmatch.crypto.ceremony.replicated import multiply, open_to, open_to_all, random_numbers, share
from veilmatch.crypto.ceremony.rounds import Round, Steps, both, packed, together, unpacked
from veilmatch.crypto.ceremony.seats import Seat
from veilmatch.crypto.ceremony.shared import Shared, joined, known_to_two, local_products
from veilmatch.crypto.errors import IntegrityError, ProtocolError
from veilmatch.crypto.keys.parties import PARTIES, Party

MODULI = (2, 3, 35, 2**61 - 1, 2**200)
NUMBERS = st.integers(min_value=0, max_value=2**210)


@pytest.fixture(params=MODULI)
def m(request: pytest.FixtureRequest) -> int:
    modulus: int = request.param
    return modulus


def values(m: int, count: int = 5) -> list[int]:
    return [random.randrange(m) for _ in range(count)]


def steps_of(function: Callable[..., Steps[Any]], *shared: dict[Party, Shared]) -> Callable[[Seat], Steps[Any]]:
    return lambda seat: function(seat, *(x[seat.party] for x in shared))


def test_products_and_openings_are_right(m: int) -> None:
    x, y = values(m), values(m)
    X, Y = dealt(x, m), dealt(y, m)
    played = play(steps_of(multiply, X, Y))
    assert combined(played.of_all()) == [u * v % m for u, v in zip(x, y, strict=True)] and played.rounds == 1
    for receiver in PARTIES:
        played = play(lambda seat, r=receiver: open_to(seat, X[seat.party].plus(Y[seat.party]), r))
        expected = [(u + v) % m for u, v in zip(x, y, strict=True)]
        assert played.of_all() == [expected if party == receiver else [] for party in PARTIES] and played.rounds == 1
    assert play(steps_of(open_to_all, X)).of_all() == [x, x, x]


def test_what_one_party_knows_can_be_shared(m: int) -> None:
    x = values(m)
    for owner in PARTIES:
        played = play(
            lambda seat, o=owner: share(seat, o, list(map(Integer, x)) if seat.party == o else [], len(x), Integer(m))
        )
        assert combined(played.of_all()) == x and played.rounds == 1


def test_what_two_parties_know_is_shared_already(m: int) -> None:
    x = list(map(Integer, values(m)))
    for holder, third in zip(PARTIES, ("c", "a", "b"), strict=True):
        parts = [known_to_two(p, holder, () if p == third else x, len(x), Integer(m)) for p in PARTIES]
        assert combined(parts) == x


def test_random_numbers_are_the_same_at_both_who_have_them_and_fresh(m: int) -> None:
    at = seats()
    first, second = ({p: random_numbers(at[p].named(name), 40, Integer(m)) for p in PARTIES} for name in ("x", "y"))
    assert combined(first) != combined(second)


@given(st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS), min_size=1, max_size=4))
@settings(max_examples=30, deadline=None)
def test_local_products_sum_up_to_the_product_of_integers(rows: list[tuple[int, ...]]) -> None:
    columns = list(zip(*rows, strict=True))
    x, y = (of_parts(dict(zip(PARTIES, map(list, part), strict=True)), None) for part in (columns[:3], columns[3:]))
    parts = [local_products(x[p], y[p]) for p in PARTIES]
    assert all(e >= 0 for part in parts for e in part)
    products = [sum(row) for row in zip(*parts, strict=True)]
    assert products == [sum(row[:3]) * sum(row[3:]) for row in rows]


@given(st.integers(min_value=2, max_value=10**40), st.integers(), st.integers(), st.integers())
@settings(max_examples=50, deadline=None)
def test_sums_and_public_factors_are_linear(m: int, x: int, y: int, f: int) -> None:
    X, Y = dealt([x % m, y % m], m), dealt([y % m, 1 % m], m)
    assert combined({p: X[p].plus(Y[p]) for p in PARTIES}) == [(x + y) % m, (y + 1) % m]
    assert combined({p: X[p].times(f) for p in PARTIES}) == [x * f % m, y * f % m]
    assert combined({p: X[p].plus_public(f) for p in PARTIES}) == [(x + f) % m, (y + f) % m]
    assert combined({p: X[p].take([1, 0, 1]) for p in PARTIES}) == [y % m, x % m, y % m]
    assert combined({p: joined([X[p], Y[p]]) for p in PARTIES}) == [x % m, y % m, y % m, 1 % m]


def test_shared_integers_become_residues_and_residues_do_not_become_others() -> None:
    x = of_parts({"a": [10**30], "b": [7], "c": [10**20]}, None)
    assert combined({p: x[p].modulo(Integer(101)) for p in PARTIES}) == [(10**30 + 7 + 10**20) % 101]
    with pytest.raises(ValueError, match="one number"):
        x["a"].modulo(Integer(101)).modulo(Integer(103))
    with pytest.raises(ValueError, match="different numbers"):
        x["a"].plus(x["a"].modulo(Integer(101)))


@pytest.mark.parametrize("modulus", [3, 15, 101, 3 * 5 * 7 * 11 * 13])
def test_units_and_inverses(modulus: int) -> None:
    M = Integer(modulus)
    units = play(lambda seat: random_units(seat, 30, M)).of_all()
    numbers = combined(units)
    assert all(gcd(Integer(u), M) == 1 for u in numbers)
    masks = play(lambda seat: random_units(seat, 30, M)).of_all()
    played = play(lambda seat: inverses(seat, units[PARTIES.index(seat.party)], masks[PARTIES.index(seat.party)]))
    assert [u * v % modulus for u, v in zip(numbers, combined(played.of_all()), strict=True)] == [1] * 30
    assert played.rounds == 2


def test_a_number_without_an_inverse_is_refused_by_all() -> None:
    x, masks = dealt([1, 3], 15), dealt([1, 2], 15)
    played = play(steps_of(inverses, x, masks))
    assert set(played.errors) == set(PARTIES) and all(type(e) is IntegrityError for e in played.errors.values())


def test_a_share_that_its_second_holder_does_not_have_is_refused() -> None:
    x = dealt(values(101), 101)
    for liar in PARTIES:
        for receiver in PARTIES:
            if liar == receiver:
                continue
            wrong = Shared(liar, [u + 1 for u in x[liar].behind], [u + 1 for u in x[liar].ahead], x[liar].modulus)
            played = play(
                lambda seat, r=receiver, w=wrong: open_to(seat, w if seat.party == w.party else x[seat.party], r)
            )
            assert list(played.errors) == [receiver] and isinstance(played.errors[receiver], ProtocolError)


# -- coins ---------------------------------------------------------------------------------------------------


def test_a_coin_is_the_same_at_all_and_another_one_each_time() -> None:
    at = seats()
    first, second = (play(lambda seat, n=name: coin(seat.named(n)), at) for name in ("one", "two"))
    assert len(set(first.of_all())) == 1 and first.of_all() != second.of_all() and first.rounds == 2


def test_values_are_committed_to_between_two_without_the_third() -> None:
    played = play(lambda seat: committed(seat, ("a", "c"), b"" if seat.party == "b" else seat.party.encode()))
    assert played.of_all() == [{"a": b"a", "c": b"c"}, {}, {"a": b"a", "c": b"c"}]
    assert not any(received.sent or received.told for received in played.received["b"])


def test_who_shows_another_value_than_it_committed_to_is_named() -> None:
    def liar(seat: Seat) -> Steps[Any]:
        steps = committed(seat, PARTIES, b"chosen")
        if seat.party != "c":
            return (yield from steps)
        shown = steps.send((yield next(steps)))
        yield Round(told=shown.told[:-1] + b"!", heard=shown.heard)

    played = play(liar)
    assert {p: e.party for p, e in played.errors.items()} == {"a": "keyholder-c", "b": "keyholder-c"}


def test_public_residues_have_jacobi_symbol_1_and_follow_from_the_seed() -> None:
    N = Integer(gmpy2.next_prime(2**100) * gmpy2.next_prime(2**101))
    found = public_residues(b"seed", 50, N)
    assert found == public_residues(b"seed", 50, N) and len(set(found)) == 50
    assert all(gmpy2.jacobi(x, N) == 1 and 0 < x < N for x in found)


# -- rounds --------------------------------------------------------------------------------------------------


def test_steps_of_different_lengths_run_side_by_side() -> None:
    def chain(seat: Seat, x: Shared, length: int) -> Steps[Shared]:
        for k in range(length):
            x = yield from multiply(seat.named(k), x, x)
        return x

    x = dealt([3], 2**40)
    lengths = [2, 0, 3, 1]
    played = play(lambda seat: together([chain(seat.named(i), x[seat.party], n) for i, n in enumerate(lengths)]))
    results = played.of_all()
    assert played.rounds == 3
    assert [combined([r[i] for r in results])[0] for i in range(4)] == [3 ** (2**n) for n in lengths]
    played = play(lambda seat: both(chain(seat.named("x"), x[seat.party], 1), coin(seat.named("y"))))
    assert played.rounds == 2 and combined([r[0] for r in played.of_all()]) == [9]


def test_common_randomness_is_used_once() -> None:
    at = seats()["a"]
    at.common("b", "x"), at.common("c", "x"), at.named("y").common("b", "x")
    with pytest.raises(ProtocolError, match="used twice"):
        at.common("b", "x")
    with pytest.raises(ProtocolError, match="used twice"):
        at.named("y").common("b", "x")


@given(st.lists(st.integers(min_value=0, max_value=1000)))
def test_numbers_are_read_as_they_were_written(numbers: list[int]) -> None:
    data = packed(map(Integer, numbers), Integer(1001))
    assert len(data) == 2 * len(numbers) and unpacked(data, Integer(1001)) == numbers
    if numbers and max(numbers) >= 500:
        with pytest.raises(ProtocolError, match="not reduced"):
            unpacked(data, Integer(500))
