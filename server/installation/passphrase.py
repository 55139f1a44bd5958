"""The passphrase of a key file: from a file, from the environment, or from a prompt; in this order."""

from __future__ import annotations

import getpass
import os
import sys
from pathlib import Path

from veilmatch.common.secret_file import require_private
from veilmatch.crypto.errors import ConfigurationError

VARIABLE = "VEILMATCH_PASSPHRASE"
#: Of the passphrase that takes the place of another one.
NEW_VARIABLE = "VEILMATCH_NEW_PASSPHRASE"


def read_passphrase(
    file: Path | None, *, confirm: bool = False, variable: str = VARIABLE, name: str = "Passphrase"
) -> str:
    """Return the passphrase without the one newline that may end it; nothing else is stripped.

    file: read if given, and then nothing else is tried. confirm: a prompted passphrase is asked for twice.
    variable: of the environment. name: what the prompt calls it. Raises ConfigurationError if there is none, and
    no terminal to ask on, or if it is empty or not Unicode text; KeyFileError if others than its owner have a right to
    the file.
    """
    if file is not None:
        passphrase, source = _read(file), str(file)
    elif variable in os.environ:
        passphrase, source = os.environ[variable], variable
    elif sys.stdin is not None and sys.stdin.isatty():
        passphrase, source = _prompt(name, confirm), "the terminal"
    else:
        raise ConfigurationError(
            f"no {name.lower()}", expected=f"a passphrase file, {variable} or a terminal to ask on"
        )
    if passphrase.endswith("\n"):
        passphrase = passphrase.removesuffix("\n").removesuffix("\r")
    if not passphrase:
        raise ConfigurationError(f"the passphrase of {source} is empty", expected="at least one character")
    if _encoded(passphrase) is None:
        raise ConfigurationError(f"the passphrase of {source} is not text", expected="UTF-8")
    return passphrase


def passphrase_bytes(passphrase: str) -> bytes:
    """Return the passphrase in UTF-8. Raises ConfigurationError if it is not Unicode text."""
    encoded = _encoded(passphrase)
    if encoded is None:
        raise ConfigurationError("the passphrase is not text", expected="UTF-8")
    return encoded


def _encoded(passphrase: str) -> bytes | None:
    # No exception is caught here: Python's would quote the passphrase and stay attached to ours.
    encoded = passphrase.encode(errors="replace")
    return encoded if encoded.decode() == passphrase else None


def _read(file: Path) -> str:
    try:
        # A pipe may be given as well, of a shell or a secret manager, and is waited for.
        with file.open("rb") as opened:
            require_private(opened.fileno(), file, "the passphrase file")
            data = opened.read()
    except OSError as error:
        raise ConfigurationError("the passphrase file cannot be read", got=error.strerror, expected=str(file)) from None
    # What is not UTF-8 becomes lone surrogates, as in the environment, and is refused as those are.
    return data.decode(errors="surrogateescape")


def _prompt(name: str, confirm: bool) -> str:
    try:
        passphrase = getpass.getpass(f"{name}: ")
        again = getpass.getpass(f"{name} again: ") if confirm else passphrase
    except EOFError:
        raise ConfigurationError("no passphrase was entered") from None
    if again != passphrase:
        raise ConfigurationError("the two passphrases differ")
    return passphrase
