"""The orthonormal map: lengths and inner products stay, coordinates become even, and it is the same everywhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from veilmatch.client.vectors.spreading import spread
from veilmatch.crypto.errors import EmbeddingError


@given(st.integers(1, 40), st.integers(0, 60), st.integers(0, 2**32))
@settings(max_examples=50, deadline=None)
def test_inner_products_stay(n: int, more: int, seed: int) -> None:
    a, b = np.random.default_rng(seed).standard_normal((2, n))
    x, y = (spread(v, n + more, "test") for v in (a, b))
    assert x.shape == (n + more,)
    assert x @ y == pytest.approx(a @ b, abs=1e-9)


def test_the_map_is_the_same_everywhere() -> None:
    """Devices that disagreed about it could not compare: these numbers are of the first implementation."""
    made = spread(np.array([1.0, 0.0]), 4, "known answer")
    assert made == pytest.approx([0.085834046054, 0.538523289216, 0.388602451563, -0.742706751114], abs=1e-9)
    assert not np.allclose(made, spread(np.array([1.0, 0.0]), 4, "another purpose"))


def test_a_constant_is_spread_over_all_coordinates() -> None:
    one = np.zeros(128)
    one[0] = 1
    assert np.abs(spread(one, 128, "test")).max() < 38 / 126, "nothing is clipped"


def test_a_projection_leaves_the_error_that_is_documented() -> None:
    rng = np.random.default_rng(5)
    vectors = rng.standard_normal((60, 640))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    first, second = np.triu_indices(60, 1)
    for dimension, expected in ((512, 0.0197), (128, 0.079)):
        small = np.array([spread(vector, dimension, "test") for vector in vectors])
        small /= np.linalg.norm(small, axis=1, keepdims=True)
        error = ((small @ small.T) - (vectors @ vectors.T))[first, second]
        assert np.std(error) == pytest.approx(expected, rel=0.1)


def test_sizes_out_of_range_are_refused() -> None:
    for vector, dimension in ((np.zeros(0), 4), (np.zeros(4), 0), (np.zeros(4), 4097), (np.zeros(4097), 4)):
        with pytest.raises(EmbeddingError, match="coordinates"):
            spread(vector, dimension, "test")
