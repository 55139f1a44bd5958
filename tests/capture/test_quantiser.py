"""The quantiser: exact integers inside the promised bounds, and errors that tell sizes but no values."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from veilmatch.client.capture.quantiser import quantise
from veilmatch.crypto.errors import EmbeddingError
from veilmatch.crypto.parameters import D512, DEFAULT, ParameterSet

SMALL = ParameterSet(dimension=4, scale=60, clip=60, modulus_bits=512)
face_like = st.integers(0, 2**32).map(lambda seed: np.random.default_rng(seed).standard_normal(DEFAULT.dimension))
any_vector = arrays(np.float64, DEFAULT.dimension, elements=st.floats(allow_nan=False, allow_infinity=False))


@given(face_like, st.sampled_from([1e-300, 1e-3, 1.0, 7.0, 1e300]))
def test_every_coordinate_is_the_rounded_and_clipped_multiple(vector: np.ndarray, length: float) -> None:
    q = quantise(vector * length, DEFAULT)
    norm = math.sqrt(sum(Fraction(v) ** 2 for v in vector.tolist()))
    assert q.dtype == np.int64
    for got, value in zip(q.tolist(), vector.tolist(), strict=True):
        exact = DEFAULT.scale * value / norm
        assert got == max(-DEFAULT.clip, min(DEFAULT.clip, round(exact))) or abs(exact % 1 - 0.5) < 1e-9


@given(any_vector)
def test_any_vector_gives_bounded_integers_or_an_embedding_error(vector: np.ndarray) -> None:
    try:
        q = quantise(vector, DEFAULT)
    except EmbeddingError:
        return
    assert np.abs(q).max() <= DEFAULT.clip
    assert DEFAULT.norm_min <= int(q @ q) <= DEFAULT.norm_max


@given(face_like)
def test_the_opposite_direction_gives_the_opposite_integers(vector: np.ndarray) -> None:
    np.testing.assert_array_equal(quantise(-vector, DEFAULT), -quantise(vector, DEFAULT))


@given(face_like, st.integers(1, 40))
def test_only_the_direction_counts(vector: np.ndarray, power: int) -> None:
    np.testing.assert_array_equal(quantise(vector * 2.0**power, DEFAULT), quantise(vector, DEFAULT))


@given(face_like, face_like)
def test_an_integer_score_is_close_to_the_cosine(a: np.ndarray, b: np.ndarray) -> None:
    assume(max(np.abs(v / np.linalg.norm(v)).max() for v in (a, b)) < DEFAULT.clip / DEFAULT.scale)
    score = int(quantise(a, DEFAULT) @ quantise(b, DEFAULT)) / DEFAULT.scale**2
    cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    # Rounding moves a vector by at most sqrt(D)/2 in length S, for each of the two.
    bound = np.sqrt(DEFAULT.dimension) / DEFAULT.scale
    assert abs(score - cosine) <= bound + bound**2 / 4


def test_known_answer_with_halves_to_even() -> None:
    assert quantise([3.0, 4.0, 0.0, 0.0], SMALL).tolist() == [36, 48, 0, 0]
    # 60 * (0.5, 0.5, 0.5, 0.5) is whole; 15 * the same is 7.5 and goes to the even 8.
    halves = ParameterSet(dimension=4, scale=15, clip=15, modulus_bits=512)
    assert quantise([1, 1, 1, -1], halves).tolist() == [8, 8, 8, -8]


def test_a_large_coordinate_is_clipped_and_its_sign_kept() -> None:
    vector = np.ones(DEFAULT.dimension)
    vector[3], vector[7] = -6.0, 6.0
    q = quantise(vector, DEFAULT)
    assert (q[3], q[7]) == (-DEFAULT.clip, DEFAULT.clip)


@pytest.mark.parametrize("parameters", [DEFAULT, D512], ids=lambda p: p.name)
def test_a_direction_along_few_axes_is_below_the_norm_window(parameters: ParameterSet) -> None:
    below = (parameters.norm_min - 1) // parameters.clip**2
    vector = np.zeros(parameters.dimension)
    vector[: below + 1] = 1.0
    assert int(quantise(vector, parameters).max()) == parameters.clip
    vector[below] = 0.0
    with pytest.raises(EmbeddingError, match=f"{parameters.norm_min} to {parameters.norm_max}"):
        quantise(vector, parameters)


def test_a_vector_that_rounding_inflates_is_above_the_norm_window() -> None:
    # Every coordinate is just above one half and rounds to 1: the squared norm becomes 1023 instead of 256.
    inflated = ParameterSet(dimension=1023, scale=16, clip=16, modulus_bits=512)
    assert inflated.norm_max < inflated.dimension
    with pytest.raises(EmbeddingError, match="squared norm"):
        quantise(np.ones(inflated.dimension), inflated)


@pytest.mark.parametrize("shape", [(127,), (129,), (512,), (0,), (), (1, 128), (128, 1)], ids=str)
def test_another_dimension_is_refused_with_got_and_expected(shape: tuple[int, ...]) -> None:
    with pytest.raises(EmbeddingError) as caught:
        quantise(np.ones(shape), DEFAULT)
    assert caught.value.got == f"numbers of shape {shape}"
    assert caught.value.expected == "128 numbers, of shape (128,)"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("position", [0, 64, 127])
def test_a_value_that_is_not_finite_is_refused(bad: float, position: int) -> None:
    vector = np.ones(128)
    vector[position] = bad
    with pytest.raises(EmbeddingError, match="not finite"):
        quantise(vector, DEFAULT)


def test_a_zero_vector_is_refused() -> None:
    for zero in (0.0, -0.0):
        with pytest.raises(EmbeddingError, match="zero"):
            quantise(np.full(128, zero), DEFAULT)


@pytest.mark.parametrize(
    "vector",
    [["1"] * 128, [True] * 128, [1j] * 128, [None] * 128, [[1.0], [2.0, 3.0]], "embedding", None],
    ids=["str", "bool", "complex", "none", "ragged", "text", "nothing"],
)
def test_what_is_not_a_row_of_real_numbers_is_refused(vector: object) -> None:
    with pytest.raises(EmbeddingError):
        quantise(vector, DEFAULT)  # type: ignore[arg-type]


def test_integers_and_single_precision_are_accepted() -> None:
    whole = np.arange(1, 129)
    expected = quantise(whole.astype(np.float64), DEFAULT)
    np.testing.assert_array_equal(quantise(whole, DEFAULT), expected)
    np.testing.assert_array_equal(quantise(whole.astype(np.float32), DEFAULT), expected)
    np.testing.assert_array_equal(quantise(whole.tolist(), DEFAULT), expected)


@pytest.mark.parametrize("make", [lambda v: v[:-1], lambda v: np.append(v[:-1], np.nan), lambda v: v * (v == v.max())])
def test_no_error_quotes_a_value_of_the_embedding(make: object) -> None:
    vector = np.random.default_rng(5).standard_normal(128)
    with pytest.raises(EmbeddingError) as caught:
        quantise(make(vector), DEFAULT)  # type: ignore[operator]
    text = f"{caught.value!r} {caught.value} {caught.value.fields()}"
    assert not re.search(r"\d\.\d", text)
    assert not any(str(abs(v))[:5] in text for v in vector)


def test_the_quantiser_imports_neither_pillow_nor_onnxruntime() -> None:
    program = (
        "import sys, veilmatch.client.models;"
        "import veilmatch.client.capture.quantiser, veilmatch.client.capture.pipeline;"
        "print([m for m in ('PIL', 'onnxruntime', 'onnx') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


# -- arrays of other classes and types -------------------------------------------------------------------


class _Tensor:
    """A tensor of a library that will not hand its values out."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __array__(self, *_: object, **__: object) -> np.ndarray:
        raise self.error


