"""Alignment: similarities are recovered exactly, and the crop follows OpenCV's pixel convention."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from veilmatch.client.capture.alignment import ARCFACE_POINTS, CROP_SIZE, align, similarity
from veilmatch.crypto.errors import InvalidInputError

coordinates = st.floats(-1000, 1000)
landmark_sets = arrays(np.float64, (5, 2), elements=coordinates)


def apply(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ matrix[:, :2].T + matrix[:, 2]


def residual(matrix: np.ndarray, source: np.ndarray, target: np.ndarray) -> float:
    return float(((apply(matrix, source) - target) ** 2).sum())


@given(landmark_sets, st.floats(-np.pi, np.pi), st.floats(0.05, 20), coordinates, coordinates)
def test_a_similarity_is_recovered_exactly(
    source: np.ndarray, angle: float, scale: float, dx: float, dy: float
) -> None:
    assume(source.std(axis=0).max() > 1)
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    expected = np.column_stack([turn, [dx, dy]])
    np.testing.assert_allclose(similarity(source, apply(expected, source)), expected, rtol=0, atol=1e-7)


@given(landmark_sets, st.lists(st.floats(-0.1, 0.1), min_size=4, max_size=4))
def test_no_other_similarity_is_nearer(source: np.ndarray, change: list[float]) -> None:
    assume(source.std(axis=0).max() > 1)
    try:
        best = similarity(source, ARCFACE_POINTS)
    except InvalidInputError:
        assume(False)
    a, b, dx, dy = change
    other = best + np.array([[a, -b, dx], [b, a, dy]])
    assert residual(best, source, ARCFACE_POINTS) <= residual(other, source, ARCFACE_POINTS) + 1e-6


def test_the_matrix_of_uneven_landmarks_is_that_of_umeyama() -> None:
    # From an independent implementation by singular value decomposition.
    source = np.array([[100.0, 120], [180, 130], [138, 170], [105, 215], [170, 222]])
    expected = [[0.435705, 0.029291, -9.383], [-0.029291, 0.435705, 1.280553]]
    np.testing.assert_allclose(similarity(source, ARCFACE_POINTS), expected, atol=1e-6)


@pytest.mark.parametrize(
    "source",
    [
        np.full((5, 2), 7.0),
        np.full((5, 2), np.nan),
        np.array([[0, 0], [1, 1], [2, np.inf], [3, 3], [4, 4]]),
        np.zeros((4, 2)),
        np.zeros((5, 3)),
    ],
    ids=["one point", "nan", "inf", "four points", "three coordinates"],
)
def test_landmarks_that_fix_no_similarity_are_refused(source: np.ndarray) -> None:
    with pytest.raises(InvalidInputError):
        similarity(source, ARCFACE_POINTS)


def test_a_face_already_in_place_is_returned_unchanged(noise: np.ndarray) -> None:
    face = np.ascontiguousarray(noise[:CROP_SIZE, :CROP_SIZE])
    np.testing.assert_array_equal(align(face, ARCFACE_POINTS), face)


def test_a_shifted_face_is_cut_out_up_to_rounding(noise: np.ndarray) -> None:
    crop = align(noise, ARCFACE_POINTS + np.array([40, 25]))
    expected = noise[25 : 25 + CROP_SIZE, 40 : 40 + CROP_SIZE]
    assert np.abs(crop.astype(int) - expected).max() <= 1


def test_a_quarter_turn_is_undone_exactly(noise: np.ndarray) -> None:
    face = np.ascontiguousarray(noise[:CROP_SIZE, :CROP_SIZE])
    turned = np.ascontiguousarray(np.rot90(face))  # pixel (x, y) goes to (y, 111 - x)
    landmarks = np.column_stack([ARCFACE_POINTS[:, 1], CROP_SIZE - 1 - ARCFACE_POINTS[:, 0]])
    np.testing.assert_array_equal(align(turned, landmarks), face)


@pytest.mark.parametrize("factor", [2, 3, 5])
def test_a_large_face_is_averaged_and_not_sampled(noise: np.ndarray, factor: int) -> None:
    face = np.ascontiguousarray(noise[:CROP_SIZE, :CROP_SIZE])
    large = np.kron(face, np.ones((factor, factor, 1), np.uint8))
    large[::2, ::2] ^= 4  # detail finer than the crop
    landmarks = (ARCFACE_POINTS + 0.5) * factor - 0.5
    assert np.abs(align(large, landmarks).astype(int) - face).max() <= 4


def test_the_crop_is_black_outside_the_photo() -> None:
    photo = np.full((50, 50, 3), 200, np.uint8)
    crop = align(photo, ARCFACE_POINTS - np.array([100, 0]))
    assert (crop[:, :99] == 0).all()
    assert (crop[:49, 101:] == 200).all()
    assert (crop[51:] == 0).all()


def test_landmarks_move_to_the_five_points(noise: np.ndarray) -> None:
    # White dots on black: after alignment each lies within a pixel of its target.
    angle, scale = 0.3, 1.8
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    landmarks = ARCFACE_POINTS @ turn.T + [90, 40]
    photo = np.zeros((320, 320, 3), np.uint8)
    rows, columns = np.indices((320, 320))
    for x, y in landmarks:
        photo[(columns - x) ** 2 + (rows - y) ** 2 <= 9] = 255
    bright = np.asarray(Image.fromarray(align(photo, landmarks)).convert("L")).astype(float)
    for x, y in ARCFACE_POINTS:
        window = bright[round(y) - 4 : round(y) + 5, round(x) - 4 : round(x) + 5]
        dy, dx = np.indices(window.shape)
        centre = np.array([(window * dx).sum(), (window * dy).sum()]) / window.sum() + [
            round(x) - 4,
            round(y) - 4,
        ]
        assert np.abs(centre - [x, y]).max() < 0.3
