"""The libraries that only an evaluation needs: matplotlib, scikit-learn, SciPy and tomlkit (the `eval` extra)."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from veilmatch.crypto.errors import ConfigurationError

_LIBRARIES = ("matplotlib", "sklearn.metrics", "scipy.ndimage", "tomlkit")


def require(name: str) -> Any:
    """Return a module of the extra. Raises ConfigurationError, naming the extra to install, if it is missing."""
    try:
        return import_module(name)
    except ImportError as error:
        raise ConfigurationError(
            "an evaluation needs the `eval` extra: pip install veilmatch[eval]", got=f"no module {name}"
        ) from error


def require_all() -> None:
    """Raise what `require` raises if any library of the extra is missing: before the work, not after it."""
    for name in _LIBRARIES:
        require(name)
