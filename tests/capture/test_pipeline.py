"""The whole pipeline on real photos: one face or an error, the same person near, others far."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from veilmatch.client.capture.alignment import align
from veilmatch.client.capture.detector import Face
from veilmatch.client.capture.embedder import Embedding, SFaceEmbedder
from veilmatch.client.capture.image import RgbArray, load_image
from veilmatch.client.capture.pipeline import CapturePipeline
from veilmatch.client.capture.quantiser import quantise
from veilmatch.client.models import fixture_photos
from veilmatch.crypto.errors import (
    ImageError,
    MissingExtraError,
    ModelError,
    NoFaceError,
    SeveralFacesError,
)
from veilmatch.crypto.parameters import DEFAULT

from .test_detector import KNOWN

THRESHOLD = 0.40

# Cosines between the photos of test_detector.KNOWN, aligned by their known landmarks; from an
# independent implementation with an independently repaired model.
KNOWN_COSINES = {
    ("person_a_2.jpg", "person_b_2.jpg"): 0.03736,
    ("person_a_2.jpg", "impostor_2.jpg"): 0.28939,
    ("person_b_2.jpg", "impostor_2.jpg"): 0.13173,
}


class FixedDetector:
    """Finds what it is told to find; a face is the more upright, the lighter a view is at the top."""

    def __init__(self, *faces: Face) -> None:
        self.faces = list(faces)

    def detect(self, image: RgbArray) -> list[Face]:
        return self.faces

    def glance(self, view: RgbArray) -> float:
        down, right = (np.subtract(*np.array_split(view.sum(axis=(axis, 2), dtype=float), 2)).sum() for axis in (1, 0))
        return float(max(0.0, down / (np.hypot(down, right) + 1e-9)))


class MeanColour:
    """An embedder of three dimensions: the mean colour of the crop."""

    dimension = 3
    model_id = "mean-colour"

    def embed(self, crop: RgbArray) -> Embedding:
        mean = crop.reshape(-1, 3).mean(axis=0)
        return np.asarray(mean / np.linalg.norm(mean))


def face_at(x: float) -> Face:
    landmarks = np.array([[x, 40], [x + 20, 40], [x + 10, 52], [x + 2, 64], [x + 18, 64]])
    return Face((x - 10, 20, x + 30, 80), 0.9, landmarks)


@pytest.fixture(scope="module")
def embedder(installed: None) -> SFaceEmbedder:
    return SFaceEmbedder.installed()


def test_embeddings_of_known_crops_have_the_known_cosines(embedder: SFaceEmbedder, portraits: dict[str, Path]) -> None:
    embeddings = {
        name: embedder.embed(align(load_image(portraits[name])[:640, :640], np.array(landmarks)))
        for name, (_, _, landmarks) in KNOWN.items()
    }
    for (a, b), cosine in KNOWN_COSINES.items():
        assert embeddings[a] @ embeddings[b] == pytest.approx(cosine, abs=0.002)


def test_an_embedding_has_length_one_and_is_the_same_every_time(
    pipeline: CapturePipeline, portraits: dict[str, Path]
) -> None:
    first, second = (pipeline.embed_photo(portraits["biden.jpg"]) for _ in range(2))
    assert first.dtype == np.float64
    assert first.shape == (pipeline.dimension,) == (128,)
    assert np.linalg.norm(first) == pytest.approx(1, abs=1e-12)
    np.testing.assert_array_equal(first, second)
    assert pipeline.model_id == "sface-2021dec-fb143eea"


def test_every_kind_of_source_gives_the_same_embedding(pipeline: CapturePipeline, portraits: dict[str, Path]) -> None:
    file = portraits["person_b_1.jpg"]
    expected = pipeline.embed_photo(file)
    for source in (str(file), file.read_bytes(), Image.open(file), load_image(file)):
        np.testing.assert_array_equal(pipeline.embed_photo(source), expected)


def test_a_photo_stored_sideways_gives_the_same_embedding(
    pipeline: CapturePipeline, portraits: dict[str, Path]
) -> None:
    upright = load_image(portraits["person_b_2.jpg"])
    exif = Image.Exif()
    exif[0x0112] = 6
    sideways = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(np.rot90(upright))).save(sideways, "PNG", exif=exif)
    np.testing.assert_array_equal(pipeline.embed_photo(sideways.getvalue()), pipeline.embed_photo(upright))


def test_colour_photos_separate_people_at_the_threshold(pipeline: CapturePipeline) -> None:
    photos = fixture_photos()
    embeddings = [pipeline.embed_photo(photo.path) for photo in photos]
    same, different = [], []
    for i, j in itertools.combinations(range(len(photos)), 2):
        pairs = same if photos[i].person == photos[j].person else different
        pairs.append(float(embeddings[i] @ embeddings[j]))
    assert (len(same), len(different)) == (23, 55)
    assert min(same) > 0.55
    assert max(different) < 0.35


def test_orl_photo_five_matches_photo_one_of_its_subject_and_of_no_other(
    orl_embedding: Callable[[int, int], Embedding],
) -> None:
    enrolled = np.array([orl_embedding(subject, 1) for subject in range(1, 41)])
    probes = np.array([orl_embedding(subject, 5) for subject in range(1, 41)])
    scores = probes @ enrolled.T
    genuine = np.diag(scores)
    impostors = scores[~np.eye(40, dtype=bool)]
    assert genuine.min() > THRESHOLD
    assert (scores.argmax(axis=1) == np.arange(40)).all()
    assert (impostors < THRESHOLD).mean() > 0.995


def test_quantised_orl_scores_decide_as_the_cosines_do(
    orl_embedding: Callable[[int, int], Embedding],
) -> None:
    embeddings = np.array([orl_embedding(s, k) for s in range(1, 41) for k in (1, 5)])
    q = np.array([quantise(e, DEFAULT) for e in embeddings])
    norms = (q**2).sum(axis=1)
    assert norms.min() > 0.94 * DEFAULT.scale**2
    assert norms.max() < 1.06 * DEFAULT.scale**2
    cosines, scores = embeddings @ embeddings.T, q @ q.T
    clear = np.abs(cosines - THRESHOLD) > 0.02
    assert clear.mean() > 0.98
    np.testing.assert_array_equal((scores >= DEFAULT.threshold(THRESHOLD))[clear], (cosines >= THRESHOLD)[clear])


def test_a_photo_without_a_face_is_refused(pipeline: CapturePipeline, noise: np.ndarray) -> None:
    for source in (noise, np.zeros((112, 92), np.uint8), Image.new("RGB", (500, 300), "skyblue")):
        with pytest.raises(NoFaceError):
            pipeline.embed_photo(source)


def test_a_photo_of_two_people_is_refused_with_their_number(
    pipeline: CapturePipeline, portraits: dict[str, Path]
) -> None:
    both = [load_image(portraits[name])[:600, :600] for name in ("person_a_2.jpg", "person_b_2.jpg")]
    with pytest.raises(SeveralFacesError) as caught:
        pipeline.embed_photo(np.concatenate(both, axis=1))
    assert caught.value.got == "2"


def test_a_damaged_photo_is_refused(pipeline: CapturePipeline, portraits: dict[str, Path]) -> None:
    data = portraits["obama.jpg"].read_bytes()
    with pytest.raises(ImageError):
        pipeline.embed_photo(data[: len(data) // 3])


def test_detector_and_embedder_are_replaceable() -> None:
    photo = np.full((100, 100, 3), (90, 120, 0), np.uint8)
    photo[50:] //= 3
    pipeline = CapturePipeline(FixedDetector(face_at(40)), MeanColour())
    np.testing.assert_allclose(pipeline.embed_photo(photo), [0.6, 0.8, 0], atol=1e-4)
    assert (pipeline.dimension, pipeline.model_id) == (3, "mean-colour")
    with pytest.raises(NoFaceError):
        CapturePipeline(FixedDetector(), MeanColour()).embed_photo(photo)
    with pytest.raises(SeveralFacesError):
        CapturePipeline(FixedDetector(face_at(40), face_at(60)), MeanColour()).embed_photo(photo)


@pytest.mark.parametrize(
    "crop",
    [np.zeros((112, 112), np.uint8), np.zeros((111, 112, 3), np.uint8), np.zeros((112, 112, 3), np.float32)],
    ids=["grey", "small", "float"],
)
def test_the_embedder_refuses_what_is_not_a_crop(embedder: SFaceEmbedder, crop: np.ndarray) -> None:
    with pytest.raises(ImageError):
        embedder.embed(crop)


def test_another_network_in_place_of_the_embedder_is_refused(installed: None) -> None:
    from veilmatch.client.models import YUNET, model_bytes

    with pytest.raises(ModelError):
        SFaceEmbedder(model_bytes(YUNET), model_id="wrong").embed(np.zeros((112, 112, 3), np.uint8))


def test_without_installed_models_the_default_says_what_to_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VEILMATCH_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match="veilmatch models install"):
        CapturePipeline.default()


def test_without_the_device_extra_the_error_names_it(
    monkeypatch: pytest.MonkeyPatch, pipeline: CapturePipeline, portraits: dict[str, Path]
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.delitem(sys.modules, "PIL.Image", raising=False)
    with pytest.raises(MissingExtraError, match=r"veilmatch\[device\]"):
        pipeline.embed_photo(portraits["obama.jpg"])
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r"veilmatch\[device\]"):
        CapturePipeline.default()
