"""Quality of faces: angles that are put in come out, worse photos have lower scores, and floors give reasons."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError
from typer.testing import CliRunner

from veilmatch import face_quality
from veilmatch.client.capture.alignment import ARCFACE_POINTS
from veilmatch.client.capture.detector import YuNetDetector
from veilmatch.client.capture.embedder import Magnitudes, SFaceEmbedder
from veilmatch.client.capture.image import RgbArray, load_image
from veilmatch.client.capture.pipeline import CapturePipeline
from veilmatch.client.capture.quality import components
from veilmatch.client.capture.quality.assessment import COMPONENTS, WORDS
from veilmatch.client.capture.quality.components import AlignedFace
from veilmatch.client.capture.quality.floors import QualityFloors
from veilmatch.client.capture.quality.pose import _MODEL, head_pose
from veilmatch.client.capture.settings import CaptureSettings
from veilmatch.client.capture.turn import turned
from veilmatch.client.commands.base.application import build_app
from veilmatch.client.evaluation.data.degrade import DEGRADATIONS, Place
from veilmatch.client.models import orl_photo
from veilmatch.crypto.errors import NoFaceError, SeveralFacesError

OF_A_MESH = {"eyes_open", "mouth_closed", "face_presence"}


def projected(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """The landmarks of a face that looks so, from rotations about the three axes, as any textbook has them."""
    y, p, r = (math.radians(angle) for angle in (yaw, pitch, roll))
    about_y = [[math.cos(y), 0, -math.sin(y)], [0, 1, 0], [math.sin(y), 0, math.cos(y)]]
    about_x = [[1, 0, 0], [0, math.cos(p), math.sin(p)], [0, -math.sin(p), math.cos(p)]]
    about_z = [[math.cos(r), -math.sin(r), 0], [math.sin(r), math.cos(r), 0], [0, 0, 1]]
    return np.asarray((_MODEL @ (np.array(about_z) @ about_y @ about_x).T)[:, :2] * 1.7 + 40)


@pytest.mark.parametrize("angles", [(0, 0, 0), (25, 0, 0), (0, -20, 0), (0, 0, 30), (20, 10, 15), (-35, -15, -40)])
def test_pose_of_a_projected_face_is_the_one_it_was_turned_by(angles: tuple[float, float, float]) -> None:
    np.testing.assert_allclose(head_pose(projected(*angles)), angles, atol=1e-6)


def test_signs_of_a_pose_are_those_of_the_photo() -> None:
    nose = np.array([[0, 0]] * 2 + [[6, 0]] + [[0, 0]] * 2)
    assert head_pose(ARCFACE_POINTS + nose).yaw > 10, "the nose is further to the right"
    assert head_pose(ARCFACE_POINTS - nose[:, ::-1]).pitch > 5, "the nose is further up"
    down = np.array([[0, 0], [0, 5]] + [[0, 0]] * 3)
    assert head_pose(ARCFACE_POINTS + down).roll > 2, "the right eye is lower: clockwise"


def test_landmarks_in_one_point_have_no_pose() -> None:
    assert head_pose(np.ones((5, 2))) == (0, 0, 0)


def aligned(crop: RgbArray, inside: bool | np.ndarray = True) -> AlignedFace:
    return AlignedFace(crop, np.broadcast_to(np.asarray(inside), (112, 112)))


@pytest.fixture(scope="module")
def noise_crop() -> RgbArray:
    return np.random.default_rng(3).integers(0, 256, (112, 112, 3), dtype=np.uint8)


def test_exposure_and_dynamic_range_of_known_crops(noise_crop: RgbArray) -> None:
    black, white = (aligned(np.full((112, 112, 3), value, np.uint8)) for value in (0, 255))
    assert components.dark_share(black) == components.light_share(white) == components.mean_luminance(white) == 1
    assert components.light_share(black) == components.dark_share(white) == components.entropy(white) == 0
    halves = np.zeros((112, 112, 3), np.uint8)
    halves[:, 56:] = 255
    assert components.entropy(aligned(halves)) == pytest.approx(1, abs=0.01)
    assert components.evenness(aligned(halves)) == 0
    assert components.evenness(black) == 1
    assert components.entropy(aligned(noise_crop)) > 6


def test_grey_of_116_has_the_luminance_of_its_curve() -> None:
    assert aligned(np.full((112, 112, 3), 116, np.uint8)).luminance[0, 0] == 45  # 255 * ((116/255 + .055) / 1.055)^2.4


def test_what_lies_outside_the_photo_is_not_measured() -> None:
    crop = np.zeros((112, 112, 3), np.uint8)
    crop[:, :56] = 200
    left = np.arange(112)[None, :] < 56
    assert components.dark_share(aligned(crop, left)) == 0
    assert 0.4 < components.shown_share(aligned(crop, left)) < 0.6
    assert components.shown_share(aligned(crop)) == 1


def test_blur_counts_and_contrast_does_not(pipeline: CapturePipeline) -> None:
    photo = load_image(orl_photo(1, 1))
    sharp = pipeline.quality(photo).values["sharpness"]
    assert pipeline.quality((photo // 2 + 60).astype(np.uint8)).values["sharpness"] == pytest.approx(sharp, abs=0.03)
    values = []
    for by in (1, 3, 5):
        values.append(pipeline.quality(degraded(photo, "blur", by)).values["sharpness"])
    assert sharp < values[0] - 0.03 < values[1] - 0.1 < values[2]


def degraded(photo: RgbArray, name: str, strength: float) -> RgbArray:
    face = YuNetDetector.installed().detect(photo)[0]
    degradation = next(d for d in DEGRADATIONS if d.name == name)
    return degradation(photo, Place.of(face), strength, (1, 0))


def test_a_good_photo_is_good_and_says_every_component(pipeline: CapturePipeline, portraits: dict[str, Path]) -> None:
    quality = pipeline.quality(portraits["biden.jpg"])
    assert quality and not quality.reasons and quality.faces == 1
    assert set(quality.scores) == set(COMPONENTS) - OF_A_MESH
    assert set(COMPONENTS) == set(WORDS) == set(QualityFloors.model_fields)
    assert all(isinstance(score, int) and 0 <= score <= 100 for score in quality.scores.values())
    assert face_quality(portraits["biden.jpg"]) == quality


@pytest.mark.parametrize(
    ("subject", "name", "component"),
    [(4, "blur", "sharpness"), (4, "JPEG", "unified_quality_score"), (1, "JPEG", "detector_confidence")],
)
def test_a_bad_photo_has_reasons_in_words(pipeline: CapturePipeline, subject: int, name: str, component: str) -> None:
    quality = pipeline.quality(degraded(load_image(orl_photo(subject, 1)), name, 5))
    assert not quality
    reasons = {reason.component: str(reason) for reason in quality.reasons}
    assert reasons[component].count(": ") == 1 and reasons[component] == ": ".join(WORDS[component])  # type: ignore[index]


def test_of_several_faces_the_largest_is_meant_if_settings_say_so(
    detector: YuNetDetector, pipeline: CapturePipeline, portraits: dict[str, Path]
) -> None:
    large, other = (Image.open(portraits[name]).convert("RGB") for name in ("biden.jpg", "obama.jpg"))
    small = other.resize((other.width // 3, other.height // 3))
    both = Image.new("RGB", (large.width + small.width, large.height))
    both.paste(small, (0, 0))
    both.paste(large, (small.width, 0))
    photo = np.asarray(both)
    with pytest.raises(SeveralFacesError):
        pipeline.capture(photo)
    largest = CapturePipeline(detector, SFaceEmbedder.installed(), CaptureSettings(face="largest"))
    expected = pipeline.embed_photo(portraits["biden.jpg"])
    for degrees in (0, 90):
        found = largest.capture(turned(photo, degrees))
        assert found.embedding @ expected > 0.95
        assert found.quality.faces == 2 and found.quality.scores["single_face_present"] < 95
    assert pipeline.quality(photo).faces == 2, "the quality of such a photo is told, whatever the settings"
    asked = CaptureSettings(face="largest", floors=QualityFloors(single_face_present=100))
    reasons = CapturePipeline(detector, SFaceEmbedder.installed(), asked).quality(photo).reasons
    assert [reason.component for reason in reasons] == ["single_face_present"]


def test_a_magnitude_in_the_middle_scores_half() -> None:
    magnitudes = Magnitudes(middle=10, width=2)
    assert [magnitudes.score(x) for x in (-1e9, 8, 10, 12, 1e9)] == [0, 27, 50, 73, 100]


@pytest.mark.parametrize("floors", [{"sharpness": 101}, {"sharpness": -1}, {"sharpnes": 20}])
def test_floors_are_whole_numbers_of_known_components(floors: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        QualityFloors.model_validate(floors)


def test_the_command_says_it_in_words_and_in_json(
    installed: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # without a device.toml
    bad = tmp_path / "bad.png"
    Image.fromarray(degraded(load_image(orl_photo(4, 1)), "blur", 5)).save(bad)
    run = CliRunner()
    good = run.invoke(build_app("quality"), ["quality", str(orl_photo(4, 1))])
    assert good.exit_code == 0 and "good enough to enrol" in good.stdout
    told = run.invoke(build_app("quality"), ["quality", str(bad)])
    assert told.exit_code == 3 and "hold the camera still" in " ".join(told.stdout.split())
    document = json.loads(run.invoke(build_app("quality"), ["quality", str(bad), "--json"]).stdout)
    assert document["good"] is False and document["faces"] == 1
    assert {"component", "score", "floor", "problem", "advice"} == set(document["reasons"][0])


def test_a_photo_of_nobody_has_no_quality(pipeline: CapturePipeline) -> None:
    with pytest.raises(NoFaceError):
        pipeline.quality(np.zeros((64, 64, 3), np.uint8))


def test_floors_rest_on_what_goes_with_errors_and_not_on_the_light_of_skin() -> None:
    asked = {name for name, floor in QualityFloors().model_dump().items() if floor}
    assert asked == {
        "unified_quality_score", "detector_confidence", "sharpness", "crop_of_the_face_image", "face_presence",
    }  # fmt: skip
