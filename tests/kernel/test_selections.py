"""Products of table entries that secret digits name, and the random powers that they make."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kernel.numbers import BACKENDS, MODULI, SIZES, Pair, limbs_of, radix, random_parts, ring_of, to_pairs, value
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.rings.fixed_base import ROUNDING_BITS
from veilmatch.crypto.rings.native import tables
from veilmatch.crypto.rings.native.limbs import Limbs, empty, side_by_side
from veilmatch.crypto.rings.native.ring import NativeRing
from veilmatch.crypto.rings.native.tables import NativeFixedBase

N = MODULI["random"](512)


def make_table(ring: NativeRing, rows: list[list[Pair]]) -> Limbs:
    """A table of these pairs, uint64[rows, 2, n, entries]."""
    n, bits = ring._limbs, ring._limb_bits
    table = empty((len(rows), 2, n, len(rows[0])))
    for r, row in enumerate(rows):
        for e, pair in enumerate(row):
            table[r, :, :, e] = [limbs_of(part, n, bits) for part in pair]
    return table


def random_rows(ring: NativeRing, rows: int, entries: int) -> list[list[Pair]]:
    parts = iter(random_parts(ring, 2 * rows * entries))
    return [[(next(parts), next(parts)) for _ in range(entries)] for _ in range(rows)]


def select(ring: NativeRing, table: Limbs, digits: list[list[int]]) -> list[Pair]:
    """One product for each column of digits; there are as many columns as fill whole groups."""
    rows, count = len(digits), len(digits[0])
    words = empty((rows, count // ring.lanes, ring.lanes))
    words[...] = np.array(digits, dtype=np.uint64).reshape(words.shape)
    out = empty(ring.group_shape(words.shape[1]))
    ring.select_and_multiply(out, table, words)
    return to_pairs(ring, out, count)


def expected(ring: NativeRing, rows: list[list[Pair]], digits: list[list[int]]) -> list[int]:
    """The products mod N^2, each with the R^-1 of its rows - 1 multiplications."""
    modulus = int(ring.modulus)
    products = []
    for column in zip(*digits, strict=True):
        product = pow(radix(ring), 1 - len(rows), modulus**2)
        for row, digit in zip(rows, column, strict=True):
            product = product * value(row[digit], modulus) % modulus**2
        products.append(product)
    return products


@pytest.mark.parametrize("entries", [8, 16, 40, 64])
def test_every_entry_is_found_from_every_lane(backend: str, entries: int) -> None:
    ring = ring_of(backend, N)
    rows = random_rows(ring, 1, entries)
    digits = [[entry for entry in range(entries) for _ in range(ring.lanes)]]
    assert select(ring, make_table(ring, rows), digits) == [rows[0][digit] for digit in digits[0]]
    rotated = [[(lane + shift) % entries for shift in range(entries) for lane in range(ring.lanes)]]
    assert select(ring, make_table(ring, rows), rotated) == [rows[0][digit] for digit in rotated[0]]


@pytest.mark.parametrize("bits", SIZES)
@pytest.mark.parametrize("rows_count", [1, 2, 7])
def test_products_of_entries_are_right_and_below_2N(backend: str, bits: int, rows_count: int) -> None:
    ring = ring_of(backend, MODULI["all ones"](bits))
    rows = random_rows(ring, rows_count, 64)
    rows[0][0], rows[-1][63] = (0, 0), (4 * int(ring.modulus) - 1,) * 2
    chance, count = random.Random(bits), 3 * ring.lanes
    for choose_digit in (lambda: 0, lambda: 63, lambda: chance.randrange(64), lambda: chance.choice((0, 63))):
        digits = [[choose_digit() for _ in range(count)] for _ in rows]
        found = select(ring, make_table(ring, rows), digits)
        assert max(map(max, found)) < (2 if rows_count > 1 else 4) * ring.modulus
        assert [value(pair, int(ring.modulus)) for pair in found] == expected(ring, rows, digits)


@given(st.data())
@settings(max_examples=40, deadline=None)
@pytest.mark.parametrize("modulus", [3, N])
def test_any_digits_are_read(modulus: int, data: st.DataObject) -> None:
    ring = ring_of(data.draw(st.sampled_from(BACKENDS)), modulus)
    digit = st.one_of(st.sampled_from((0, 1, 7, 8, 62, 63)), st.integers(0, 63))
    column = st.lists(digit, min_size=ring.lanes, max_size=ring.lanes)
    digits = data.draw(st.lists(column, min_size=1, max_size=4))
    rows = random_rows(ring, len(digits), 64)
    found = select(ring, make_table(ring, rows), digits)
    assert [value(pair, modulus) for pair in found] == expected(ring, rows, digits)


# -- random powers ------------------------------------------------------------------------------------

DIGITS: dict[str, Callable[[int], int]] = {
    "all 0": lambda i: 0,
    "all 63": lambda i: 63,
    "0 and 63": lambda i: 63 * (i % 2),
    "mixed": lambda i: 37 * i % 64,
    "with high bits that are cut off": lambda i: 41 * i % 256,
}


@pytest.mark.parametrize("digit", DIGITS.values(), ids=DIGITS)
@pytest.mark.parametrize("exponent_bits", [1, 6, 7, 61, 200])
@pytest.mark.parametrize("count", [1, 4, 9, 17])
def test_random_powers_are_those_of_the_digits_drawn(
    backend: str, exponent_bits: int, count: int, digit: Callable[[int], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    ring, base = ring_of(backend, N), Integer(N) ** 2 - 5
    drawn = bytes(map(digit, range(100_000)))
    table = NativeFixedBase(ring, base, exponent_bits)
    monkeypatch.setattr(tables.secrets, "token_bytes", lambda size: drawn[:size])
    rows, columns = -(-exponent_bits // 6), -(-count // ring.lanes) * ring.lanes
    exponents = [sum((drawn[r * columns + c] % 64 + 1) * 64**r for r in range(rows)) for c in range(count)]
    powers = [pow(int(base), e, N**2) for e in exponents]
    assert table.random_powers(count) == powers
    known = table.known_powers(count)
    assert [(x.value, x.exponent) for x in known] == list(zip(powers, exponents, strict=True))
    assert max(exponents).bit_length() <= exponent_bits + ROUNDING_BITS and table.exponent_bits == 6 * rows


@pytest.mark.parametrize("bits", SIZES)
def test_random_powers_at_every_size(backend: str, bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    modulus = MODULI["random"](bits)
    ring, base = ring_of(backend, modulus), Integer(modulus - 1)
    table = NativeFixedBase(ring, base + 7, 60)
    drawn = random.Random(bits).randbytes(10 * ring.lanes)
    monkeypatch.setattr(tables.secrets, "token_bytes", lambda size: drawn[:size])
    exponents = [sum((drawn[r * ring.lanes + c] % 64 + 1) * 64**r for r in range(10)) for c in range(ring.lanes)]
    assert table.random_powers(ring.lanes) == [pow(int(base) + 7, e, modulus**2) for e in exponents]


def test_every_draw_is_of_fresh_bytes_of_the_operating_system(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    draw = tables.secrets.token_bytes
    monkeypatch.setattr(tables.secrets, "token_bytes", lambda size: sizes.append(size) or draw(size))
    ring = ring_of(backend, N)
    table = NativeFixedBase(ring, Integer(3), 128)
    powers = [x for _ in range(3) for x in table.random_powers(ring.lanes + 1)]
    assert sizes == [22 * 2 * ring.lanes] * 3  # a byte a digit, also for the lanes that are left over
    assert len(set(powers)) == len(powers)


def test_no_row_of_the_table_holds_the_neutral_element_or_a_power_twice(backend: str) -> None:
    ring = ring_of(backend, N)
    table = NativeFixedBase(ring, Integer(3), 13)._table
    rows, _, n, entries = table.shape
    for row in range(rows):
        numbers = np.ascontiguousarray(np.moveaxis(table[row], 2, 0)).reshape(entries, 2, n)
        powers = ring.leave(side_by_side(numbers, ring.lanes), entries)
        assert powers == [pow(3, (e + 1) * 64**row, N**2) for e in range(64)]
    assert rows == 3


def test_no_random_powers_are_no_work(backend: str) -> None:
    table = NativeFixedBase(ring_of(backend, N), Integer(3), 12)
    assert table.random_powers(0) == table.known_powers(0) == []
