"""Reading `public.json`, as every party does."""

from __future__ import annotations

from pathlib import Path

from veilmatch.crypto.encryption.paillier import PublicKey
from veilmatch.crypto.encryption.public_key_format import PublicFile
from veilmatch.crypto.errors import ConfigurationError, VeilmatchError


def read_public_file(path: Path) -> PublicFile:
    """Return the installation's public file, validated.

    Raises ConfigurationError if it cannot be read, KeyFileError or KeyMismatchError, naming the file, if it is none.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(
            "the public key cannot be read", got=f"{path}: {error.strerror}", expected="the installation's public.json"
        ) from None
    try:
        return PublicFile.decode(data)
    except VeilmatchError as error:
        fields = error.fields() | {"message": f"{path}: {error.message}"}
        fields["hint"] = fields.get("hint") or "Let `public_key` name the public.json that the key ceremony made."
        raise VeilmatchError.from_fields(fields) from None


def read_public_key(path: Path) -> PublicKey:
    """Return the public key of the installation's public file."""
    return read_public_file(path).public_key
