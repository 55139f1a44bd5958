"""The libraries that only an evaluation needs, the `eval` extra: matplotlib, scikit-learn, SciPy, Jinja, tomlkit."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from veilmatch.client import extras


def require(name: str) -> Any:
    """Return a module of the extra. Raises MissingExtraError if it is not installed."""
    with extras.needed("eval"):
        return import_module(name)