class _Wrapped(np.ndarray):
    def __getitem__(self, key: object) -> object:
        raise RuntimeError("0.123")


REAL = ["<f2", ">f2", "<f4", ">f4", "<f8", ">f8", "g", "<i2", ">i4", "<i8", ">u8", "u1"]


@given(
    face_like, st.sampled_from(REAL), st.sampled_from(["whole", "gaps", "backwards", "read-only", "subclass", "list"])
)
def test_values_count_and_not_their_type_order_or_layout(vector: np.ndarray, kind: str, layout: str) -> None:
    scaled = np.abs(vector) * 50 + 1 if np.dtype(kind).kind in "iu" else vector
    given_array = scaled.astype(kind)
    expected = quantise([float(v) for v in given_array], DEFAULT)
    wide = np.repeat(given_array, 2)
    wide.flags.writeable = layout != "read-only"
    laid_out = {
        "whole": given_array,
        "gaps": wide[::2],
        "backwards": given_array[::-1].copy()[::-1],
        "read-only": wide[::2],
        "subclass": given_array.view(_Wrapped),
        "list": given_array.tolist(),
    }[layout]
    np.testing.assert_array_equal(quantise(laid_out, DEFAULT), expected)


@pytest.mark.parametrize(
    "error",
    [RuntimeError("0.123"), TypeError("0.123"), ValueError("0.123"), MemoryError(), KeyError("0.123"), Warning()],
)
def test_what_another_library_raises_is_an_embedding_error_without_its_text(error: Exception) -> None:
    with pytest.raises(EmbeddingError, match="cannot be read as an array") as caught:
        quantise(_Tensor(error), DEFAULT)  # type: ignore[arg-type]
    assert (caught.value.got, "0.123" in f"{caught.value} {caught.value!r}") == ("_Tensor", False)


