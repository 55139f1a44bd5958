"""The previous release, as its users have it: built as a wheel from the history, and installed into a folder.

Built once on a machine: it is kept where the models are. It runs with the interpreter and the libraries of the tests.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest

from veilmatch.client.models.cache import cache_dir

ROOT = Path(__file__).parents[2]
#: Of version 0.1.0. It knows hellos, and is kept from saying any (first.py).
COMMIT = "048834e39bbe367ee19a05e5efe6123ea7700aab"


def installed() -> Path:
    """Return the folder with the package. Skips the test where the history is not at hand."""
    folder = cache_dir() / f"previous-{COMMIT[:12]}-{sys.implementation.cache_tag}"
    if not folder.exists():
        archive = subprocess.run(["git", "-C", str(ROOT), "archive", COMMIT], capture_output=True, check=False)
        if archive.returncode:
            pytest.skip(f"the previous release is not here, commit {COMMIT[:12]}: no repository, or a shallow clone")
        with tempfile.TemporaryDirectory(prefix=".previous-", dir=cache_dir()) as scratch:
            source, made = Path(scratch) / "source", Path(scratch) / "installed"
            source.mkdir()
            subprocess.run(["tar", "-x", "-C", str(source)], input=archive.stdout, check=True)
            # What it depends on is what the tests have.
            subprocess.run(
                [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation",
                 "--disable-pip-version-check", "--target", str(made), str(source)],
                check=True, env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
            )  # fmt: skip
            with suppress(OSError):  # another process was first
                made.rename(folder)
        for other in cache_dir().glob("previous-*"):
            if COMMIT[:12] not in other.name:
                shutil.rmtree(other, ignore_errors=True)
    return folder
