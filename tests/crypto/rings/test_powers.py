"""Multi-exponentiation and fixed-base powers agree with naive ones, and their cost tells nothing."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from math import gcd

import gmpy2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.crypto.toys import TOY, toy_key, toy_public_key
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.rings import fixed_base, multiexp, public_base
from veilmatch.crypto.rings.choice import VARIABLE, available, make_ring
from veilmatch.crypto.rings.fixed_base import FixedBaseTable
from veilmatch.crypto.rings.multiexp import product_of_powers, product_of_public_powers, window_bits
from veilmatch.crypto.rings.pairs import Pair, Pairs
from veilmatch.crypto.rings.public_base import TablePublicBase

MODULUS = Integer(toy_key(512).N)
PAIRS, SQUARE = Pairs(MODULUS), int(MODULUS) ** 2


def naive(bases: list[int], exponents: list[int]) -> int:
    product = 1
    for base, exponent in zip(bases, exponents, strict=True):
        product = product * pow(base, exponent, SQUARE) % SQUARE
    return product


def product(bases: list[int], exponents: list[int], exponent_bits: int) -> int:
    pairs = [PAIRS.split(Integer(b)) for b in bases]
    return int(PAIRS.join(product_of_powers(pairs, exponents, exponent_bits, PAIRS)))


@contextmanager
def window_of(width: int) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(multiexp, "window_bits", lambda bases, exponent_bits: width)
        yield


class Counted(Pairs):
    """Counts multiplications."""

    done = 0

    def multiply(self, x: Pair, y: Pair) -> Pair:
        self.done += 1
        return super().multiply(x, y)


def multiplications(exponents: list[int], exponent_bits: int, width: int | None = None) -> int:
    """Modular multiplications of one multi-exponentiation, counted as it runs."""
    counted, bases = Counted(MODULUS), [(Integer(3 + i), Integer(i)) for i in range(len(exponents))]
    with window_of(width) if width is not None else nullcontext():
        product_of_powers(bases, exponents, exponent_bits, counted)
    return counted.done


edges = st.sampled_from([0, 1, int(MODULUS) - 1, int(MODULUS), int(MODULUS) + 1, SQUARE - int(MODULUS), SQUARE - 1])


@given(edges | st.integers(0, SQUARE - 1), edges | st.integers(0, SQUARE - 1))
def test_pairs_multiply_as_numbers_do(x: int, y: int) -> None:
    a, b = PAIRS.split(Integer(x)), PAIRS.split(Integer(y))
    assert PAIRS.join(a) == x and all(0 <= part < MODULUS for part in (*a, *b, *PAIRS.multiply(a, b)))
    assert PAIRS.join(PAIRS.multiply(a, b)) == x * y % SQUARE


@given(st.data(), st.integers(1, 24))
@settings(max_examples=60, deadline=None)
def test_product_equals_naive_powers_in_every_window(data: st.DataObject, exponent_bits: int) -> None:
    top = 2**exponent_bits - 1
    exponent = st.one_of(st.sampled_from((0, 1, top, top // 2, top // 2 + 1)), st.integers(0, top))
    exponents = data.draw(st.lists(exponent, min_size=1, max_size=12))
    bases = [secrets.randbelow(SQUARE) for _ in exponents]
    expected = naive(bases, exponents)
    assert product(bases, exponents, exponent_bits) == expected
    width = data.draw(st.integers(1, min(exponent_bits, 10)))
    with window_of(width):
        assert product(bases, exponents, exponent_bits) == expected


@pytest.mark.parametrize("exponent_bits", [1, 2, 14, 15, 48])
@pytest.mark.parametrize("what", ["zeros", "all ones", "one", "top bit", "alternating"])
@pytest.mark.parametrize("count", [1, 2, 128, 512])
def test_product_of_extreme_exponents_equals_naive_powers(exponent_bits: int, what: str, count: int) -> None:
    top = 2**exponent_bits - 1
    values = {"zeros": [0], "all ones": [top], "one": [1], "top bit": [(top + 1) // 2], "alternating": [0, top]}[what]
    exponents = [values[i % len(values)] for i in range(count)]
    bases = [secrets.randbelow(SQUARE) for _ in exponents]
    found = product(bases, exponents, exponent_bits)
    assert found == naive(bases, exponents)


def test_product_of_no_powers_is_one() -> None:
    assert product([], [], 15) == 1


def test_bases_and_exponents_of_different_number_are_refused() -> None:
    with pytest.raises(ValueError):
        product([2, 3], [1], 15)


def cost(bases: int, exponent_bits: int, width: int) -> int:
    """Multiplications by the bucket method, from its description."""
    windows = -(-exponent_bits // width)
    into_buckets, running, into_result = bases, 2 * (2**width - 2), 1
    return windows * (into_buckets + running + into_result) + (windows - 1) * width


@pytest.mark.parametrize(("bases", "exponent_bits"), [(1, 2), (3, 5), (128, 17), (512, 17), (40, 24)])
def test_cost_by_description_is_the_counted_one(bases: int, exponent_bits: int) -> None:
    for width in range(1, min(exponent_bits, 8) + 1):
        ones = [2**exponent_bits - 1] * bases
        assert multiplications(ones, exponent_bits, width) == cost(bases, exponent_bits, width)


@pytest.mark.parametrize("bases", [1, 2, 3, 10, 64, 128, 129, 512, 4096])
def test_window_is_the_cheapest(bases: int) -> None:
    dearer = {
        bits: window_bits(bases, bits)
        for bits in range(1, 25)
        if cost(bases, bits, window_bits(bases, bits)) > min(cost(bases, bits, w) for w in range(1, bits + 1))
    }
    assert dearer == {}


@pytest.mark.parametrize("exponents", [[0] * 8, [1] * 8, [0] * 7 + [2**15 - 1], [2**15 - 1] * 8, [2**14] * 8])
def test_number_of_multiplications_does_not_depend_on_the_exponents(exponents: list[int]) -> None:
    assert multiplications(exponents, 15) == multiplications([0x5A5A, 0x1234, 1, 0, 7, 0x7FFF, 99, 0x4000], 15)


# -- fixed base ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def table() -> FixedBaseTable:
    key = toy_public_key(TOY)
    return FixedBaseTable(key.hs, Pairs(key.modulus), key.randomiser_bits)


def test_random_powers_lie_in_the_subgroup_and_differ(table: FixedBaseTable) -> None:
    key = toy_key(512)
    powers = [int(x) for x in table.random_powers(40)]
    assert all(pow(x, key.o, key.square) == 1 for x in powers)
    assert len(set(powers)) == len(powers)


def test_no_row_holds_the_neutral_element_or_a_power_twice(table: FixedBaseTable) -> None:
    key = toy_key(512)
    base = key.hs
    for pairs in table._rows:
        row = [int(PAIRS.join(pair)) for pair in pairs]
        assert row[:2] == [base, base * base % key.square]
        assert len(row) == len(set(row)) == 256 and 1 not in row
        base = pow(base, 256, key.square)


@pytest.mark.parametrize("digit", [0, 1, 128, 255])
def test_power_of_equal_digits_is_the_shifted_one(
    table: FixedBaseTable, digit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, rows = toy_key(512), len(table._rows)
    monkeypatch.setattr(fixed_base.secrets, "token_bytes", lambda size: bytes([digit]) * size)
    expected = pow(key.hs, (digit + 1) * ((256**rows - 1) // 255), key.square)
    assert table.random_powers(1) == [expected] != [1]


@pytest.mark.parametrize("exponent_bits", [1, 7, 8, 9, 257])
def test_known_powers_are_those_of_their_exponents(exponent_bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    key = toy_key(512)
    table = FixedBaseTable(Integer(key.hs), PAIRS, exponent_bits)
    first, *more = table.known_powers(3)
    assert len({power.exponent for power in table.known_powers(64)}) > 32, "drawn afresh, of 256 at the least"
    for byte in (0, 255):
        monkeypatch.setattr(fixed_base.secrets, "token_bytes", lambda size, byte=byte: bytes([byte]) * size)
        more += table.known_powers(1)
    assert all(power.value == pow(key.hs, int(power.exponent), key.square) for power in (first, *more))
    assert more[-1].exponent - more[-2].exponent == (1 << table.exponent_bits) - 1
    assert more[-1].exponent.bit_length() <= exponent_bits + fixed_base.ROUNDING_BITS


@given(st.lists(st.tuples(st.integers(0, SQUARE), st.integers(0, 2**24 - 1)), max_size=11))
def test_product_of_public_powers_equals_naive_powers(terms: list[tuple[int, int]]) -> None:
    bases, exponents = [Integer(base) for base, _ in terms], [exponent for _, exponent in terms]
    found = product_of_public_powers(bases, exponents, 24, Integer(SQUARE))
    assert found == naive([int(base) for base in bases], exponents)


ODD = st.one_of(st.sampled_from((1, 3, int(MODULUS), SQUARE)), st.integers(0, 1 << 200).map(lambda x: 2 * x + 1))


@given(st.data(), st.integers(0, 1 << 220), ODD, st.integers(1, 80))
@settings(max_examples=60, deadline=None)
def test_powers_by_a_public_table_equal_plain_ones(data: st.DataObject, base: int, modulus: int, bits: int) -> None:
    """For exponents that the table covers and longer ones."""
    top, room = (1 << bits) - 1, 6 * -(-bits // 6)
    edges = (0, 1, 63, 64, top, 1 << bits - 1, (1 << room) - 1, 1 << room, (1 << room + 70) - 1)
    exponent = data.draw(st.one_of(st.sampled_from(edges), st.integers(0, top), st.integers(0, 1 << bits + 90)))
    found = TablePublicBase(Integer(base), Integer(modulus), bits).power(Integer(exponent))
    assert found == pow(base, exponent, modulus)


def test_a_public_table_makes_one_product_a_digit_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(public_base, "power", lambda *_: pytest.fail("a power without the table"))
    table = TablePublicBase(Integer(7), MODULUS, 61)
    assert len(table._rows) == 11 and {len(row) for row in table._rows} == {64}
    assert table.power(Integer((1 << 66) - 1)) == pow(7, (1 << 66) - 1, int(MODULUS))


UNITS = st.integers(1, int(MODULUS) - 1).filter(lambda x: gcd(x, int(MODULUS)) == 1)


@pytest.mark.parametrize("backend", available())
@given(st.data(), st.integers(1, 120), st.lists(st.tuples(UNITS, st.integers(0, 1 << 24)), min_size=1, max_size=11))
@settings(max_examples=25, deadline=None)
def test_quotients_of_public_powers_equal_plain_ones(
    backend: str, data: st.DataObject, bits: int, terms: list[tuple[int, int]]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, backend)
        base = make_ring(MODULUS).public_base(Integer(7), bits)
    exponent = data.draw(st.one_of(st.sampled_from((0, 1, (1 << bits) - 1)), st.integers(0, (1 << bits) - 1)))
    for _ in range(2):  # with what the first one left
        found = base.power_over(Integer(exponent), *([Integer(x) for x in part] for part in zip(*terms, strict=True)))
        expected = pow(7, exponent, int(MODULUS))
        for divisor, e in terms:
            expected = expected * pow(divisor, -e, int(MODULUS)) % int(MODULUS)
        assert found == expected


@pytest.mark.parametrize("backend", available())
def test_a_divisor_that_is_no_unit_has_no_quotient(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, backend)
    base = make_ring(MODULUS).public_base(Integer(7), 40)
    for divisors in ([Integer(0), Integer(2)], [Integer(2), Integer(toy_key(512).P)]):
        with pytest.raises(ZeroDivisionError):
            base.power_over(Integer(5), divisors, [Integer(3), Integer(4)])


def test_every_power_costs_one_multiplication_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    key, counts = toy_public_key(TOY), set()
    counted = Counted(key.modulus)
    table = FixedBaseTable(key.hs, counted, 128)
    for digit in (0, 77, 255):
        monkeypatch.setattr(fixed_base.secrets, "token_bytes", lambda size, digit=digit: bytes([digit]) * size)
        counted.done = 0
        table.random_powers(1)
        counts.add(counted.done)
    assert counts == {len(table._rows)} == {16}


def test_rows_cover_the_whole_exponent(table: FixedBaseTable) -> None:
    assert 8 * len(table._rows) >= toy_public_key(TOY).randomiser_bits > 8 * (len(table._rows) - 1)
    assert toy_public_key(TOY).randomiser_bits == gmpy2.mpz(toy_key(512).o).bit_length() + 128
