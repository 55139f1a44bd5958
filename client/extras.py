"""The extras of the package: which libraries belong to which, and what is said where one is missing.

    with needed("device"):
        import onnxruntime          # MissingExtraError: pip install 'veilmatch[device]'

Whatever needs a library of an extra imports it in `needed`, on first use: the rest runs without it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec

from veilmatch.crypto.errors import ConfigurationError, MissingExtraError


@dataclass(frozen=True)
class Extra:
    """An extra of pyproject.toml. purpose: a sentence's beginning; modules: top-level, one for each library of it."""

    purpose: str
    modules: tuple[str, ...]


EXTRAS = {
    "device": Extra("capturing faces", ("onnxruntime", "PIL")),
    "models": Extra("installing face models", ("onnx", "unearth", "httpx2", "certifi")),
    "mesh": Extra("looking at eyes and mouth", ("ai_edge_litert",)),
    "heic": Extra("reading HEIC photos", ("pi_heif",)),
    "parquet": Extra("reading Parquet files", ("pyarrow",)),
    "cards": Extra("QR codes of cards", ("segno", "zxingcpp")),
    "web": Extra("showing a page in a browser", ("starlette", "uvicorn", "jinja2")),
    "server": Extra(
        "running a matcher or a key holder", ("sqlalchemy", "alembic", "grpc_health", "jwt", "prometheus_client")
    ),
    "telemetry": Extra("sending traces", ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")),
    "postgres": Extra("keeping galleries in PostgreSQL", ("psycopg",)),
    "ray": Extra("spreading packs over machines", ("ray",)),
    "relying": Extra("opening sealed answers", ("jwt",)),
    "eval": Extra("measuring error rates", ("matplotlib", "sklearn", "scipy", "tomlkit", "jinja2")),
    "phe": Extra("comparing with python-paillier", ("phe",)),
}


def missing(extra: str) -> list[str]:
    """Return the modules of an extra that are not installed."""
    return [module for module in EXTRAS[extra].modules if not _is_there(module)]


def problem(*extras: str) -> MissingExtraError | None:
    """Return an error that names every one of the extras that is not installed, or None if there is none."""
    lacking = {extra: modules for extra in extras if (modules := missing(extra))}
    return _error(tuple(lacking), [module for modules in lacking.values() for module in modules]) if lacking else None


def require(*extras: str) -> None:
    """Raise what `problem` returns, if anything: before the work, not in the middle of it."""
    if error := problem(*extras):
        raise error


@contextmanager
def needed(extra: str) -> Iterator[None]:
    """Import libraries of an extra within this. Raises MissingExtraError if one is not installed.

    Raises ConfigurationError, with the loader's words, if one is installed and does not load: for want of a library of
    the system, for example.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise _error((extra,), [error.name or "?"]) from error
    except ImportError as error:
        raise ConfigurationError(
            f"{EXTRAS[extra].purpose} needs a library that is installed and cannot be loaded", got=str(error)
        ) from error


def explained(error: ModuleNotFoundError) -> MissingExtraError:
    """Return what is to be said of a module that was not found, wherever."""
    name = error.name or "?"
    top = name.split(".")[0]
    extra = next((extra for extra, about in EXTRAS.items() if top in about.modules), None)
    if extra is None:
        return MissingExtraError("a library that this needs is not installed", got=f"no module {name}", expected=name)
    return _error((extra,), [name])


def command(*extras: str) -> str:
    """Return what installs the extras."""
    return f"pip install 'veilmatch[{','.join(extras)}]'"


def _error(extras: tuple[str, ...], modules: list[str]) -> MissingExtraError:
    names = " and ".join(f"`{extra}`" for extra in extras)
    purposes = " and ".join(EXTRAS[extra].purpose for extra in extras)
    return MissingExtraError(
        f"{purposes} needs the extra{'s' if len(extras) > 1 else ''} {names} of Veilmatch",
        got=f"no module {', '.join(modules)}",
        expected=command(*extras),
    )


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):  # refused by an import hook, or marked as missing in sys.modules
        return False
