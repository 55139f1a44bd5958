"""The parties of the demonstration: a fresh ceremony, and six daemons as separate processes."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from veilmatch.common.process import LIFELINE_VARIABLE
from veilmatch.crypto.errors import ConfigurationError, UnavailableError, VeilmatchError

#: Where the daemons listen above the base port; see `veilmatch ceremony local --base-port`.
_OFFSETS = (*range(1, 7), *range(11, 17))
_VEILMATCH = [sys.executable, "-m", "veilmatch"]


def free_base_port() -> int:
    """Return a base port above which all ports of six daemons are free on this machine.

    The search begins at random: somebody else may be looking for ports as well, and uses them only later.
    """
    bases = list(range(7400, 32000, 100))  # below the ports that systems give to outgoing connections
    first = secrets.randbelow(len(bases))
    for base in bases[first:] + bases[:first]:
        if all(_is_free(base + offset) for offset in _OFFSETS):
            return base
    raise ConfigurationError("no free ports on this machine")


def hold_ceremony(directory: Path, parameters: str, passphrase: str, *, jointly: bool = False) -> dict[str, Any]:
    """Run `veilmatch ceremony local` for one device; return what it reports.

    jointly: as three organisations do, so that no key share is dealt by anybody.
    """
    # Six daemons share this machine's cores, and two organisations serve a request.
    workers = max(1, (os.cpu_count() or 1) // 2)
    arguments = ["--parameters", parameters, "--base-port", str(free_base_port()), "--workers", str(workers), "--json"]
    arguments += ["--jointly"] if jointly else []
    done = subprocess.run(
        [*_VEILMATCH, "ceremony", "local", str(directory), *arguments],
        env=_environment(passphrase),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        check=False,
    )
    return _document(done.stdout, "the key ceremony", done.returncode)


@contextmanager
def all_parties(directory: Path, passphrase: str) -> Iterator[dict[str, str]]:
    """Run `veilmatch up`: two daemons of each organisation; gives their addresses, stops them at the end."""
    process = subprocess.Popen(
        [*_VEILMATCH, "up", str(directory), "--json"],
        env=_environment(passphrase) | {LIFELINE_VARIABLE: "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        yield _document(process.stdout.readline(), "the start of the daemons", process.poll())["parties"]
    finally:
        process.terminate()
        process.wait()


def fresh_passphrase() -> str:
    """Return a passphrase for this run alone."""
    return secrets.token_urlsafe(24)


def _document(printed: bytes, what: str, status: int | None) -> dict[str, Any]:
    """Return the document that a command printed. Raises the error that it tells of instead."""
    try:
        document: dict[str, Any] = json.loads(printed)
    except ValueError:
        raise UnavailableError(f"{what} failed", available=f"exit status {status}") from None
    if "error" in document:
        raise VeilmatchError.from_fields(document["error"])
    return document


def _environment(passphrase: str) -> dict[str, str]:
    return os.environ | {"VEILMATCH_PASSPHRASE": passphrase}


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
