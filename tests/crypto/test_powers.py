"""Multi-exponentiation and fixed-base powers agree with naive ones, and their cost tells nothing."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import gmpy2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.crypto.toys import TOY, toy_key, toy_public_key
from veilmatch.crypto import fixed_base, multiexp
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.fixed_base import FixedBaseTable
from veilmatch.crypto.multiexp import product_of_powers, window_bits

MODULUS = Integer(toy_key(512).N)


def naive(bases: list[int], exponents: list[int]) -> int:
    product = 1
    for base, exponent in zip(bases, exponents, strict=True):
        product = product * pow(base, exponent, int(MODULUS)) % int(MODULUS)
    return product


@contextmanager
def window_of(width: int) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(multiexp, "window_bits", lambda bases, exponent_bits: width)
        yield


class Counted(int):
    """An integer that counts reductions, i.e. modular multiplications."""

    reductions = 0

    def __mul__(self, other: int) -> Counted:
        return Counted(int(self) * int(other))

    def __mod__(self, other: int) -> Counted:
        Counted.reductions += 1
        return Counted(int(self) % int(other))


def multiplications(exponents: list[int], exponent_bits: int, width: int | None = None) -> int:
    """Modular multiplications of one multi-exponentiation, counted as it runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(multiexp, "Integer", Counted)
        if width is not None:
            patch.setattr(multiexp, "window_bits", lambda bases, exponent_bits: width)
        Counted.reductions = 0
        bases = [Counted(3 + i) for i in range(len(exponents))]
        product_of_powers(bases, exponents, exponent_bits, MODULUS)  # type: ignore[arg-type]
        return Counted.reductions


@given(st.data(), st.integers(1, 24))
@settings(max_examples=60, deadline=None)
def test_product_equals_naive_powers_in_every_window(data: st.DataObject, exponent_bits: int) -> None:
    top = 2**exponent_bits - 1
    exponent = st.one_of(st.sampled_from((0, 1, top, top // 2, top // 2 + 1)), st.integers(0, top))
    exponents = data.draw(st.lists(exponent, min_size=1, max_size=12))
    bases = [secrets.randbelow(int(MODULUS)) for _ in exponents]
    expected = naive(bases, exponents)
    assert product_of_powers([Integer(b) for b in bases], exponents, exponent_bits, MODULUS) == expected
    width = data.draw(st.integers(1, min(exponent_bits, 10)))
    with window_of(width):
        assert product_of_powers([Integer(b) for b in bases], exponents, exponent_bits, MODULUS) == expected


@pytest.mark.parametrize("exponent_bits", [1, 2, 14, 15, 48])
@pytest.mark.parametrize("what", ["zeros", "all ones", "one", "top bit", "alternating"])
@pytest.mark.parametrize("count", [1, 2, 128, 512])
def test_product_of_extreme_exponents_equals_naive_powers(exponent_bits: int, what: str, count: int) -> None:
    top = 2**exponent_bits - 1
    values = {"zeros": [0], "all ones": [top], "one": [1], "top bit": [(top + 1) // 2], "alternating": [0, top]}[what]
    exponents = [values[i % len(values)] for i in range(count)]
    bases = [secrets.randbelow(int(MODULUS)) for _ in exponents]
    found = product_of_powers([Integer(b) for b in bases], exponents, exponent_bits, MODULUS)
    assert found == naive(bases, exponents)


def test_product_of_no_powers_is_one() -> None:
    assert product_of_powers([], [], 15, MODULUS) == 1


def test_bases_and_exponents_of_different_number_are_refused() -> None:
    with pytest.raises(ValueError):
        product_of_powers([Integer(2), Integer(3)], [1], 15, MODULUS)


def cost(bases: int, exponent_bits: int, width: int) -> int:
    """Multiplications by the bucket method, from its description."""
    windows = -(-exponent_bits // width)
    into_buckets, running, into_result = bases, 2 * (2**width - 2), 1
    return windows * (into_buckets + running + into_result) + (windows - 1) * width


@pytest.mark.parametrize(("bases", "exponent_bits"), [(1, 2), (3, 5), (128, 15), (512, 14), (40, 24)])
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
    return FixedBaseTable(key.hs, key.modulus**2, key.randomiser_bits)


def test_random_powers_lie_in_the_subgroup_and_differ(table: FixedBaseTable) -> None:
    key = toy_key(512)
    powers = [int(x) for x in table.random_powers(40)]
    assert all(pow(x, key.o, key.square) == 1 for x in powers)
    assert len(set(powers)) == len(powers)


def test_no_row_holds_the_neutral_element_or_a_power_twice(table: FixedBaseTable) -> None:
    key = toy_key(512)
    base = key.hs
    for row in table._rows:
        assert [int(x) for x in row[:2]] == [base, base * base % key.square]
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


def test_every_power_costs_one_multiplication_a_row(table: FixedBaseTable, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = set()
    monkeypatch.setattr(fixed_base, "Integer", Counted)
    for digit in (0, 77, 255):
        monkeypatch.setattr(fixed_base.secrets, "token_bytes", lambda size, digit=digit: bytes([digit]) * size)
        Counted.reductions = 0
        table.random_powers(1)
        counts.add(Counted.reductions)
    assert counts == {len(table._rows)}


def test_rows_cover_the_whole_exponent(table: FixedBaseTable) -> None:
    assert 8 * len(table._rows) >= toy_public_key(TOY).randomiser_bits > 8 * (len(table._rows) - 1)
    assert toy_public_key(TOY).randomiser_bits == gmpy2.mpz(toy_key(512).o).bit_length() + 128