def test_an_interrupt_is_none_of_these() -> None:
    with pytest.raises(KeyboardInterrupt):
        quantise(_Tensor(KeyboardInterrupt()), DEFAULT)  # type: ignore[arg-type]


ONES = np.ones(128)


@pytest.mark.filterwarnings("ignore:the matrix subclass")
@pytest.mark.parametrize(
    "vector",
    [
        np.asmatrix(ONES),
        ONES[None],
        ONES.astype(complex),
        ONES.astype(object),
        ONES.astype(bool),
        ONES.astype(str),
        ONES.astype("S3"),
        ONES.astype("datetime64[s]"),
        ONES.astype("timedelta64[s]"),
        ONES.astype([("x", "f8")]),
        np.ma.MaskedArray(ONES, np.arange(128) == 5),
        np.array(1.0),
        np.array(None),
        (i for i in range(128)),
        dict.fromkeys(range(128), 1.0),
        bytes(128),
        [Fraction(1)] * 128,
    ],
    ids=lambda v: f"{type(v).__name__}-{getattr(v, 'dtype', '')}"[:30],
)
def test_what_is_no_plain_row_of_numbers_is_refused(vector: object) -> None:
    with pytest.raises(EmbeddingError):
        quantise(vector, DEFAULT)  # type: ignore[arg-type]


def test_a_masked_array_that_hides_nothing_is_a_row_of_numbers() -> None:
    np.testing.assert_array_equal(quantise(np.ma.MaskedArray(ONES), DEFAULT), quantise(ONES, DEFAULT))


def test_values_beyond_float64_are_not_finite() -> None:
    huge = np.ones(128, np.longdouble) * np.finfo(np.longdouble).max
    with pytest.raises(EmbeddingError, match="not finite"):
        quantise(huge, DEFAULT)


def test_what_numpy_is_told_to_do_about_underflow_does_not_count() -> None:
    vector = np.random.default_rng(6).standard_normal(128)
    vector[::3] *= 1e-310
    expected = quantise(vector, DEFAULT)
    with np.errstate(all="raise"):
        np.testing.assert_array_equal(quantise(vector, DEFAULT), expected)
        with pytest.raises(EmbeddingError, match="not finite"):
            quantise(np.full(128, np.finfo(np.longdouble).max), DEFAULT)
