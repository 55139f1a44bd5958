"""`veilmatch doctor`: what this installation runs on, and what it lacks."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import typer
from rich.table import Table
from rich.text import Text

from veilmatch.client.commands._options import Json
from veilmatch.client.models import MODELS, is_installed
from veilmatch.common.output import show_json, show_tables
from veilmatch.crypto.errors import ConfigurationError
from veilmatch.crypto.rings.choice import available, choose, kernel_is_built

_DONE = "this machine was looked at"
#: What an optional part needs, and what to install for it.
_PARTS = {
    "device": ("onnxruntime", "PIL"),
    "server": ("sqlalchemy", "grpc_health"),
    "models": ("onnx",),
}


def register(app: typer.Typer) -> None:
    """Add the command to app."""
    app.command("doctor")(doctor)


def doctor(as_json: Json = False) -> None:
    """Say which arithmetic runs and why, which parts are installed, and whether the face models are there.

    Exit status 0 if queries can be made and answered here, else 3.
    """
    found = diagnose()
    if as_json:
        show_json(found, done=_DONE)
    else:
        _print(found)
    raise typer.Exit(0 if found["problem"] is None else ConfigurationError.exit_status)


def diagnose() -> dict[str, Any]:
    """Return the findings. problem: what keeps the arithmetic from running, else None."""
    try:
        choice = choose()
        backend, reason, problem = choice.backend, choice.reason, None
    except ConfigurationError as error:
        backend, reason, problem = None, "", f"{error.message}; got {error.got}, expected {error.expected}"
    return {
        "version": _version("veilmatch"),
        "python": platform.python_version(),
        "processor": _processor(),
        "backend": backend,
        "reason": reason,
        "backends": list(available()),
        "native_kernel": kernel_is_built(),
        "gmpy2": _version("gmpy2"),
        "parts": {part: all(map(find_spec, modules)) for part, modules in _PARTS.items()},
        "models": is_installed(MODELS),
        "problem": problem,
    }


def _print(found: dict[str, Any]) -> None:
    table = Table.grid(padding=(0, 2))
    rows = [
        ("Veilmatch", f"{found['version']}, Python {found['python']}, gmpy2 {found['gmpy2']}"),
        ("processor", found["processor"]),
        ("arithmetic", found["problem"] or f"{found['backend']}: {found['reason']}"),
        ("backends that run here", ", ".join(found["backends"])),
        (
            "native kernel",
            "built" if found["native_kernel"] else "not built: install a C compiler, then Veilmatch again",
        ),
    ]
    for part, there in found["parts"].items():
        rows.append((f"part {part!r}", "installed" if there else f"not installed: pip install 'veilmatch[{part}]'"))
    rows.append(("face models", "installed" if found["models"] else "not installed: veilmatch models install"))
    for name, finding in rows:
        table.add_row(name, Text(finding))  # brackets are no markup
    show_tables(table, done=_DONE)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
