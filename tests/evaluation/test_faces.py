"""Faces from files and photos: what counts as acquired, and what a file may hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from veilmatch.client.capture.image import ImageSource
from veilmatch.client.evaluation.data.faces import from_file, from_photos
from veilmatch.crypto.errors import EmbeddingError, InvalidInputError, ModelError, NoFaceError
from veilmatch.crypto.parameters import D512

from .conftest import TOY, write_crowd


def unit(seed: int) -> np.ndarray:
    vector = np.random.default_rng(seed).standard_normal(128)
    return vector / np.linalg.norm(vector)


def embed(number: int, photo: ImageSource) -> tuple[np.ndarray, None]:
    if photo == "empty.jpg":
        raise NoFaceError("nobody")
    return (np.eye(128)[0] if photo == "odd.jpg" else unit(number)), None


def test_failures_are_counted_and_named() -> None:
    photos = [("ada", "1.jpg"), ("ada", "empty.jpg"), ("bob", "2.jpg"), ("cleo", "empty.jpg"), ("bob", "odd.jpg")]
    faces = from_photos(photos, embed, "toy", TOY)
    assert (faces.subjects, faces.photos) == (("ada", "bob"), (0, 2))
    assert [(f.subject, f.photo, f.code) for f in faces.failures] == [
        ("ada", "empty.jpg", "no_face"),
        ("cleo", "empty.jpg", "no_face"),
        ("bob", "odd.jpg", "embedding"),
    ]
    assert faces.fta == 3 / 5
    assert faces.failed_subjects == ("cleo",) and faces.fte == 1 / 3


def test_photos_without_any_face_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="no photo could be used"):
        from_photos([("ada", "empty.jpg")], embed, "toy", TOY)


def test_an_error_that_is_not_about_the_photo_ends_it() -> None:
    def broken(number: int, photo: ImageSource) -> tuple[np.ndarray, None]:
        raise ModelError("no model")

    with pytest.raises(ModelError):
        from_photos([("ada", "1.jpg")], broken, "toy", TOY)


def test_file_of_embeddings(tmp_path: Path) -> None:
    faces = from_file(write_crowd(tmp_path / "x.npz", 3, 2), TOY)
    assert faces.model == "made up" and faces.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert np.allclose(np.linalg.norm(faces.embeddings, axis=1), 1)
    assert faces.integers.dtype == np.int64 and np.abs(faces.integers).max() <= TOY.clip


def test_rows_that_are_no_faces_are_failures(tmp_path: Path) -> None:
    vectors = np.array([unit(1), unit(2), np.zeros(128), np.full(128, np.nan)])
    np.savez(tmp_path / "x.npz", embeddings=vectors, subjects=[7, 7, 8, 9])
    faces = from_file(tmp_path / "x.npz", TOY)
    assert faces.subjects == ("7", "7") and faces.model == "unknown"
    assert [failure.photo for failure in faces.failures] == ["row 2", "row 3"]
    assert faces.failed_subjects == ("8", "9")


def test_file_of_another_dimension_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EmbeddingError, match="another dimension"):
        from_file(write_crowd(tmp_path / "x.npz", 3, 2), D512)


@pytest.mark.parametrize(
    "arrays",
    [
        {},
        {"embeddings": np.ones((2, 128))},
        {"embeddings": np.ones((2, 128)), "subjects": np.array([1, 2, 3])},
        {"embeddings": np.ones(128), "subjects": np.array([1])},
        {"embeddings": np.ones((1, 128)), "subjects": np.array([0.5])},
        {"embeddings": np.ones((1, 128)), "subjects": np.array([{"a": 1}], object)},
    ],
)
def test_other_files_are_refused(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(InvalidInputError):
        from_file(tmp_path / "x.npz", TOY)


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 broken"])
def test_what_is_no_such_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(InvalidInputError, match="not a file of embeddings"):
        from_file(tmp_path / "x.npz", TOY)
