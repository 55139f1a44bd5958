"""Classes as templates: the largest inner product is the class of the linear classifier, exactly, and rounding is
all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from veilmatch import Head
from veilmatch.client.capture.quantiser import quantise
from veilmatch.client.vectors.classes import ClassMap
from veilmatch.client.vectors.head import head_model
from veilmatch.crypto.errors import EmbeddingError, InvalidInputError, KeyFileError, ParameterError
from veilmatch.crypto.parameters import D128_COARSE, DEFAULT, ParameterSet

SMALL = ParameterSet(16, 126, 90, 1024)


def classifier(seed: int, classes: int, features: int, spread: float) -> tuple[np.ndarray, np.ndarray]:
    """Weights with something in common, of different lengths, and biases."""
    rng = np.random.default_rng(seed)
    lengths = np.exp(rng.normal(0, spread, (classes, 1)))
    w = rng.standard_normal((classes, features)) * lengths + rng.standard_normal(features)
    return w, 3 * rng.standard_normal(classes) + 100


def head(seed: int = 1, classes: int = 4, threshold: float = 0.4, parameters: ParameterSet = DEFAULT) -> Head:
    w, b = classifier(seed, classes, parameters.dimension - 2, 0.5)
    return Head("test", "model-1", parameters, threshold, tuple(f"class {k}" for k in range(classes)), w, b)


@given(st.integers(0, 2**32), st.integers(2, 12), st.floats(0, 2), st.floats(0.01, 0.8))
@settings(max_examples=60, deadline=None)
def test_scores_are_the_logits_up_to_a_common_scale_and_shift(seed: int, classes: int, spread: float, t: float) -> None:
    w, b = classifier(seed, classes, 126, spread)
    mapping, rng = ClassMap(DEFAULT, t), np.random.default_rng(seed + 1)
    templates = mapping.templates(w, b)
    assert np.linalg.norm(templates, axis=1) == pytest.approx(np.ones(classes)), "all equally long"
    scales = []
    for _ in range(5):
        embedding = rng.standard_normal(126)
        logits = w @ mapping.feature(embedding) + b
        scores = templates @ mapping.probe(embedding)
        assert int(np.argmax(scores)) == int(np.argmax(logits))
        assert scores.max() >= mapping.floor - 1e-9, "the best class reaches the floor, whatever the face"
        scales.append((scores.max() - scores.min()) / (logits.max() - logits.min()))
    assert scales == pytest.approx([scales[0]] * 5, rel=1e-6)


def test_the_radius_is_the_smallest_one() -> None:
    mapping = ClassMap(DEFAULT, 0.4)
    w, b = classifier(3, 5, 126, 1.0)
    R = mapping._radius(w - w.mean(axis=0), b - b.mean())
    w, b, beta = w - w.mean(axis=0), b - b.mean(), np.sqrt(mapping.floor)
    squares = np.sum(w**2, axis=1) / (1 - beta**2) + (b + mapping.floor * R) ** 2 / beta**2
    assert squares.max() == pytest.approx(R**2), "one class needs no padding"


@pytest.mark.parametrize("parameters", [DEFAULT, D128_COARSE])
@pytest.mark.parametrize("threshold", [0.02, 0.4])
def test_vectors_pass_the_window_of_norms_hardly_clipped(parameters: ParameterSet, threshold: float) -> None:
    made = head(threshold=threshold, parameters=parameters)
    rng = np.random.default_rng(8)
    vectors = [*made.templates(), *(made.map.probe(rng.standard_normal(128)) for _ in range(50))]
    for vector in vectors:
        q = quantise(vector, parameters)  # would raise outside
        assert np.count_nonzero(np.abs(q) == parameters.clip) <= 2
        assert abs(q @ q / parameters.scale**2 - 1) < 0.05


@pytest.mark.parametrize("parameters", [DEFAULT, D128_COARSE])
def test_rounding_errs_as_much_as_is_said(parameters: ParameterSet) -> None:
    made, rng, errors = head(2, 6, parameters=parameters), np.random.default_rng(9), []
    for _ in range(200):
        probe = made.map.probe(rng.standard_normal(128))
        errors.append(made.integers() @ quantise(probe, parameters) / parameters.scale**2 - made.templates() @ probe)
    assert np.std(errors) == pytest.approx(made.map.noise, rel=0.15)
    assert np.abs(errors).max() < 6 * made.map.noise


def test_integers_decide_as_floats_wherever_the_lead_is_larger_than_rounding() -> None:
    made, rng, clear = head(4, 5), np.random.default_rng(10), 0
    for _ in range(300):
        embedding = rng.standard_normal(128)
        scores = np.sort(made.templates() @ made.map.probe(embedding))
        if scores[-1] - scores[-2] > 8 * made.map.noise:
            clear += 1
            logits = made.weights @ made.map.feature(embedding) + made.biases
            assert made.classify(embedding) == made.classes[int(np.argmax(logits))]
    assert clear > 100


def test_fewer_coordinates_are_kept_as_they_are() -> None:
    feature = ClassMap(DEFAULT, 0.4).feature([3.0, 4.0])
    assert feature[:2] == pytest.approx([0.6, 0.8]) and not feature[2:].any() and len(feature) == 126
    assert np.linalg.norm(ClassMap(DEFAULT, 0.4).feature(np.ones(128))) == pytest.approx(1)


def test_what_is_no_head_is_refused() -> None:
    mapping = ClassMap(SMALL, 0.3)
    for weights, biases in (
        (np.ones((2, 13)), np.ones(2)),
        (np.ones((1, 14)), np.ones(1)),
        (np.ones((1001, 14)), np.ones(1001)),
        (np.ones((2, 14)), np.ones(3)),
        (np.full((2, 14), np.nan), np.ones(2)),
        (np.ones((2, 14)), np.ones(2)),
    ):
        with pytest.raises(InvalidInputError, match="head"):
            mapping.templates(weights, biases)
    for embedding in (np.ones((2, 2)), [], [np.inf, 1.0], "text"):
        with pytest.raises(EmbeddingError):
            mapping.probe(embedding)
    for parameters, threshold in ((DEFAULT, 0.95), (DEFAULT, 0.0), (ParameterSet(3, 126, 100, 1024), 0.4)):
        with pytest.raises(ParameterError):
            ClassMap(parameters, threshold)


def test_names_of_classes_and_heads() -> None:
    w, b = classifier(1, 2, 126, 0.1)
    for classes, name in ((("a",), "x"), (("a", "a"), "x"), (("a", ""), "x"), (("a", "b"), "x" * 25), (("a", "b"), "")):
        with pytest.raises(InvalidInputError):
            Head(name, "model-1", DEFAULT, 0.4, classes, w, b)
    assert len(head_model("x" * 30, "y" * 24, 0.425)) <= 64
    assert head_model("m", "mask", 0.4) != head_model("m", "mask", 0.5)


def test_a_head_is_saved_for_its_owner_alone(tmp_path: Path) -> None:
    made, path = head(), tmp_path / "x.head"
    path.touch(mode=0o644)
    made.save(path)
    assert path.stat().st_mode & 0o777 == 0o600
    again = Head.load(path)
    assert (again.name, again.model, again.classes) == (made.name, made.model, made.classes)
    assert np.array_equal(again.integers(), made.integers())
    assert "weights" not in repr(again) and "biases" not in repr(again)
    path.chmod(0o644)
    with pytest.raises(KeyFileError, match="open to others"):
        Head.load(path)


def test_what_is_no_file_of_a_head_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other"
    for data in (b"", b"no head", b"PK\x03\x04 no archive"):
        other.write_bytes(data)
        other.chmod(0o600)
        with pytest.raises(InvalidInputError, match="not a head"):
            Head.load(other)
    np.savez(tmp_path / "faces.npz", embeddings=np.ones((2, 128)))
    (tmp_path / "faces.npz").chmod(0o600)
    for path in (tmp_path / "faces.npz", tmp_path / "nothing", tmp_path):
        with pytest.raises((InvalidInputError, KeyFileError)):
            Head.load(path)
    with pytest.raises(InvalidInputError, match="cannot be written"):
        head().save(tmp_path / "no" / "x.head")
