"""`veilmatch` is the one place to import from, and importing it costs the daemons nothing."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import get_type_hints

import pytest

import veilmatch
from veilmatch import AsyncClient, Client
from veilmatch.client import results
from veilmatch.crypto import errors

ROOT = Path(__file__).parents[2]
#: Names in signatures that are Python's own.
PYTHON = {
    "Any", "BaseException", "Callable", "Exception", "Iterable", "Mapping", "None", "Path", "Sequence", "TracebackType",
}  # fmt: skip


def python(program: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    ).stdout.strip()


def defined_in(module: ModuleType) -> set[str]:
    return {
        name
        for name, value in vars(module).items()
        if inspect.isclass(value) and f"{value.__module__}.".startswith(f"{module.__name__}.")
    }


def test_every_error_and_every_result_is_there() -> None:
    classes = {name for name in defined_in(errors) if issubclass(getattr(errors, name), BaseException)}
    assert len(classes) > 40 and classes <= set(veilmatch.__all__)
    assert {name for name in defined_in(results) if not name.startswith("_")} <= set(veilmatch.__all__)


@pytest.mark.parametrize("client", [Client, AsyncClient])
def test_every_type_in_a_signature_of_a_client_is_there(client: type) -> None:
    methods = [value for name, value in inspect.getmembers(client, callable) if name == "__init__" or name[0] != "_"]
    assert len(methods) > 15
    annotations = [str(note) for method in methods for note in inspect.get_annotations(method).values()]
    named = {name for note in annotations for name in re.findall(r"\b[A-Z]\w+", note)}
    assert {"ImageSource", "Embedding", "Progress", "Verification"} <= named
    assert named - PYTHON <= set(veilmatch.__all__)


def test_every_name_can_be_imported_and_is_listed() -> None:
    for name in veilmatch.__all__:
        assert getattr(veilmatch, name) is not None
    assert dir(veilmatch) == sorted(veilmatch.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Cleint'"):
        veilmatch.Cleint  # type: ignore[attr-defined]  # noqa: B018


def test_type_checkers_are_told_the_same_places_as_python() -> None:
    tree = ast.parse((ROOT / "client/public/__init__.py").read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    told = {name.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for name in node.names}
    assert told == veilmatch._PLACE
    assert set(told) | {"__version__"} == set(veilmatch.__all__)
    for name, place in told.items():
        assert getattr(sys.modules[str(place)], name) is getattr(veilmatch, name)


def test_there_is_one_version() -> None:
    assert veilmatch.__version__ == version("veilmatch")
    done = subprocess.run([sys.executable, "-m", "veilmatch", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"veilmatch {veilmatch.__version__}\n"


def test_importing_it_loads_nothing_else() -> None:
    assert python("import sys, veilmatch; print([m for m in sys.modules if m.startswith(('veilmatch.', 'n'))])") == (
        python("import sys; print([m for m in sys.modules if m.startswith(('veilmatch.', 'n'))])")
    )


@pytest.mark.parametrize("module", ["server.keyholder.daemon", "server.matcher.daemon", "crypto.pair.session"])
def test_neither_daemons_nor_the_mathematics_load_the_sdk(module: str) -> None:
    program = (
        f"import sys, veilmatch.{module}\n"
        "device = ('veilmatch.client', 'onnxruntime', 'PIL', 'onnx', 'unearth')\n"
        "print([m for m in sys.modules if m.startswith(device)])"
    )
    assert python(program) == "[]"


def test_the_photo_libraries_come_with_the_first_photo() -> None:
    program = "import sys; from veilmatch import *; print([m for m in ('onnxruntime', 'PIL') if m in sys.modules])"
    assert python(program) == "[]"


def test_results_have_types_that_resolve() -> None:
    for name in ("Verification", "IdentifyResult", "Candidates", "Enrolment", "Erasure"):
        assert get_type_hints(getattr(veilmatch, name))
