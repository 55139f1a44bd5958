"""Products of constants of a table, in one lane a number or in several, and the random powers that they make."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kernel.numbers import BACKENDS, MODULI, SIZES, limbs_of, ring_of
from veilmatch.crypto import _kernel
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.rings.fixed_base import ROUNDING_BITS
from veilmatch.crypto.rings.native import constants
from veilmatch.crypto.rings.native.constants import ConstantsFixedBase
from veilmatch.crypto.rings.native.limbs import Constants, empty, empty_bytes
from veilmatch.crypto.rings.native.ring import WITH_CONSTANTS, NativeRing

N = MODULI["random"](512)
ENTRIES = 64
HAVING = tuple(name for name in BACKENDS if name in WITH_CONSTANTS)

#: y and log of a number y * (1 + log*N)
Constant = tuple[int, int]


@pytest.fixture(params=HAVING)
def backend(request: pytest.FixtureRequest) -> str:
    return request.param


def make_table(ring: NativeRing, rows: Sequence[Sequence[Constant]]) -> Constants:
    """[rows, 3 * n, entries], by no code of the one under test."""
    n, bits, modulus = ring._limbs, ring._limb_bits, int(ring.modulus)
    R, word = 1 << n * bits, np.uint32 if bits <= 32 else np.uint64
    table = empty_bytes(len(rows) * 3 * n * len(rows[0]) * word().itemsize).view(word)
    table = table.reshape(len(rows), 3 * n, len(rows[0]))
    for r, row in enumerate(rows):
        for e, (y, log) in enumerate(row):
            table[r, :, e] = [limb for part in (y, y * R // modulus, log) for limb in limbs_of(part, n, bits)]
    return table


def random_rows(modulus: int, rows: int, seed: int = 0) -> list[list[Constant]]:
    chance = random.Random(modulus + seed)
    edges = [0, 1, modulus - 1, modulus // 2]

    def draw() -> int:
        return chance.choice(edges) if chance.random() < 0.2 else chance.randrange(modulus)

    return [[(draw(), draw()) for _ in range(ENTRIES)] for _ in range(rows)]


def assert_products(ring: NativeRing, rows: list[list[Constant]], digits: list[list[int]], pieces: int) -> None:
    """digits: of every row, one for each number; as many numbers as fill groups."""
    count, steps, modulus = len(digits[0]), len(rows) // pieces, int(ring.modulus)
    words = empty((steps, count * pieces // ring.lanes, ring.lanes))
    flat = words.reshape(steps, count * pieces)
    for row, chosen in enumerate(digits):
        for number, digit in enumerate(chosen):
            flat[row % steps, number * pieces + row // steps] = digit
    found = ring.multiply_constants(make_table(ring, rows), pieces, words)
    assert len(found) == count * pieces
    for at, (x, e, log) in enumerate(found):
        number, piece = divmod(at, pieces)
        product = 1
        for row in range(piece * steps, (piece + 1) * steps):
            y, of_y = rows[row][digits[row][number]]
            product = product * y * (1 + of_y * modulus) % modulus**2
        assert 0 <= x < 3 * modulus and 0 <= e < 6 * modulus
        assert (x + e * modulus) * (1 + log * modulus) % modulus**2 == product


def pieces_of(ring: NativeRing) -> list[int]:
    return [pieces for pieces in (1, 2, 4) if pieces <= ring.lanes]


def test_every_entry_is_found_from_every_lane(backend: str) -> None:
    ring = ring_of(backend, N)
    for pieces in pieces_of(ring):
        numbers = range(ENTRIES * ring.lanes // pieces)
        rows = random_rows(N, pieces)
        assert_products(ring, rows, [[number % ENTRIES for number in numbers]] * pieces, pieces)
        assert_products(ring, rows, [[number // (ring.lanes // pieces) for number in numbers]] * pieces, pieces)


@pytest.mark.parametrize("bits", SIZES)
@pytest.mark.parametrize("kind", MODULI)
def test_products_of_constants_are_right_and_bounded(backend: str, bits: int, kind: str) -> None:
    modulus = MODULI[kind](bits)
    ring, chance = ring_of(backend, modulus), random.Random(bits)
    for pieces in pieces_of(ring):
        rows = random_rows(modulus, 4 * pieces)
        numbers = 2 * ring.lanes // pieces
        digits = [[chance.randrange(ENTRIES) for _ in range(numbers)] for _ in rows]
        assert_products(ring, rows, digits, pieces)


@pytest.mark.parametrize("limbs", [10, 20, 60, 120])
def test_products_at_the_largest_modulus_of_so_many_limbs(backend: str, limbs: int) -> None:
    modulus = (1 << limbs * ring_of(backend, N)._limb_bits - 6) - 1
    ring = ring_of(backend, modulus)
    assert ring._limbs == limbs
    largest = (modulus - 1, modulus - 1)
    rows = [[largest] * ENTRIES for _ in range(12)]
    assert_products(ring, rows, [[7] * ring.lanes] * 12, 1)
    assert_products(ring, random_rows(modulus, 12), [list(range(ring.lanes))] * 12, 1)


@pytest.mark.parametrize("ones", [0, 1, 2, 3])
def test_columns_of_the_largest_limbs(backend: str, ones: int) -> None:
    """y, its quotient and R - N of limbs that are nearly all ones: no column overflows."""
    ring = ring_of(backend, N)
    bits, limbs = ring._limb_bits, 120
    room = limbs * bits
    modulus = (1 << room - 6) - (1 << room // 2) * (ones % 2) - 1 if ones < 2 else (1 << room - 7 * bits) + 1
    ring = ring_of(backend, modulus)
    top = (1 << modulus.bit_length() - 1) - 1
    rows = [[(top, top), (modulus - 1, 0), (modulus - 2, modulus - 1), (1, 1)] * 16 for _ in range(6)]
    for shift in range(4):
        assert_products(ring, rows, [[(lane + row * shift) % 4 for lane in range(ring.lanes)] for row in range(6)], 1)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_any_constants_of_any_modulus(data: st.DataObject) -> None:
    modulus = data.draw(st.integers(1, 1 << 560)) * 2 + 1
    ring = NativeRing(Integer(modulus), data.draw(st.sampled_from(HAVING)))
    pieces = data.draw(st.sampled_from(pieces_of(ring)))
    steps, numbers = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 2)) * ring.lanes // pieces
    rows = random_rows(modulus, steps * pieces, data.draw(st.integers(0, 1000)))
    column = st.lists(st.integers(0, ENTRIES - 1), min_size=numbers, max_size=numbers)
    assert_products(ring, rows, [data.draw(column) for _ in rows], pieces)


# -- random powers ------------------------------------------------------------------------------------

DIGITS: dict[str, Callable[[int], int]] = {
    "all 0": lambda i: 0,
    "all ones": lambda i: 255,
    "mixed": lambda i: 37 * i % 256,
}


@pytest.mark.parametrize("digit", DIGITS.values(), ids=DIGITS)
@pytest.mark.parametrize("exponent_bits", [1, 6, 7, 61, 200])
def test_random_powers_are_those_of_the_digits_drawn(
    backend: str, exponent_bits: int, digit: Callable[[int], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    ring, base, width = ring_of(backend, N), Integer(N) ** 2 - 5, constants._DIGIT_BITS
    drawn = bytes(map(digit, range(100_000)))
    table = ConstantsFixedBase(ring, base, exponent_bits)
    monkeypatch.setattr(constants.secrets, "token_bytes", lambda size: drawn[:size])
    rows, entries = -(-exponent_bits // width), 1 << width
    for count in range(3 * ring.lanes + 2):
        exponents = [sum((drawn[r * count + c] % entries + 1) * entries**r for r in range(rows)) for c in range(count)]
        powers = [pow(int(base), e, N**2) for e in exponents]
        assert table.random_powers(count) == powers
        known = table.known_powers(count)
        assert [(x.value, x.exponent) for x in known] == list(zip(powers, exponents, strict=True))
        assert all(e.bit_length() <= exponent_bits + ROUNDING_BITS for e in exponents)
        groups = table.random_groups(count)
        assert [x for on, group, size in groups for x in on.leave(group, size)] == powers
    assert table.exponent_bits == width * rows


@pytest.mark.parametrize("bits", SIZES)
def test_random_powers_at_every_size(backend: str, bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    modulus, width = MODULI["random"](bits), constants._DIGIT_BITS
    ring, base = ring_of(backend, modulus), int(Integer(modulus + 2))
    table = ring.fixed_base(Integer(base), 60)
    assert isinstance(table, ConstantsFixedBase)
    count, rows = 2 * ring.lanes + 1, -(-60 // width)
    drawn = random.Random(bits).randbytes(rows * count)
    monkeypatch.setattr(constants.secrets, "token_bytes", lambda size: drawn[:size])
    exponents = [sum((drawn[r * count + c] % (1 << width) + 1) << width * r for r in range(rows)) for c in range(count)]
    assert table.random_powers(count) == [pow(base, e, modulus**2) for e in exponents]


def test_every_draw_is_of_fresh_bytes_of_the_operating_system(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    draw = constants.secrets.token_bytes
    monkeypatch.setattr(constants.secrets, "token_bytes", lambda size: sizes.append(size) or draw(size))
    table = ConstantsFixedBase(ring_of(backend, N), Integer(3), 128)
    powers = [x for _ in range(3) for x in table.random_powers(5)]
    assert sizes == [-(-128 // constants._DIGIT_BITS) * 5] * 3  # a byte a digit
    assert len(set(powers)) == len(powers)


def test_no_row_of_the_table_holds_the_neutral_element_or_a_power_twice(backend: str) -> None:
    ring, width = ring_of(backend, N), constants._DIGIT_BITS
    table = ConstantsFixedBase(ring, Integer(3), 2 * width + 1)._table
    n, bits, entries = ring._limbs, ring._limb_bits, 1 << width
    for r, row in enumerate(table):
        for e in range(entries):
            parts = [sum(int(limb) << bits * i for i, limb in enumerate(row[at : at + n, e])) for at in (0, n, 2 * n)]
            y, quotient, log = parts
            expected = pow(3, (e + 1) * entries**r, N**2) if r < 3 else 1  # what fills the last lanes up
            assert y * (1 + log * N) % N**2 == expected and quotient == (y << n * bits) // N and max(y, log) < N
    assert len(table) == -(-3 // ring.lanes) * ring.lanes


def test_a_base_that_is_no_unit_is_refused(backend: str) -> None:
    with pytest.raises(ZeroDivisionError):
        ConstantsFixedBase(ring_of(backend, N), Integer(N), 12)


def test_no_random_powers_are_no_work(backend: str) -> None:
    table = ConstantsFixedBase(ring_of(backend, N), Integer(3), 12)
    assert table.random_powers(0) == table.known_powers(0) == table.random_groups(0) == []


# -- arguments ----------------------------------------------------------------------------------------


def test_arguments_that_do_not_fit_are_refused(backend: str) -> None:
    ring = ring_of(backend, N)
    rows, lanes, size = 4, ring.lanes, 2 * ring._limbs * ring._limb_bits // 8
    table = make_table(ring, random_rows(N, rows))
    digits = empty((rows, 2, lanes))
    digits[...] = ENTRIES - 1
    data = bytearray(2 * 2 * lanes * size)
    sound = (backend, ring._ring, data, table, rows, 1, digits)
    _kernel.multiply_constants(*sound)
    moved = empty_bytes(table.nbytes + 64)[4 : 4 + table.nbytes]
    for at, wrong in [
        *((0, name) for name in ("ifma", "gmpy2", "", "ifma5")),
        *((1, words) for words in (ring._ring[:-1], ring._ring[:0], np.ones(3 * 130 + 1, dtype=np.uint64))),
        *((2, bytearray(length)) for length in (0, len(data) - 1, len(data) + 1, len(data) // 2, 2 * len(data))),
        *((3, array) for array in (table[:-1], table[:0], moved)),
        *((4, count) for count in (0, 3, 5, 8, 2**32 - 1)),
        *((5, count) for count in (0, 2 * lanes, 3, 2**32 - 1)),
        *((6, array) for array in (digits[:-1], digits[:0], digits[:, :1])),
    ]:
        before = bytes(data)
        with pytest.raises((ValueError, BufferError)):
            _kernel.multiply_constants(*sound[:at], wrong, *sound[at + 1 :])  # type: ignore[arg-type]
        assert data == before
    with pytest.raises((TypeError, BufferError)):
        _kernel.multiply_constants(*sound[:2], bytes(data), *sound[3:])  # type: ignore[arg-type]
    for unsound in (sound[:-1], (*sound, b""), ()):
        with pytest.raises(TypeError):
            _kernel.multiply_constants(*unsound)  # type: ignore[arg-type]


@pytest.mark.parametrize("digit", [64, 2**32, 2**64 - 1])
def test_a_digit_beyond_the_entries_reads_nothing_else(backend: str, digit: int) -> None:
    ring = ring_of(backend, N)
    digits = empty((4, 1, ring.lanes))
    digits[...] = digit
    ring.multiply_constants(make_table(ring, random_rows(N, 4)), 1, digits)


def test_backends_without_such_tables_say_so() -> None:
    for name in set(BACKENDS) - set(HAVING):
        ring = ring_of(name, N)
        table, digits = empty((1, 3 * ring._limbs, ENTRIES)), empty((1, 1, ring.lanes))
        with pytest.raises(ValueError, match="not available for tables of constants"):
            ring.multiply_constants(table, 1, digits)
    assert set(HAVING) <= set(BACKENDS)
