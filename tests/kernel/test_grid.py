"""Products of powers whose exponents are weights of rows times weights of columns: the same on every backend."""

from __future__ import annotations

import random
import secrets

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kernel.numbers import BACKENDS, MODULI, ring_of
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.rings.grid import WIDTH, Grid, rows_of
from veilmatch.crypto.rings.native.ring import NativeRing
from veilmatch.crypto.rings.reference import ReferenceRing
from veilmatch.crypto.rings.ring import Ring

N = MODULI["random"](512)
TOP = (1 << 64) - 1
WEIGHT = st.one_of(st.sampled_from((0, 1, 2, TOP, TOP - 1, 1 << 63)), st.integers(0, TOP))


def plain(bases: list[int], grid: Grid, modulus: int) -> int:
    product = 1
    for i, base in enumerate(bases):
        exponent = grid.rows[i // 8] * grid.columns[i % 8]
        product = product * pow(base, exponent, modulus**2) % modulus**2
    return product


def rings(modulus: int) -> list[Ring]:
    both = [NativeRing(Integer(modulus), "ifma", "ifma4")] if "ifma4" in BACKENDS else []
    return [ReferenceRing(Integer(modulus)), *(ring_of(name, modulus) for name in BACKENDS), *both]


def test_a_grid_is_the_sequence_of_its_products() -> None:
    grid = Grid((1, 3), tuple(range(8)), 11)
    assert list(grid) == [0, 1, 2, 3, 4, 5, 6, 7, 0, 3, 6] and len(grid) == 11
    assert (grid[-1], grid[9:], grid[::4]) == (6, [3, 6], [0, 4, 0])
    with pytest.raises(IndexError):
        grid[11]


@pytest.mark.parametrize("bits", [512, 3072])
@pytest.mark.parametrize("count", [1, 3, 4, 5, 8, 9, 16, 17, 26])
def test_random_grids(bits: int, count: int) -> None:
    modulus = MODULI["random"](bits)
    chance = random.Random(count)
    bases = ([0, 1, modulus, modulus**2 - 1] * (count == 26) + [chance.randrange(modulus**2) for _ in range(count)])[
        :count
    ]
    rows = (1, *(secrets.randbits(64) for _ in range(rows_of(count) - 1)))
    grid = Grid(rows, tuple(secrets.randbits(64) for _ in range(WIDTH)), count)
    expected = plain(bases, grid, modulus)
    for ring in rings(modulus):
        assert ring.grid_product([Integer(x) for x in bases], grid) == expected


@given(st.data(), st.integers(1, 20))
@settings(max_examples=60, deadline=None)
def test_any_weights(data: st.DataObject, count: int) -> None:
    """Zeros among them, for which a program has no steps."""
    rows = data.draw(st.lists(WEIGHT, min_size=rows_of(count), max_size=rows_of(count)))
    grid = Grid(tuple(rows), tuple(data.draw(st.lists(WEIGHT, min_size=8, max_size=8))), count)
    bases = [secrets.randbelow(N**2) for _ in range(count)]
    expected = plain(bases, grid, N)
    for ring in rings(N):
        assert ring.grid_product([Integer(x) for x in bases], grid) == expected


@pytest.mark.parametrize("count", [1, 8, 9])
def test_bases_and_weights_of_different_number_are_refused(count: int) -> None:
    grid = Grid((1,) * rows_of(count), (1,) * 8, count)
    for ring in rings(N):
        for bases in ([Integer(2)] * (count - 1), [Integer(2)] * (count + 1)):
            with pytest.raises(ValueError):
                ring.grid_product(bases, grid)
