"""Models of the user's own: an ONNX file, pinned by its sha256, beside a configuration or in the cache.

digest = install_own(Path("arcface.onnx"))      # veilmatch models install --file arcface.onnx
own_model(None, digest)                         # the very bytes that were verified
"""

from __future__ import annotations

from pathlib import Path

from veilmatch.client.models import cache
from veilmatch.crypto.errors import ModelError

#: Files in the cache, each named by its sha256.
_FOLDER = "own"
#: The largest ONNX file there is: a protobuf message.
_MAX_BYTES = 2 << 30


def install_own(path: Path) -> str:
    """Copy an ONNX file into the cache, and return its sha256. Raises ModelError if it cannot be read or written."""
    data = _read(path)
    digest = cache.sha256(data)
    with cache.exclusive():
        cache.store_file(Path(_FOLDER, f"{digest}.onnx"), data)
    return digest


def own_model(path: Path | None, sha256: str) -> bytes:
    """Return the content of a model file, verified. path: None for the one in the cache.

    Raises ModelError if it is not there, or is another file than the one with this sha256.
    """
    where = path or cache.cache_dir() / _FOLDER / f"{sha256}.onnx"
    data = _read(where, in_cache=path is None)
    if (found := cache.sha256(data)) != sha256:
        raise ModelError(
            "the model file is not the pinned one",
            got=f"{where} with sha256 {found}",
            expected=sha256,
            hint="Put the right file there; if this is the one that is meant, set `sha256` to what was found.",
        )
    return data


def _read(path: Path, *, in_cache: bool = False) -> bytes:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ModelError("the model file is too large", got=path, expected="2 GiB at most, as ONNX has it")
        return path.read_bytes()
    except OSError as error:
        install = "Install it: `veilmatch models install --file MODEL.onnx`."
        raise ModelError(
            "the model file cannot be read",
            got=f"{path}: {error.strerror}",
            expected="an ONNX file",
            hint=install if in_cache else "See [capture.embedder] or [liveness] of device.toml: is `file` right?",
        ) from None
