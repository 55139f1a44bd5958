"""Degradations: seeded, stronger where they say so, and of the size of the photo."""

from __future__ import annotations

import numpy as np
import pytest

from veilmatch.client.evaluation.data.degrade import DEGRADATIONS, TURNS, Degradation, Place, hard

PLACE = Place(x=60, y=50, width=60, height=70)
BY_NAME = pytest.mark.parametrize("degradation", DEGRADATIONS, ids=lambda d: d.name)


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    """Smooth shapes in several colours, so that every degradation has something to change."""
    rows, columns = np.indices((100, 120))
    waves = [120 + 90 * np.sin(rows / 7 + k) * np.cos(columns / (5 + k)) for k in range(3)]
    return np.stack(waves, axis=-1).astype(np.uint8)


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sqrt(np.mean((a.astype(float) - b) ** 2)))


@BY_NAME
def test_every_strength_changes_the_photo_and_keeps_its_shape(degradation: Degradation, photo: np.ndarray) -> None:
    assert len(degradation.strengths) >= 3
    before = photo.copy()
    for strength in degradation.strengths:
        worse = degradation(photo, PLACE, strength, (1, 0))
        assert worse.shape == photo.shape and worse.dtype == np.uint8
        assert distance(photo, worse) > 0
    assert np.array_equal(photo, before), "the photo itself stays as it is"


@BY_NAME
def test_strengths_are_ordered_from_mild_to_strong(degradation: Degradation, photo: np.ndarray) -> None:
    distances = [distance(photo, degradation(photo, PLACE, s, (1, 0))) for s in degradation.strengths]
    assert distances[0] < distances[-1]


@BY_NAME
def test_a_seed_makes_the_same_photo_again(degradation: Degradation, photo: np.ndarray) -> None:
    strength = degradation.strengths[-1]
    first, again = (degradation(photo, PLACE, strength, (1, 5)) for _ in range(2))
    assert np.array_equal(first, again)


@pytest.mark.parametrize("name", ["rotation", "elastic deformation", "occlusion"])
def test_photos_differ_in_what_is_random(name: str, photo: np.ndarray) -> None:
    (degradation,) = [d for d in DEGRADATIONS if d.name == name]
    made = [degradation(photo, PLACE, degradation.strengths[0], (1, number)) for number in range(6)]
    assert len({photo.tobytes() for photo in made}) > 1


@pytest.mark.parametrize("turn", TURNS, ids=lambda d: d.name)
def test_turns_differ_in_nothing_but_the_turn(turn: Degradation, photo: np.ndarray) -> None:
    backs = [np.rot90(turn(photo, PLACE, degrees, (1, 0)), -degrees // 90) for degrees in turn.strengths]
    assert len(backs) == 3
    assert all(np.array_equal(back, backs[0]) for back in backs)
    assert np.array_equal(backs[0], photo) == (turn.name == "turn")


def test_occlusion_covers_the_share_it_says() -> None:
    (cover,) = [d for d in DEGRADATIONS if d.name == "occlusion"]
    for strength in cover.strengths:
        covered = np.any(cover(np.zeros((100, 120, 3), np.uint8), PLACE, strength, (1, 0)) != 0, axis=-1)
        assert covered.sum() == pytest.approx(strength / 100 * PLACE.width * PLACE.height, rel=0.1)


def test_low_resolution_never_sharpens(photo: np.ndarray) -> None:
    (shrink,) = [d for d in DEGRADATIONS if d.name == "low resolution"]
    tiny = Place(60, 50, 10, 12)
    assert np.array_equal(shrink(photo, tiny, 32, (1, 0)), photo)


def test_a_face_at_the_edge_is_no_trouble(photo: np.ndarray) -> None:
    edge = Place(x=2, y=98, width=60, height=70)
    for degradation in DEGRADATIONS:
        assert degradation(photo, edge, degradation.strengths[-1], (1, 0)).shape == photo.shape


def test_hard_photos_are_seeded_and_keep_their_size(photo: np.ndarray) -> None:
    assert np.array_equal(hard(photo, (1, 3)), hard(photo, (1, 3)))
    assert not np.array_equal(hard(photo, (1, 3)), hard(photo, (2, 3)))
    assert not np.array_equal(hard(photo, (1, 3)), hard(photo, (1, 4)))
    assert hard(photo, (1, 3)).shape == photo.shape
