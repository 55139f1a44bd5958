"""fuse and mean_view: inner products are what the documentation says, and bad input is told what is wrong with it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from veilmatch import fuse, mean_view
from veilmatch.client.capture.quantiser import quantise
from veilmatch.crypto.errors import EmbeddingError
from veilmatch.crypto.parameters import ParameterSet


def unit(rng: np.random.Generator, n: int) -> Any:
    vector = rng.standard_normal(n)
    return vector / np.linalg.norm(vector)


@given(st.integers(0, 2**32), st.lists(st.floats(0.01, 10), min_size=2, max_size=4))
@settings(max_examples=40, deadline=None)
def test_the_inner_product_is_the_weighted_sum_of_cosines(seed: int, weights: list[float]) -> None:
    rng = np.random.default_rng(seed)
    sizes = [16 + 5 * i for i in range(len(weights))]
    one, other = ([unit(rng, size) for size in sizes] for _ in range(2))
    shares = np.array(weights) / sum(weights)
    expected = sum(w * (a @ b) for w, a, b in zip(shares, one, other, strict=True))
    assert fuse(one, weights=weights) @ fuse(other, weights=weights) == pytest.approx(expected, abs=1e-9)


def test_only_directions_and_proportions_count() -> None:
    rng = np.random.default_rng(2)
    a, b = unit(rng, 128), unit(rng, 64)
    assert np.allclose(fuse([a, b], weights=[1, 3]), fuse([7 * a, 0.01 * b], weights=[2, 6]))
    assert np.allclose(fuse([a, b]), fuse([a, b], weights=[5, 5]))
    assert np.allclose(fuse([a, b], weights=[1e308, 1e308]), fuse([a, b]))


def test_a_part_without_weight_changes_nothing() -> None:
    rng = np.random.default_rng(3)
    a, b, c = unit(rng, 128), unit(rng, 64), unit(rng, 64)
    assert np.allclose(fuse([a, b], weights=[1, 0]), fuse([a, c], weights=[1, 0]))


@pytest.mark.parametrize("weights", [[0.99, 0.01], [0.5, 0.5], [0.02, 0.98]])
def test_fused_vectors_pass_the_window_unclipped(weights: list[float]) -> None:
    """Unspread, a block of few coordinates with most of the weight would be clipped."""
    rng, parameters = np.random.default_rng(4), ParameterSet(640, 120, 18)
    for _ in range(20):
        vector = fuse([unit(rng, 128), unit(rng, 512)], weights=weights, dimension=640)
        q = quantise(vector, parameters)
        assert np.count_nonzero(np.abs(q) == parameters.clip) <= 2
        assert abs(q @ q / parameters.scale**2 - 1) < 0.02


def test_the_mean_compares_as_the_mean_of_cosines() -> None:
    rng = np.random.default_rng(6)
    views, probe = [unit(rng, 128) for _ in range(3)], unit(rng, 128)
    mean = mean_view(views)
    length = np.linalg.norm(np.mean(views, axis=0))
    assert mean @ probe == pytest.approx(np.mean([view @ probe for view in views]) / length)
    assert np.allclose(mean_view([views[0]]), views[0])
    assert np.allclose(mean_view(views, weights=[1, 0, 0]), views[0])


@pytest.mark.parametrize(
    ("parts", "options", "says"),
    [
        ([], {}, "number of embeddings"),
        ("text", {}, "not a list"),
        (7, {}, "not a list"),
        (np.zeros(5), {}, "not a list"),
        ([[1.0, 2.0], [[1.0]]], {}, "another shape"),
        ([[1.0, 2.0], []], {}, "another shape"),
        ([[1.0, 2.0], [0.0, 0.0]], {}, "zero"),
        ([[1.0, 2.0], [np.nan, 0.0]], {}, "not finite"),
        ([[1.0, 2.0], ["a", "b"]], {}, "real numbers"),
        ([[1.0], [1.0]], {"weights": [1.0]}, "do not fit"),
        ([[1.0], [1.0]], {"weights": [1.0, -1.0]}, "0 or more"),
        ([[1.0], [1.0]], {"weights": [0.0, 0.0]}, "not all 0"),
        ([[1.0], [1.0]], {"weights": [np.inf, 1.0]}, "finite"),
        ([[1.0], [1.0]], {"weights": ["a", "b"]}, "do not fit"),
        ([[1.0], [1.0]], {"dimension": 0}, "coordinates"),
        ([[1.0] * 4000, [1.0] * 4000], {}, "too many coordinates"),
    ],
)
def test_what_is_no_fusion_is_refused(parts: Any, options: dict[str, Any], says: str) -> None:
    with pytest.raises(EmbeddingError, match=says):
        fuse(parts, **options)


def test_views_of_different_models_have_no_mean() -> None:
    with pytest.raises(EmbeddingError, match="one dimension"):
        mean_view([[1.0, 0.0], [1.0, 0.0, 0.0]])
    with pytest.raises(EmbeddingError, match="cancel out"):
        mean_view([[1.0, 0.0], [-1.0, 0.0]])


def test_errors_quote_no_value() -> None:
    with pytest.raises(EmbeddingError) as caught:
        fuse([[0.123456, np.nan]], weights=[0.987654])
    assert "0.123456" not in str(caught.value) and "0.987654" not in str(caught.value)
