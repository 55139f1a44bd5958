"""The public key file, `public.json`: what every party of an installation holds.

Beside the public key it has two keys of each of the three organisations: that with which it certifies devices,
off-line, and that with which its daemons sign.

Bytes in and bytes out: daemons and devices read the file themselves. One encoding only: `decode`
accepts exactly what `encode` makes, byte for byte.
"""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import dataclass

from veilmatch.crypto.arithmetic import Integer
from veilmatch.crypto.encryption.paillier import PublicKey
from veilmatch.crypto.errors import InvalidInputError, KeyFileError, KeyMismatchError
from veilmatch.crypto.keys.parties import PARTIES, Party
from veilmatch.crypto.parameters import ParameterSet

FORMAT = "veilmatch public key 2"
#: Of installations with two matchers, which had no keys that daemons sign with.
OLD_FORMAT = "veilmatch public key 1"
INSTALLATION_BYTES = 16
KEY_ID_BYTES = 16
#: An Ed25519 public key.
SIGNATURE_KEY_BYTES = 32
#: No file is longer; one of 3072 bits has 2.8 kB.
MAX_BYTES = 1 << 14
_DIGITS = re.compile(r"[0-9a-f]+")
_FIELDS = {"format", "installation", "parameter_set", "key_id", "modulus", "hs", "organisations", "signers"}


@dataclass(frozen=True)
class PublicFile:
    """A public key, the installation that it belongs to (16 random bytes), and the organisations' own keys.

    Ed25519 public keys, six different ones, each field in the order of PARTIES. organisations: they certify devices.
    signers: daemons sign for their organisation.
    """

    public_key: PublicKey
    installation: bytes
    organisations: tuple[bytes, ...]
    signers: tuple[bytes, ...]

    @staticmethod
    def fresh(public_key: PublicKey, organisations: tuple[bytes, ...], signers: tuple[bytes, ...]) -> PublicFile:
        """Return the file of a new installation."""
        return PublicFile(public_key, secrets.token_bytes(INSTALLATION_BYTES), organisations, signers)

    def organisation(self, party: Party) -> bytes:
        """Return the key that an organisation certifies devices with."""
        return self.organisations[PARTIES.index(party)]

    def signer(self, party: Party) -> bytes:
        """Return the key that an organisation's daemons sign with."""
        return self.signers[PARTIES.index(party)]

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
            "organisations": {party: own.hex() for party, own in zip(PARTIES, self.organisations, strict=True)},
            "signers": {party: own.hex() for party, own in zip(PARTIES, self.signers, strict=True)},
        }
        return (json.dumps(fields, indent=1) + "\n").encode()

    @staticmethod
    def decode(data: bytes) -> PublicFile:
        """Return what `data` holds, its key validated.

        Raises KeyFileError if it is not exactly one encoding or the key is unsound, KeyMismatchError if
        the key is not the one that the file names.
        """
        if len(data) > MAX_BYTES:
            raise KeyFileError("not a public key file", got=f"{len(data)} bytes", expected=f"at most {MAX_BYTES} bytes")
        try:
            fields = json.loads(data)
            _require_present_format(fields)
            if not isinstance(fields, dict) or set(fields) != _FIELDS or fields["format"] != FORMAT:
                raise ValueError
            parameters = ParameterSet.from_name(fields["parameter_set"])
            # Twice the size for both, so that `validate` can say what is wrong with a modulus of another size.
            modulus, hs = (_integer(fields[name], 2 * parameters.modulus_bits) for name in ("modulus", "hs"))
            installation = _octets(fields["installation"], INSTALLATION_BYTES)
            key_id = _octets(fields["key_id"], KEY_ID_BYTES)
            organisations, signers = (_by_party(fields[name]) for name in ("organisations", "signers"))
            if set(organisations) & set(signers):
                # What is signed with one would be taken for what is signed with the other.
                raise ValueError
        except (ValueError, TypeError, RecursionError, InvalidInputError):
            raise KeyFileError("not a public key file", expected=FORMAT) from None
        found = PublicFile(PublicKey(parameters, modulus, hs).validate(), installation, organisations, signers)
        if found.public_key.key_id != key_id:
            raise KeyMismatchError(
                "the public key is not the one it is named as",
                got=found.public_key.key_id.hex(),
                expected=key_id.hex(),
            )
        if found.encode() != data:
            raise KeyFileError("not the one encoding of this public key", expected=FORMAT)
        return found


def _integer(text: str, bits: int) -> Integer:
    """Return a positive integer from hexadecimal digits, of at most `bits` bits. Raises ValueError."""
    if not _DIGITS.fullmatch(text) or len(text) > bits // 4:
        raise ValueError
    return Integer(int(text, 16))


def _octets(text: str, size: int) -> bytes:
    if not _DIGITS.fullmatch(text) or len(text) != 2 * size:
        raise ValueError
    return bytes.fromhex(text)


def _require_present_format(fields: object) -> None:
    """Raise KeyFileError for the file of an installation of the format before."""
    if isinstance(fields, dict) and fields.get("format") == OLD_FORMAT:
        raise KeyFileError(
            "the public key file of an installation of two matchers",
            got=OLD_FORMAT,
            expected=FORMAT,
            hint="Move the installation to three alike organisations: docs/operations.md, moving an installation.",
        )


def _by_party(fields: dict[str, str]) -> tuple[bytes, ...]:
    """Return three different keys. Raises ValueError or TypeError."""
    if not isinstance(fields, dict) or set(fields) != set(PARTIES):
        raise ValueError
    found = tuple(_octets(fields[party], SIGNATURE_KEY_BYTES) for party in PARTIES)
    if len(set(found)) != len(found):
        # Two signatures would be one organisation's.
        raise ValueError
    return found
