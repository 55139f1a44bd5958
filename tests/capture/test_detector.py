"""The detector on real photos: known landmarks, the number of faces, small, grey and tight photos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from veilmatch.client.capture.detector import Face, YuNetDetector, _overlap, _suppress_overlaps
from veilmatch.client.capture.image import RgbArray, load_image
from veilmatch.client.models import fixture_photos, orl_photo
from veilmatch.crypto.errors import ModelError

# Box, score and landmarks in the top left 640x640 pixels of three photos, from an independent
# implementation that agrees with OpenCV's FaceDetectorYN.
KNOWN = {
    "person_a_2.jpg": (
        [212.013, 161.569, 507.161, 569.755],
        0.934,
        [[282.578, 320.601], [412.996, 315.816], [341.56, 397.368], [298.337, 464.958], [406.499, 460.913]],
    ),
    "person_b_2.jpg": (
        [199.376, 125.167, 476.316, 510.116],
        0.941,
        [[282.953, 284.635], [413.756, 272.62], [362.679, 353.446], [301.523, 411.121], [421.656, 400.72]],
    ),
    "impostor_2.jpg": (
        [241.647, 169.775, 514.36, 584.244],
        0.934,
        [[312.607, 323.109], [450.956, 311.005], [386.905, 398.955], [332.24, 464.007], [458.678, 453.61]],
    ),
}


def enlarged(image: RgbArray, factor: float) -> RgbArray:
    size = (round(image.shape[1] * factor), round(image.shape[0] * factor))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))


def inside(image: RgbArray, face: Face, margin: float) -> RgbArray:
    """The box of the face, made smaller by margin (a fraction of its sides) on every side."""
    left, top, right, bottom = face.box
    dx, dy = margin * (right - left), margin * (bottom - top)
    return np.ascontiguousarray(
        image[max(0, int(top + dy)) : int(bottom - dy), max(0, int(left + dx)) : int(right - dx)]
    )


@pytest.mark.parametrize("name", KNOWN)
def test_box_score_and_landmarks_are_the_known_ones(
    detector: YuNetDetector, portraits: dict[str, Path], name: str
) -> None:
    box, score, landmarks = KNOWN[name]
    (face,) = detector.detect(load_image(portraits[name])[:640, :640])
    np.testing.assert_allclose(face.box, box, atol=0.05)
    np.testing.assert_allclose(face.landmarks, landmarks, atol=0.05)
    assert face.score == pytest.approx(score, abs=0.001)


def test_every_colour_photo_shows_exactly_one_face(detector: YuNetDetector, installed: None) -> None:
    counts = {photo.path.name: len(detector.detect(load_image(photo.path))) for photo in fixture_photos()}
    assert len(counts) == 13
    assert set(counts.values()) == {1}, counts


@pytest.mark.parametrize("subject", range(1, 41, 6))
def test_a_small_grey_photo_shows_one_face_with_landmarks_in_order(
    detector: YuNetDetector, installed: None, subject: int
) -> None:
    (face,) = detector.detect(load_image(orl_photo(subject, 9)))
    right_eye, left_eye, nose, right_mouth, left_mouth = face.landmarks
    assert right_eye[0] < left_eye[0]
    assert right_mouth[0] < left_mouth[0]
    assert max(right_eye[1], left_eye[1]) < nose[1] < min(right_mouth[1], left_mouth[1])
    assert (face.landmarks >= 0).all()
    assert (face.landmarks < [92, 112]).all()


@pytest.mark.parametrize("subject", range(2, 41, 5))
def test_a_face_of_twenty_pixels_is_found(detector: YuNetDetector, installed: None, subject: int) -> None:
    thumbnail = enlarged(load_image(orl_photo(subject, 1)), 24 / 92)
    assert thumbnail.shape == (29, 24, 3)
    assert len(detector.detect(thumbnail)) == 1


@pytest.mark.parametrize("factor", [0.2, 0.5, 1.5, 3.0])
def test_landmarks_scale_with_the_photo(detector: YuNetDetector, portraits: dict[str, Path], factor: float) -> None:
    photo = load_image(portraits["impostor_1.jpg"])
    (face,) = detector.detect(photo)
    (scaled,) = detector.detect(enlarged(photo, factor))
    face_width = face.box[2] - face.box[0]
    moved = np.abs((scaled.landmarks + 0.5) / factor - 0.5 - face.landmarks).max()
    assert moved < 0.06 * face_width


@pytest.mark.parametrize("name", ["impostor_1.jpg", "person_a_2.jpg", "person_b_1.jpg", "obama3.jpg"])
def test_a_face_that_fills_a_large_photo_is_found(
    detector: YuNetDetector, portraits: dict[str, Path], name: str
) -> None:
    photo = load_image(portraits[name])
    (face,) = detector.detect(photo)
    cut = enlarged(inside(photo, face, 0.2), 4.0)
    (found,) = detector.detect(cut)
    assert found.box[0] < cut.shape[1] / 2 < found.box[2]


def test_several_faces_are_all_found_best_first(detector: YuNetDetector, portraits: dict[str, Path]) -> None:
    photos = [load_image(portraits[f"{name}.jpg"])[:640, :640] for name in ("person_a_2", "person_b_2", "impostor_2")]
    faces = detector.detect(np.concatenate(photos, axis=1))
    assert sorted(int(face.landmarks[2, 0]) // 640 for face in faces) == [0, 1, 2]
    assert [face.score for face in faces] == sorted((face.score for face in faces), reverse=True)


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 700, 3), (700, 1, 3), (33, 31, 3), (2000, 20, 3)], ids=str)
def test_any_shape_without_a_face_gives_an_empty_list(detector: YuNetDetector, shape: tuple[int, ...]) -> None:
    assert detector.detect(np.full(shape, 128, np.uint8)) == []


def test_noise_shows_no_face(detector: YuNetDetector, noise: np.ndarray) -> None:
    assert detector.detect(noise) == []


def test_a_stricter_score_finds_less(portraits: dict[str, Path]) -> None:
    from veilmatch.client.models import YUNET, model_bytes

    strict = YuNetDetector(model_bytes(YUNET), min_score=0.99)
    assert strict.detect(load_image(portraits["impostor_1.jpg"])) == []


def test_bytes_that_are_no_model_are_refused() -> None:
    with pytest.raises(ModelError):
        YuNetDetector(b"not a model")


def boxes(*rows: tuple[float, float, float, float, float]) -> np.ndarray:
    return np.column_stack([np.array(rows, float), np.zeros((len(rows), 10))])


def test_overlap_is_intersection_over_union() -> None:
    others = boxes((0, 0, 10, 10, 1), (5, 0, 15, 10, 1), (10, 0, 20, 10, 1), (2, 2, 4, 4, 1), (12, 12, 20, 20, 1))
    np.testing.assert_allclose(_overlap(others[0], others), [1, 50 / 150, 0, 4 / 100, 0])


def test_of_overlapping_boxes_only_the_best_stays() -> None:
    rows = boxes((1, 0, 11, 10, 0.7), (0, 0, 10, 10, 0.9), (30, 0, 40, 10, 0.6), (2, 0, 12, 10, 0.8))
    np.testing.assert_array_equal(_suppress_overlaps(rows, 0.3), rows[[1, 2]])
    np.testing.assert_array_equal(_suppress_overlaps(rows, 1.0), rows[[1, 3, 0, 2]])
    assert _suppress_overlaps(rows[:0], 0.3).shape == (0, 15)
