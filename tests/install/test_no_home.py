"""A user without a home directory, as services have them: what can be had is used, and what is missing is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from veilmatch import ConfigurationError, ModelError, install_models
from veilmatch.client.capture.pipeline import CapturePipeline
from veilmatch.client.commands.base.application import build_app
from veilmatch.client.models import MODELS, cache, cache_dir, is_installed

VARIABLES = ("HOME", "XDG_CACHE_HOME", "VEILMATCH_CACHE")


@pytest.fixture
def installed_cache() -> Path:
    install_models()
    return cache_dir()


@pytest.fixture(autouse=True)
def no_home(installed_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a uid without an entry in /etc/passwd and without HOME gives: runAsUser, DynamicUser."""

    def unknown(_uid: int) -> None:
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr("pwd.getpwuid", unknown)
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_the_sdk_names_the_variable_to_set() -> None:
    for call in (CapturePipeline.default, install_models, cache_dir, lambda: is_installed(MODELS)):
        with pytest.raises(ConfigurationError, match="VEILMATCH_CACHE") as caught:
            call()
        assert caught.value.expected == "VEILMATCH_CACHE set to a folder"


@pytest.mark.parametrize("command", ["models list", "models install", "eval --orl"])
def test_commands_name_it_too(command: str) -> None:
    result = CliRunner().invoke(build_app(command.split()[0]), [*command.split(), "--json"])
    assert result.exit_code == 3
    assert json.loads(result.stdout)["error"]["code"] == "configuration"


def test_a_variable_that_needs_a_home_is_named_with_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VEILMATCH_CACHE", "~/faces")
    with pytest.raises(ConfigurationError) as caught:
        cache_dir()
    assert caught.value.got == "VEILMATCH_CACHE=~/faces"


def test_either_variable_is_enough(installed_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VEILMATCH_CACHE", str(installed_cache))
    assert CapturePipeline.default().dimension == 128
    monkeypatch.delenv("VEILMATCH_CACHE")
    (tmp_path / "veilmatch").symlink_to(installed_cache)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert CapturePipeline.default().dimension == 128


@pytest.mark.parametrize("home", ["/nonexistent", "/dev/null"])
def test_a_home_that_is_not_there_means_not_installed(home: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", home)
    assert not is_installed(MODELS)
    with pytest.raises(ModelError, match=r"is not installed .*veilmatch models install"):
        CapturePipeline.default()


@pytest.mark.parametrize("place", ["/dev/null/cache", "/proc/cache", "/sys/cache"])
def test_a_cache_that_cannot_be_written_is_named(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VEILMATCH_CACHE", place)
    with pytest.raises(ModelError, match="cannot be written") as caught:
        install_models()
    assert place in str(caught.value.got) and "VEILMATCH_CACHE" in str(caught.value.expected)


def test_a_model_that_cannot_be_read_is_not_called_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VEILMATCH_CACHE", str(tmp_path))
    (tmp_path / MODELS.directory / "yunet.onnx").mkdir(parents=True)
    with pytest.raises(ModelError, match="cannot be read") as caught:
        cache.read_file(MODELS, "yunet.onnx")
    assert "Is a directory" in str(caught.value.got) and "VEILMATCH_CACHE" in str(caught.value.expected)
