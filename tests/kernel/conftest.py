"""Another build of the kernel can be put to the test: VEILMATCH_TEST_KERNEL names its extension file."""

from __future__ import annotations

import importlib.util
import os
import sys

import pytest

VARIABLE = "VEILMATCH_TEST_KERNEL"
NAME = "veilmatch.crypto._kernel"


def _load_instead(path: str) -> None:
    """Make this extension file the kernel. Nothing may have imported the installed one."""
    if NAME in sys.modules:
        raise pytest.UsageError(f"{NAME} is imported already: give pytest --confcutdir tests/kernel")
    spec = importlib.util.spec_from_file_location(NAME, path)
    if spec is None or spec.loader is None:
        raise pytest.UsageError(f"{VARIABLE} does not name an extension file: {path}")
    sys.modules[NAME] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)


if path := os.environ.get(VARIABLE):
    _load_instead(path)

from tests.kernel.numbers import BACKENDS  # noqa: E402 (it imports the kernel)


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """Every backend of the kernel that this processor runs."""
    return request.param
