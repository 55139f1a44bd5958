"""Numbers into limbs and back, side by side and without gaps: exact for every limb, aligned for the kernel."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kernel.numbers import MODULI, edge_pairs, limbs_of, ring_of, to_groups, to_pairs
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.rings.native.limbs import empty, one_by_one, side_by_side, to_limbs

LIMB_BITS = (28, 52, 64)


def edges(limbs: int, bits: int) -> list[int]:
    """Numbers of so many limbs with single bits, single limbs and all but these."""
    size = limbs * bits
    numbers = [0, 1, (1 << size) - 1]
    numbers += [1 << position for position in range(0, size, 13)]
    numbers += [((1 << bits) - 1) << bits * limb for limb in range(limbs)]
    return numbers + [(1 << size) - 1 - x for x in numbers] + [random.Random(size).getrandbits(size)]


@pytest.mark.parametrize("bits", LIMB_BITS)
@pytest.mark.parametrize("limbs", [2, 10, 60, 120])
def test_limbs_are_the_digits_of_the_number(limbs: int, bits: int) -> None:
    numbers = edges(limbs, bits)
    found = to_limbs([Integer(x) for x in numbers], limbs, bits)
    assert found.dtype == np.uint64
    assert found.tolist() == [limbs_of(x, limbs, bits) for x in numbers]


@given(st.lists(st.integers(0, (1 << 280) - 1), max_size=6))
def test_any_numbers_are_the_sum_of_their_limbs(numbers: list[int]) -> None:
    for bits in LIMB_BITS:
        found = to_limbs([Integer(x) for x in numbers], 10, bits).tolist()
        assert [sum(limb << bits * i for i, limb in enumerate(limbs)) for limbs in found] == numbers


@pytest.mark.parametrize("bits", LIMB_BITS)
@pytest.mark.parametrize("number", ["negative", "one limb too many"])
def test_a_number_that_does_not_fit_is_refused(bits: int, number: str) -> None:
    with pytest.raises(OverflowError):
        to_limbs([Integer(-1 if number == "negative" else 1 << 10 * bits)], 10, bits)


@pytest.mark.parametrize("lanes", [1, 4, 8])
def test_groups_hold_numbers_side_by_side_and_zeros_after_them(lanes: int) -> None:
    n = 10
    for count in range(3 * lanes + 1):
        values = np.arange(1, count * 2 * n + 1, dtype=np.uint64).reshape(count, 2, n)
        groups = side_by_side(values, lanes)
        assert groups.shape == (-(-count // lanes), 2, n, lanes)
        for i, number in enumerate(values):
            assert (groups[i // lanes, :, :, i % lanes] == number).all()
        assert groups.sum() == values.sum()
        assert (one_by_one(groups, count) == values).all()


@pytest.mark.parametrize("words", [1, 63, 1280, (1 << 18) - 1, 1 << 18, (1 << 18) + 5])
def test_arrays_are_aligned_and_can_be_written(words: int) -> None:
    arrays = [empty((words,)) for _ in range(5)]
    for fill, array in enumerate(arrays):
        array[...] = fill
    assert [array.ctypes.data % 64 for array in arrays] == [0] * 5
    assert [(array.shape, int(array.min()), int(array.max())) for array in arrays] == [
        ((words,), fill, fill) for fill in range(5)
    ]


# -- packs at rest ------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [512, 1024, 3072])
def test_groups_rest_without_gaps_and_come_back(backend: str, bits: int) -> None:
    ring = ring_of(backend, MODULI["all ones"](bits))
    pairs = edge_pairs(ring)
    groups = to_groups(ring, pairs)
    rows = ring.compress(groups)
    assert len(rows) == groups.size * ring._limb_bits // 8 + 64
    assert to_pairs(ring, ring.expand(rows, len(groups)), len(pairs)) == pairs
    whole = 0
    for position, limb in enumerate(groups[0, 0, :2].reshape(-1).tolist()):
        whole |= limb << position * ring._limb_bits
    size = 2 * ring.lanes * ring._limb_bits // 8
    assert bytes(rows[:size]) == whole.to_bytes(size, "little")


def test_all_ones_rest_as_all_ones(backend: str) -> None:
    ring = ring_of(backend, 3)
    groups = empty(ring.group_shape(3))
    groups[...] = (1 << ring._limb_bits) - 1
    rows = ring.compress(groups)
    assert (rows[:-64] == 255).all()
    assert (ring.expand(rows, 3) == groups).all()


def test_no_groups_rest_as_nothing(backend: str) -> None:
    ring = ring_of(backend, 3)
    rows = ring.compress(empty(ring.group_shape(0)))
    assert len(rows) == 64 and ring.expand(rows, 0).shape == ring.group_shape(0)
