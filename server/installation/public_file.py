"""Reading `public.json` at a daemon."""

from __future__ import annotations

from pathlib import Path

from veilmatch.crypto.encryption.paillier import PublicKey
from veilmatch.crypto.encryption.public_key_format import PublicFile
from veilmatch.crypto.errors import ConfigurationError


def read_public_file(path: Path) -> PublicFile:
    """Return the installation's public file, validated. Raises ConfigurationError if it cannot be read."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigurationError("the public key file cannot be read", got=error.strerror, expected=str(path)) from None
    return PublicFile.decode(data)


def read_public_key(path: Path) -> PublicKey:
    """Return the public key of the installation's public file."""
    return read_public_file(path).public_key
