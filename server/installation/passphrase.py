"""The passphrase of a key file: from a file, from the environment, or from a prompt; in this order."""

from __future__ import annotations

import getpass
import os
import sys
from pathlib import Path

from veilmatch.crypto.errors import ConfigurationError

VARIABLE = "VEILMATCH_PASSPHRASE"


def read_passphrase(file: Path | None, *, confirm: bool = False) -> str:
    """Return the passphrase, without the newline that ends it in a file.

    confirm: a prompted passphrase is asked for twice. Raises ConfigurationError if there is none.
    """
    if file is not None:
        try:
            passphrase = file.read_text()
        except (OSError, UnicodeDecodeError):
            raise ConfigurationError("the passphrase file cannot be read", expected=str(file)) from None
        passphrase = passphrase.removesuffix("\n")
    elif VARIABLE in os.environ:
        passphrase = os.environ[VARIABLE]
    elif sys.stdin.isatty():
        passphrase = _prompt(confirm)
    else:
        raise ConfigurationError("no passphrase", expected=f"--passphrase-file, {VARIABLE} or a terminal to ask on")
    if not passphrase:
        raise ConfigurationError("the passphrase is empty", expected="at least one character")
    return passphrase


def _prompt(confirm: bool) -> str:
    passphrase = getpass.getpass("Passphrase: ")
    if confirm and getpass.getpass("Passphrase again: ") != passphrase:
        raise ConfigurationError("the two passphrases differ")
    return passphrase
