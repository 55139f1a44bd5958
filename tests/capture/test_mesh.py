"""The face mesh: eyes, mouth, and how much of a face is to be seen; asked for and missing is an error."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from tests.capture.test_quality import OF_A_MESH, degraded
from veilmatch.client.capture.detector import YuNetDetector
from veilmatch.client.capture.embedder import SFaceEmbedder
from veilmatch.client.capture.image import load_image
from veilmatch.client.capture.pipeline import CapturePipeline
from veilmatch.client.capture.quality.floors import QualityFloors
from veilmatch.client.capture.quality.mesh import FaceMesh, Mesh
from veilmatch.client.capture.runtime import LiteRtModel
from veilmatch.client.capture.settings import CaptureSettings
from veilmatch.client.capture.turn import turned
from veilmatch.client.evaluation.data.capture import capture
from veilmatch.client.models import MESH, MESH_FILE, cache, install_mesh, orl_photo
from veilmatch.client.models.cache import install_option, sums_file
from veilmatch.crypto.errors import MissingExtraError, ModelError
from veilmatch.crypto.parameters import DEFAULT

#: Photos of ORL with both eyes closed, with wide open ones, and of a laugh, as one sees.
CLOSED, OPEN, LAUGH = ((11, 9), (26, 6)), ((10, 7), (35, 6)), (7, 2)


@pytest.fixture(scope="module")
def with_mesh(installed: None) -> CapturePipeline:
    try:
        install_mesh()
    except ModelError as error:
        if "npm" not in str(error):
            raise
        pytest.skip("npm is not there to fetch the mesh with")
    return CapturePipeline.default(CaptureSettings(mesh=True))


def square(**moved: tuple[float, float]) -> Mesh:
    """Eyes 60 pixels apart whose middle is 100 above the chin, everything closed, but for the points that are moved."""
    points = np.zeros((468, 2))
    for number, x in ((33, -40), (133, -20), (362, 20), (263, 40)):
        points[number] = (x, 0)
    points[152] = (0, 100)
    for name, at in moved.items():
        points[int(name.removeprefix("p"))] = at
    return Mesh(points, 0.0)


def test_openings_are_the_largest_of_three_pairs_and_of_the_eye_that_is_less_open() -> None:
    assert square().eyes_open == square().mouth_open == 0
    assert square(p159=(0, -8)).eyes_open == 0, "the other eye is closed"
    assert square(p159=(0, -8), p385=(0, -6), p386=(0, -3)).eyes_open == pytest.approx(0.06)
    assert square(p13=(0, -4), p317=(0, 20)).mouth_open == pytest.approx(0.2)


def test_eyes_and_mouths_are_told_as_one_sees_them(with_mesh: CapturePipeline) -> None:
    assert all(with_mesh.quality(orl_photo(*at)).scores["eyes_open"] < 25 for at in CLOSED)
    assert all(with_mesh.quality(orl_photo(*at)).scores["eyes_open"] > 95 for at in OPEN)
    assert with_mesh.quality(orl_photo(*LAUGH)).scores["mouth_closed"] < 60
    assert with_mesh.quality(orl_photo(*OPEN[0])).scores["mouth_closed"] > 90


def test_a_floor_on_open_eyes_refuses_closed_ones_in_words(with_mesh: CapturePipeline) -> None:
    asked = CaptureSettings(mesh=True, floors=QualityFloors(eyes_open=50))
    found = CapturePipeline.default(asked).capture(orl_photo(*CLOSED[0])).quality
    assert [str(reason) for reason in found.reasons] == [
        "the eyes are closed: open both eyes, and push hair and glasses out of the way"
    ]


def test_presence_sinks_far_if_a_face_is_blurred_and_less_if_it_is_covered(with_mesh: CapturePipeline) -> None:
    good, covered, blurred = [], [], []
    for subject in (1, 9, 17, 25, 33):
        photo = load_image(orl_photo(subject, 1))
        good.append(with_mesh.quality(photo))
        covered.append(with_mesh.quality(degraded(photo, "occlusion", 30)).values["face_presence"])
        blurred.append(with_mesh.quality(degraded(photo, "blur", 5)))
    assert all(found and found.scores["face_presence"] > 80 for found in good)
    assert sum(covered) / 5 < sum(found.values["face_presence"] for found in good) / 5 - 5
    assert all("face_presence" in {reason.component for reason in found.reasons} for found in blurred)


def test_a_turned_photo_and_a_larger_one_say_the_same(with_mesh: CapturePipeline) -> None:
    photo = load_image(orl_photo(4, 1))
    values = with_mesh.quality(photo).values
    for other in (turned(photo, 90), photo.repeat(3, axis=0).repeat(3, axis=1)):
        found = with_mesh.quality(other).values
        assert found["eyes_open"] == pytest.approx(values["eyes_open"], abs=0.012)
        assert found["face_presence"] == pytest.approx(values["face_presence"], abs=6)


def test_evaluation_looks_with_the_mesh_that_the_settings_ask_for(
    with_mesh: CapturePipeline, detector: YuNetDetector
) -> None:
    settings = CaptureSettings(mesh=True, floors=QualityFloors(eyes_open=50))
    photos = [("s11", orl_photo(*CLOSED[0])), ("s10", orl_photo(*OPEN[0]))]
    faces = capture(photos, detector, SFaceEmbedder.installed(), DEFAULT, settings=settings)
    assert [[reason.component for reason in quality.reasons] for quality in faces.qualities] == [["eyes_open"], []]


def test_a_mesh_changes_no_embedding(with_mesh: CapturePipeline, pipeline: CapturePipeline) -> None:
    with_it, without = with_mesh.capture(orl_photo(1, 1)), pipeline.capture(orl_photo(1, 1))
    np.testing.assert_array_equal(with_it.embedding, without.embedding)
    assert set(with_it.quality.scores) - set(without.quality.scores) == OF_A_MESH


def test_asked_for_and_missing_is_an_error_that_says_what_to_run(
    installed: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VEILMATCH_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match="veilmatch models install --mesh"):
        FaceMesh.installed()


def test_without_the_extra_it_says_what_to_install(with_mesh: CapturePipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(MissingExtraError, match=r"veilmatch\[mesh\]"):
        FaceMesh(cache.read_file(MESH, MESH_FILE))


def test_a_file_that_is_no_model_and_an_input_of_another_shape_are_refused(with_mesh: CapturePipeline) -> None:
    with pytest.raises(ModelError, match="refuses"):
        LiteRtModel(b"no model")
    model = LiteRtModel(cache.read_file(MESH, MESH_FILE))
    with pytest.raises(ModelError, match="input"):
        model.run(np.zeros((1, 10, 10, 3), np.float32))


def test_the_bundle_is_pinned_and_is_a_part_of_a_file(with_mesh: CapturePipeline) -> None:
    model = cache.read_file(MESH, MESH_FILE)
    (member,) = MESH.members
    assert member.span is not None and member.span[1] - member.span[0] == len(model) == 1_241_896
    assert model[4:8] == b"TFL3"
    assert hashlib.sha256(sums_file({MESH_FILE: model})).hexdigest() == MESH.sums_sha256
    assert install_option(MESH) == " --mesh"
