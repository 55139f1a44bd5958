"""Face models and test photos: fetched once, verified, kept in a cache outside the project.

    from veilmatch.client.models import install_models, model_path

    install_models(progress=print)      # or: veilmatch models install
    model_path("sface")                 # Path, verified against its pin

Reading them needs no extra; `install_models` and `install_photos` need `models`.
The sources, licences and pins are in catalogue.py.
"""

from __future__ import annotations

from pathlib import Path

from veilmatch.client.models import cache
from veilmatch.client.models.cache import cache_dir, is_installed
from veilmatch.client.models.catalogue import (
    EVALUATION,
    EVALUATION_MODEL,
    MESH,
    MESH_FILE,
    MODEL_LIST,
    MODELS,
    ORL_PHOTOS,
    ORL_SUBJECTS,
    PHOTOS,
    SFACE,
    YUNET,
    Model,
)
from veilmatch.client.models.install import (
    Progress,
    install_evaluation_model,
    install_mesh,
    install_models,
    install_photos,
)
from veilmatch.client.models.photos import FixturePhoto, fixture_photos, orl_photo, verified_path
from veilmatch.crypto.errors import ModelError

__all__ = [
    "EVALUATION",
    "EVALUATION_MODEL",
    "MESH",
    "MESH_FILE",
    "MODELS",
    "MODEL_LIST",
    "ORL_PHOTOS",
    "ORL_SUBJECTS",
    "PHOTOS",
    "SFACE",
    "YUNET",
    "FixturePhoto",
    "Progress",
    "cache_dir",
    "fixture_photos",
    "install_evaluation_model",
    "install_mesh",
    "install_models",
    "install_photos",
    "is_installed",
    "model_bytes",
    "model_id",
    "model_path",
    "orl_photo",
]


def model_path(name: str) -> Path:
    """Return the installed model file. name: YUNET or SFACE.

    Raises ModelError if there is no such model, it is not installed, or the file is not the pinned one.
    """
    return verified_path(MODELS, _model(name).file_name)


def model_bytes(name: str) -> bytes:
    """Return the content of the installed model: the very bytes that were verified. Errors: `model_path`."""
    return cache.read_file(MODELS, _model(name).file_name)


def model_id(name: str) -> str:
    """Return the name of the model and its exact weights, as galleries record it. Errors: no such model."""
    return _model(name).model_id


def _model(name: str) -> Model:
    for model in MODEL_LIST:
        if model.name == name:
            return model
    raise ModelError(
        "no such model", got=name, expected=" or ".join(m.name for m in MODEL_LIST), hint="Name one of these models."
    )
