"""A face model of one's own: described in device.toml, pinned by its hash, and checked for its preprocessing."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from veilmatch.client.capture.alignment import ARCFACE_POINTS, align
from veilmatch.client.capture.embedder import Preprocessing, tensor_of
from veilmatch.client.capture.image import load_image
from veilmatch.client.capture.own_embedder import own_embedder, preprocessing_of
from veilmatch.client.capture.pipeline import CapturePipeline
from veilmatch.client.capture.settings import CaptureSettings, DetectorSettings, EmbedderSettings
from veilmatch.client.commands.base.application import build_app
from veilmatch.client.evaluation.data.second_embedder import SecondEmbedder
from veilmatch.client.models import SFACE, model_path, orl_photo
from veilmatch.client.models.own import install_own, own_model
from veilmatch.crypto.errors import ModelError, NoFaceError

from ..evaluation.conftest import DEVICE

SHA = "0" * 64


def sface(**fields: object) -> EmbedderSettings:
    data = model_path(SFACE).read_bytes()
    return EmbedderSettings.model_validate(
        {"name": "own", "sha256": hashlib.sha256(data).hexdigest(), "file": model_path(SFACE), "dimension": 128}
        | fields
    )


def test_the_default_model_as_ones_own_gives_the_same(installed: None, pipeline: CapturePipeline) -> None:
    settings = CaptureSettings(embedder=sface(magnitude=(10, 1)))
    own = CapturePipeline.default(settings)
    photo = orl_photo(3, 2)
    np.testing.assert_array_equal(own.embed_photo(photo), pipeline.embed_photo(photo))
    assert own.quality(photo) == pipeline.quality(photo)
    assert own.model_id == f"own-{settings.embedder.sha256[:8]}" and own.dimension == 128  # type: ignore[union-attr]
    unknown = CapturePipeline.default(CaptureSettings(embedder=sface())).quality(photo)
    assert unknown.unified is None and unknown, (
        "without measured lengths there is no unified score, and no floor for it"
    )


def test_the_512_d_model_as_ones_own_gives_the_same(installed: None, second_embedder: Path) -> None:
    settings = EmbedderSettings(
        name="second", sha256=hashlib.sha256(second_embedder.read_bytes()).hexdigest(), file=second_embedder,
        dimension=512, channels="bgr", mean=127.5, scale=127.5,  # type: ignore[arg-type]
    )  # fmt: skip
    crop = align(load_image(orl_photo(1, 1)), ARCFACE_POINTS * 0.8)
    np.testing.assert_array_equal(own_embedder(settings).embed(crop), SecondEmbedder.installed().embed(crop))


def test_pixels_become_what_the_settings_say() -> None:
    crop = np.zeros((4, 4, 3), np.uint8)
    crop[..., 0], crop[..., 2] = 255, 51
    rgb = tensor_of(crop, Preprocessing(size=4, mean=(0, 0, 1), scale=(255, 1, 10)))
    assert rgb.shape == (1, 3, 4, 4) and rgb[0, :, 0, 0].tolist() == [1, 0, 5]
    bgr = tensor_of(crop, Preprocessing(size=4, channels="bgr", layout="nhwc"))
    assert bgr.shape == (1, 4, 4, 3) and bgr[0, 0, 0].tolist() == [51, 0, 255]


def test_a_template_is_scaled_to_the_crop_or_given() -> None:
    twice = preprocessing_of(sface(size=224)).points
    np.testing.assert_allclose(twice, 2 * ARCFACE_POINTS + 0.5)
    points = [[50.0, 60.0], [110.0, 60.0], [80.0, 90.0], [55.0, 120.0], [105.0, 120.0]]
    assert preprocessing_of(sface(size=160, template=points)).points.tolist() == points
    photo = load_image(orl_photo(1, 1))
    assert align(photo, ARCFACE_POINTS, twice, 224).shape == (224, 224, 3)


@pytest.mark.parametrize(
    "fields",
    [{"scale": 0}, {"channels": "rbg"}, {"sha256": "abc"}, {"size": 4}, {"magnitude": (1, 0)}, {"template": [[1, 2]]},
     {"dimensions": 128}],
)  # fmt: skip
def test_settings_that_cannot_work_are_refused(fields: dict[str, object]) -> None:
    good = {"name": "own", "sha256": SHA, "dimension": 128}
    assert EmbedderSettings.model_validate(good | {"mean": 127.5}).mean == (127.5, 127.5, 127.5)
    with pytest.raises(ValidationError):
        EmbedderSettings.model_validate(good | fields)


def test_another_file_or_another_dimension_is_refused(installed: None, tmp_path: Path) -> None:
    other = tmp_path / "other.onnx"
    other.write_bytes(b"another")
    with pytest.raises(ModelError, match="not the pinned one"):
        own_embedder(sface(file=other))
    with pytest.raises(ModelError, match="cannot be read"):
        own_embedder(sface(file=tmp_path / "none.onnx"))
    with pytest.raises(ModelError, match="gives something else"):
        own_embedder(sface(dimension=512)).embed(np.zeros((112, 112, 3), np.uint8))


def test_a_detector_that_has_to_be_surer_finds_less(installed: None) -> None:
    sure = CapturePipeline.default(CaptureSettings(detector=DetectorSettings(min_score=0.99)))
    with pytest.raises(NoFaceError):
        sure.quality(orl_photo(1, 1))


def test_a_file_is_pinned_in_the_cache_and_told_to_the_configuration(
    installed: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = model_path(SFACE).read_bytes()
    source = tmp_path / "My Model.onnx"
    source.write_bytes(data)
    monkeypatch.setenv("VEILMATCH_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ModelError, match="cannot be read"):
        own_model(None, SHA)
    done = CliRunner().invoke(build_app("models"), ["models", "install", "--file", str(source)])
    assert done.exit_code == 0, done.output
    digest = hashlib.sha256(data).hexdigest()
    for line in ('name = "my-model"', f'sha256 = "{digest}"', "dimension = 128", "size = 112", 'layout = "nchw"'):
        assert line in done.stdout
    assert own_model(None, digest) == data and install_own(source) == digest
    (tmp_path / "cache" / "own" / f"{digest}.onnx").write_bytes(b"altered")
    with pytest.raises(ModelError, match="not the pinned one"):
        own_model(None, digest)


@pytest.mark.parametrize(("channels", "status"), [("rgb", 0), ("bgr", 8)])
def test_a_check_finds_the_wrong_order_of_channels(installed: None, tmp_path: Path, channels: str, status: int) -> None:
    own = sface()
    config = tmp_path / "device.toml"
    config.write_text(
        DEVICE + f'[capture.embedder]\nname = "own"\nfile = "{own.file}"\nsha256 = "{own.sha256}"\ndimension = 128\n'
        f'channels = "{channels}"\n'
    )
    done = CliRunner().invoke(build_app("models"), ["models", "check", "--config", str(config), "--json"])
    assert done.exit_code == status, done.output
    found = json.loads(done.stdout)
    assert found["right"] is (status == 0) and found["photos"] == 47
    better = max(found["others"], key=lambda way: way["distance"])
    assert (better["distance"] > found["configured"]["distance"]) is (status == 8)
