"""What `crypto` may use of packages that a contract of import-linter cannot look inside of."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import veilmatch.crypto

SOURCES = sorted(Path(next(iter(veilmatch.crypto.__path__))).rglob("*.py"))
#: Symmetric primitives. Nothing of x509, of TLS, of serialisation or of another public-key scheme.
ALLOWED = {
    "cryptography.hazmat.primitives.hashes",
    "cryptography.hazmat.primitives.ciphers.Cipher",
    "cryptography.hazmat.primitives.ciphers.algorithms",
    "cryptography.hazmat.primitives.ciphers.modes",
    "cryptography.hazmat.primitives.kdf.hkdf.HKDFExpand",
}


def imported(tree: ast.AST) -> Iterator[str]:
    """Every name that is imported, with the module that it is from."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_crypto_takes_symmetric_primitives_of_cryptography_and_nothing_else() -> None:
    found = {name for path in SOURCES for name in imported(ast.parse(path.read_text()))}
    assert {name for name in found if name.split(".")[0] == "cryptography"} == ALLOWED


def test_crypto_opens_no_file_and_imports_nothing_by_name() -> None:
    called = {
        node.func.id
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert called.isdisjoint({"open", "print", "input", "exec", "eval", "compile", "__import__"})
