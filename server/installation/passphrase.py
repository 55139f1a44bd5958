"""The passphrase of a key file: from a file, from the environment, or from a prompt; in this order."""

from __future__ import annotations

import getpass
import os
import sys
from pathlib import Path

from veilmatch.crypto.errors import ConfigurationError

VARIABLE = "VEILMATCH_PASSPHRASE"
#: What OpenSSL takes for an encrypted PEM file.
MAX_BYTES = 1023


def read_passphrase(file: Path | None, *, confirm: bool = False) -> str:
    """Return the passphrase without the one newline that may end it; nothing else is stripped.

    file: read if given, and then nothing else is tried. confirm: a prompted passphrase is asked for twice. Raises
    ConfigurationError if there is none, and no terminal to ask on, or if it cannot be one (see passphrase_bytes).
    """
    if file is not None:
        passphrase = _read(file)
    elif VARIABLE in os.environ:
        passphrase = os.environ[VARIABLE]
    elif sys.stdin is not None and sys.stdin.isatty():
        passphrase = _prompt(confirm)
    else:
        raise ConfigurationError("no passphrase", expected=f"a passphrase file, {VARIABLE} or a terminal to ask on")
    passphrase = passphrase.removesuffix("\n").removesuffix("\r") if passphrase.endswith("\n") else passphrase
    passphrase_bytes(passphrase)
    return passphrase


def passphrase_bytes(passphrase: str) -> bytes:
    """Return the passphrase in UTF-8. Raises ConfigurationError if it is empty, over 1023 bytes or not Unicode."""
    if not passphrase:
        raise ConfigurationError("the passphrase is empty", expected="at least one character")
    encoded = passphrase.encode(errors="replace")
    # Not caught as an exception: Python's quotes the passphrase, and stays attached to the one raised here.
    if encoded.decode() != passphrase:
        raise ConfigurationError("the passphrase is not text", expected="UTF-8")
    if len(encoded) > MAX_BYTES:
        raise ConfigurationError("the passphrase is too long", expected=f"at most {MAX_BYTES} bytes")
    return encoded


def _read(file: Path) -> str:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ConfigurationError("the passphrase file cannot be read", got=error.strerror, expected=str(file)) from None
    # What is not UTF-8 becomes lone surrogates, as in the environment, and is refused as those are.
    return data.decode(errors="surrogateescape")


def _prompt(confirm: bool) -> str:
    try:
        passphrase = getpass.getpass("Passphrase: ")
        again = getpass.getpass("Passphrase again: ") if confirm else passphrase
    except EOFError:
        raise ConfigurationError("no passphrase was entered") from None
    if again != passphrase:
        raise ConfigurationError("the two passphrases differ")
    return passphrase
