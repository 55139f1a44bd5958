"""The public key file, `public.json`: what every party of an installation holds.

One encoding only: `decode` accepts exactly what `encode` makes, byte for byte.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass

from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.errors import InvalidInputError, KeyFileError, KeyMismatchError
from veilmatch.crypto.paillier import PublicKey
from veilmatch.crypto.parameters import ParameterSet

FORMAT = "veilmatch public key 1"
INSTALLATION_BYTES = 16
_FIELDS = {"format", "installation", "parameter_set", "key_id", "modulus", "hs"}


@dataclass(frozen=True)
class PublicFile:
    """A public key and the installation that it belongs to (16 random bytes)."""

    public_key: PublicKey
    installation: bytes

    @staticmethod
    def fresh(public_key: PublicKey) -> PublicFile:
        """Return the file of a new installation."""
        return PublicFile(public_key, secrets.token_bytes(INSTALLATION_BYTES))

    def encode(self) -> bytes:
        """Return the file's content."""
        key = self.public_key
        fields = {
            "format": FORMAT,
            "installation": self.installation.hex(),
            "parameter_set": key.parameters.name,
            "key_id": key.key_id.hex(),
            "modulus": f"{key.modulus:x}",
            "hs": f"{key.hs:x}",
        }
        return (json.dumps(fields, indent=1) + "\n").encode()

    @staticmethod
    def decode(data: bytes) -> PublicFile:
        """Return what `data` holds, its key validated.

        Raises KeyFileError if it is not exactly one encoding or the key is unsound, KeyMismatchError if
        the key is not the one that the file names.
        """
        try:
            fields = json.loads(data)
            if not isinstance(fields, dict) or set(fields) != _FIELDS or fields["format"] != FORMAT:
                raise ValueError
            key = PublicKey(
                ParameterSet.from_name(fields["parameter_set"]),
                Integer(int(fields["modulus"], 16)),
                Integer(int(fields["hs"], 16)),
            )
            found = PublicFile(key, bytes.fromhex(fields["installation"]))
            key_id = bytes.fromhex(fields["key_id"])
        except (ValueError, TypeError, KeyError, RecursionError, InvalidInputError):
            raise KeyFileError("not a public key file", expected=FORMAT) from None
        key.validate()
        if key.key_id != key_id:
            raise KeyMismatchError("the public key is not the one it is named as", got=key.key_id.hex(), expected=key_id.hex())
        if len(found.installation) != INSTALLATION_BYTES or found.encode() != data:
            raise KeyFileError("not the one encoding of this public key", expected=FORMAT)
        return found
