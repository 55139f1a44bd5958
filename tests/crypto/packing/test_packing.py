"""Fields, lanes and slots: what is packed comes out again, also at every edge."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.crypto.toys import TOY, coordinates, repeated
from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.errors import ParameterError, ProtocolError
from veilmatch.crypto.packing import lanes, slots
from veilmatch.crypto.packing.fields import Array, cut, join
from veilmatch.crypto.parameters import D512, DEFAULT, ParameterSet

SETS = (TOY, ParameterSet(128, 60, 23, 1024), DEFAULT, D512)
MODULUS = (Integer(1) << 512) - 569


@st.composite
def fields_and_width(draw: st.DrawFn) -> tuple[list[int], int]:
    width = draw(st.one_of(st.sampled_from((1, 7, 8, 22, 23, 24, 31, 48, 62)), st.integers(1, 62)))
    top = 2**width - 1
    value = st.one_of(
        st.sampled_from((0, 1 & top, top, top - 1 if top > 1 else 0, 2 ** (width - 1))), st.integers(0, top)
    )
    return draw(st.lists(value, min_size=1, max_size=70)), width


@given(fields_and_width(), st.integers(0, 2**80))
def test_fields_come_out_as_they_went_in(given_: tuple[list[int], int], above: int) -> None:
    values, width = given_
    w = join(values, width)
    assert w == sum(v << (width * j) for j, v in enumerate(values))
    more = w + (Integer(above) << (width * len(values)))
    assert cut([w, more], width, len(values)).tolist() == [values, values]
    for low in {1, max(1, width - 1), width, width + 1}:
        assert cut([w], width, len(values), low).tolist() == [[v % 2**low for v in values]]


@given(st.lists(st.integers(-(2**40), 2**40), max_size=30), st.integers(1, 62))
def test_negative_values_are_joined_as_integers(values: list[int], width: int) -> None:
    assert join(values, width) == sum(v * 2 ** (width * j) for j, v in enumerate(values))


def test_cutting_takes_missing_bits_as_zero() -> None:
    assert cut([Integer(0)], 48, 3).tolist() == [[0, 0, 0]]
    assert cut([Integer(5), Integer(2)], 1, 4).tolist() == [[1, 0, 1, 0], [0, 1, 0, 0]]
    assert cut([], 48, 3).shape == (0, 3)


# -- lanes ----------------------------------------------------------------------------------------


def shares_of(plain: list[Integer], minus: list[Integer]) -> tuple[list[Integer], list[Integer]]:
    return [m + w for m, w in zip(plain, minus, strict=True)], minus


@pytest.mark.parametrize("parameters", SETS, ids=lambda p: p.name)
@pytest.mark.parametrize("what", ["c", "-c", "0", "alternating"])
@pytest.mark.parametrize("lane", ["0", "largest without risk"])
def test_lanes_of_extreme_vectors_are_exact_at_every_safe_share(parameters: ParameterSet, what: str, lane: str) -> None:
    c, D = parameters.clip, parameters.dimension
    values = {"c": [c], "-c": [-c], "0": [0], "alternating": [c, -c]}[what]
    vector = np.resize(np.array(values, dtype=np.int64), D)
    field = 0 if lane == "0" else 2**parameters.lane_bits - parameters.lane_risk - 1
    minus = [join([field] * parameters.lanes, parameters.lane_bits)] * parameters.lane_ciphertexts
    check_lanes(vector, minus, parameters)


@given(coordinates(TOY), st.data())
def test_lanes_are_exact_for_every_vector_and_safe_share(vector: Array, data: st.DataObject) -> None:
    safe = st.integers(0, 2**TOY.lane_bits - TOY.lane_risk - 1)
    minus = [
        join(data.draw(st.lists(safe, min_size=9, max_size=9)), TOY.lane_bits) for _ in range(TOY.lane_ciphertexts)
    ]
    check_lanes(vector, minus, TOY)


def check_lanes(vector: Array, minus: list[Integer], p: ParameterSet) -> None:
    plain = lanes.pack(vector, p)
    assert len(plain) == p.lane_ciphertexts and all(0 < m < Integer(1) << (p.modulus_bits - 65) for m in plain)
    parts = [lanes.unpack(w, p) for w in shares_of(plain, minus)]
    assert not lanes.at_risk(parts[1], p)
    assert np.array_equal(parts[0] - parts[1], vector + p.offset), "equal as integers, not only mod 2^46"
    ring = [lanes.ring_share(part, p, is_plus=i == 0) for i, part in enumerate(parts)]
    assert all(np.all((e >= 0) & (e < 2**p.ring_bits)) for e in ring)
    assert np.array_equal((ring[0] - ring[1] - vector) % 2**p.ring_bits, np.zeros_like(vector))


@pytest.mark.parametrize("at", [0, TOY.lanes - 1, TOY.lanes, TOY.dimension - 1])
def test_lane_is_at_risk_from_the_first_value_that_could_carry(at: int) -> None:
    fields = np.zeros(TOY.dimension, dtype=np.int64)
    fields[at] = 2**TOY.lane_bits - TOY.lane_risk - 1
    assert not lanes.at_risk(fields, TOY)
    fields[at] += 1
    assert lanes.at_risk(fields, TOY)
    fields[at] = 2**TOY.lane_bits - 1
    assert lanes.at_risk(fields, TOY)


def test_every_lane_that_carries_is_at_risk() -> None:
    largest, edge = 2 * TOY.clip + 1, 2**TOY.lane_bits
    for value in range(1, largest + 1):
        for field in range(edge - 2 * largest, edge):
            carries = field + value >= edge
            assert not carries or lanes.at_risk(np.array([field]), TOY)


@pytest.mark.parametrize("bits", [512, 1024])
def test_share_wraps_the_modulus_from_the_headroom_on(bits: int) -> None:
    N = (Integer(1) << bits) - 569
    edge = N - (Integer(1) << (bits - 64))
    assert not lanes.wraps_modulus([Integer(0), edge - 1], N)
    assert lanes.wraps_modulus([Integer(0), edge], N)
    assert lanes.wraps_modulus([N - 1, Integer(0)], N)
    assert not lanes.wraps_modulus([], N)


@pytest.mark.parametrize("parameters", SETS, ids=lambda p: p.name)
def test_no_packed_plaintext_wraps_a_share_below_the_headroom(parameters: ParameterSet) -> None:
    N = (Integer(1) << (parameters.modulus_bits - 1)) + 1  # the smallest
    largest = max(*lanes.pack(repeated(parameters.clip, parameters), parameters), slots.half(parameters) * 2 - 1)
    edge = N - (Integer(1) << (parameters.modulus_bits - 64))
    assert edge - 1 + largest < N


def test_ring_wraps_are_counted_from_c_below_the_wrap_point_to_c_above() -> None:
    c, size = TOY.clip, 1 << TOY.ring_bits
    inside, outside = [0, c - 1, size - c, size - 1], [c, size // 2, size - c - 1]
    assert [lanes.wraps_at_risk(np.array([e]), TOY) for e in inside] == [1, 1, 1, 1]
    assert [lanes.wraps_at_risk(np.array([e]), TOY) for e in outside] == [0, 0, 0]
    assert lanes.wraps_at_risk(np.array(inside + outside), TOY) == 4


def test_every_share_that_wraps_the_ring_is_counted() -> None:
    c, size = TOY.clip, 1 << TOY.ring_bits
    for e in range(size):
        wraps = any(not 0 <= e + q < size for q in range(-c, c + 1))
        assert wraps <= bool(lanes.wraps_at_risk(np.array([e]), TOY))


@pytest.mark.parametrize("count", [0, 1, 3, 5])
def test_lanes_of_half_a_vector_are_refused(count: int) -> None:
    with pytest.raises(ProtocolError):
        lanes.unpack([Integer(0)] * count, TOY)


def test_lanes_of_several_vectors_come_out_in_order() -> None:
    vectors = [repeated(x, TOY) for x in (1, -2, 3)]
    shares = [w for v in vectors for w in lanes.pack(v, TOY)]
    assert lanes.unpack(shares, TOY).tolist() == [x + TOY.offset for v in vectors for x in v.tolist()]


# -- slots ------------------------------------------------------------------------------------------


@given(st.data())
@settings(max_examples=40)
def test_slots_hold_twice_the_score_and_a_carry(data: st.DataObject) -> None:
    p, k = TOY, TOY.ring_bits
    count = data.draw(st.sampled_from((1, 2, p.slots - 1, p.slots)))
    templates = np.array([data.draw(coordinates(p)) for _ in range(count)])
    probe = data.draw(coordinates(p))
    plain = sum(m * int(q) for m, q in zip(slots.pack(templates, p), probe, strict=True)) + slots.half(p)
    assert 0 <= plain < Integer(1) << (p.slots * p.slot_bits)
    minus = Integer(data.draw(st.integers(0, 2 ** (p.modulus_bits - 65))))
    fields = [slots.unpack([w], p)[0] for w in (plain + minus, minus)]
    carry = (fields[0] - fields[1])[:count] - 2 * (templates @ probe)
    assert set((carry % 2**k).tolist()) <= {0, 1}


def test_results_of_several_packs_are_rows() -> None:
    shares = [Integer(0), join(range(TOY.slots), TOY.slot_bits)]
    assert slots.unpack(shares, TOY).tolist() == [[0] * TOY.slots, list(range(TOY.slots))]
    assert slots.unpack([], TOY).shape == (0, TOY.slots)


@given(
    coordinates(TOY),
    st.lists(st.integers(0, 2**TOY.lane_bits - 1 - 2 * TOY.clip - 1), min_size=12, max_size=12),
    st.data(),
)
def test_columns_of_both_matchers_add_up_to_the_template_in_its_slot(
    vector: Array, minus: list[int], data: st.DataObject
) -> None:
    slot = data.draw(st.sampled_from((0, 1, TOY.slots - 1)))
    parts = {True: np.array(minus) + vector + TOY.offset, False: np.array(minus)}
    for erase in (False, True):
        columns = [slots.lane_column(parts[r], slot, TOY, is_plus=r, erase=erase) for r in (True, False)]
        sign = -2 if erase else 2
        expected = [sign * int(x) << (TOY.slot_bits * slot) for x in vector]
        assert [a + b for a, b in zip(*columns, strict=True)] == expected


@pytest.mark.parametrize("shape", [(TOY.slots + 1, 12), (1, 11), (1, 13), (12,), (1, 12, 1)])
def test_templates_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ParameterError):
        slots.pack(np.zeros(shape, dtype=np.int64), TOY)
