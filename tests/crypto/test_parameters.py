"""Parameter sets: every bound of docs/parameters.md holds, and nothing is larger than it must be."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from tests.vectors.generate import binomial_tail, parameter_numbers
from veilmatch.crypto.errors import ParameterError, VeilmatchError
from veilmatch.crypto.packing import lanes
from veilmatch.crypto.parameters import D128_COARSE, D512, DEFAULT, SUBGROUP_BITS, ParameterSet


@st.composite
def parameter_sets(draw: st.DrawFn) -> ParameterSet:
    """Sets over the whole accepted range, often at its edges."""
    D = draw(st.one_of(st.sampled_from((1, 2, 127, 128, 129, 512, 4095, 4096)), st.integers(1, 4096)))
    S = draw(st.one_of(st.sampled_from((4, 5, 40, 60, 1023, 1024)), st.integers(4, 1024)))
    top = min(S, 1023)
    c = draw(st.one_of(st.sampled_from((1, 2, top // 2, top)), st.integers(1, top)))
    bits, lane_bits = draw(st.sampled_from(sorted(SUBGROUP_BITS))), draw(st.sampled_from((46, 48)))
    return ParameterSet(D, S, c, bits, lane_bits)


@given(parameter_sets())
@settings(max_examples=150, deadline=None)
@example(DEFAULT)
@example(D512)
@example(ParameterSet(4096, 4, 4, 512))
@example(ParameterSet(1, 1024, 1023, 3072))
def test_every_number_is_that_of_exact_arithmetic(p: ParameterSet) -> None:
    expected = parameter_numbers(p.dimension, p.scale, p.clip, p.modulus_bits, p.lane_bits)
    assert (p.name, p.ring_bits, p.norm_max, p.wrap_limit, p.slot_bits) == tuple(
        expected[x] for x in ("name", "k", "M", "W", "B")
    )
    assert (p.lanes, p.lane_ciphertexts, p.slots) == tuple(expected[x] for x in ("lanes", "lane_ciphertexts", "slots"))


@given(parameter_sets())
@settings(max_examples=150, deadline=None)
def test_bounds_of_the_design_hold_and_are_tight(p: ParameterSet) -> None:
    S, c, k, M, W, B = p.scale, p.clip, p.ring_bits, p.norm_max, p.wrap_limit, p.slot_bits
    assert 2 * (M + S * S) + 1 < 2 ** (k - 1) <= 2 * (M + 1 + S * S) + 1, "M is the largest that k admits"
    assert 2 * (M + 2**k * c * W) < 2 ** (B - 1)
    assert not 2 * (M + 2**k * c * W) < 2 ** (B - 2) or k + 1 == B, "B is the smallest"
    assert S * S / 2 - 1 < p.norm_min <= S * S <= M
    assert p.lanes * p.lane_bits <= p.modulus_bits - 65 < (p.lanes + 1) * p.lane_bits
    assert p.slots * B <= p.modulus_bits - 65 < (p.slots + 1) * B
    assert p.lanes * (p.lane_ciphertexts - 1) < p.dimension <= p.lanes * p.lane_ciphertexts
    assert p.offset + c < p.lane_risk, "no value of a lane reaches over the risk zone"


@given(parameter_sets())
@settings(max_examples=60, deadline=None)
def test_name_is_content(p: ParameterSet) -> None:
    assert ParameterSet.from_name(p.name) == p
    assert p.name.startswith("UNSAFE-") == (p.modulus_bits not in (2048, 3072))


@given(parameter_sets())
@settings(max_examples=60, deadline=None)
def test_a_common_mask_is_found_after_a_few_draws(p: ParameterSet) -> None:
    chance = 1 - binomial_tail(p.dimension, Decimal(2 * p.clip) / 2**p.ring_bits, p.wrap_limit)
    assert chance > 0.01


@pytest.mark.parametrize(("p", "log2"), [(DEFAULT, -32.26), (D512, -26.69)], ids=["default", "D512"])
def test_a_fresh_mask_is_as_rare_as_it_says_and_a_real_excess_of_wraps_rarer(p: ParameterSet, log2: float) -> None:
    every_value = np.arange(1 << p.ring_bits, dtype=np.int64)
    risk = Fraction(lanes.wraps_at_risk(every_value, p), len(every_value))
    assert risk == Fraction(2 * p.clip, 1 << p.ring_bits)
    exact = sum(
        math.comb(p.dimension, i) * risk**i * (1 - risk) ** (p.dimension - i)
        for i in range(p.wrap_limit + 1, p.dimension + 1)
    )
    assert p.mask_probability == pytest.approx(float(exact), rel=1e-9)
    assert math.log2(exact) == pytest.approx(log2, abs=0.01)
    mean = Decimal(p.dimension * p.norm_max).sqrt() / 2**p.ring_bits
    assert binomial_tail(p.dimension, mean / p.dimension, p.wrap_limit) < Decimal(2) ** -40


@pytest.mark.parametrize("parameters", [DEFAULT, D512], ids=lambda p: p.name)
@pytest.mark.parametrize("digits", [1, 2, 3])
def test_threshold_is_the_ceiling_of_the_cosine_as_it_is_written(parameters: ParameterSet, digits: int) -> None:
    scale = 10**digits
    wrong = {
        written: parameters.threshold(float(written))
        for written in (f"{n / scale:.{digits}f}" for n in range(1, scale + 1))
        if parameters.threshold(float(written)) != math.ceil(Fraction(written) * parameters.scale**2)
    }
    assert wrong == {}


@pytest.mark.parametrize("cosine", [0.0, -0.0, -1e-9, -0.5, 1.0000001, 2, 1e300, float("nan"), math.inf, -math.inf])
def test_cosine_without_a_threshold_is_refused(cosine: float) -> None:
    with pytest.raises(ParameterError):
        DEFAULT.threshold(cosine)


def test_smallest_threshold_is_one_and_the_largest_is_the_whole_norm() -> None:
    assert DEFAULT.threshold(5e-324) == 1
    assert DEFAULT.threshold(1.0) == DEFAULT.threshold_max == 15876


@pytest.mark.parametrize("parameters", [DEFAULT, D512, ParameterSet(128, 60, 23, 512), ParameterSet(16, 5, 4, 512)])
def test_a_cosine_is_turned_back_into_the_very_threshold(parameters: ParameterSet) -> None:
    for t in range(1, parameters.threshold_max + 1):
        assert parameters.threshold(parameters.cosine(t)) == t


def test_a_cosine_has_no_more_decimals_than_it_needs() -> None:
    assert D128_COARSE.cosine(1440) == 0.4
    assert len(str(D128_COARSE.cosine(1379))) <= len("0.3830")


@pytest.mark.parametrize("t", [0, -1, DEFAULT.threshold_max + 1])
def test_threshold_without_a_cosine_is_refused(t: int) -> None:
    with pytest.raises(ParameterError):
        DEFAULT.cosine(t)


@given(st.text(max_size=40))
@example("d" + "9" * 5000 + "-s60-c23-n3072")
@example("d128-s60-c23-n" + "0" * 5000)
def test_text_that_is_no_name_is_refused(text: str) -> None:
    assume(text not in (DEFAULT.name, D512.name))
    with pytest.raises(VeilmatchError):
        ParameterSet.from_name(text)


@pytest.mark.parametrize("field", ["dimension", "scale", "clip", "modulus_bits", "lane_bits"])
def test_parameter_set_cannot_be_changed(field: str) -> None:
    with pytest.raises(AttributeError):
        setattr(ParameterSet(), field, 4)
