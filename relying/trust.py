"""Whom a relying party believes: the installation of a public.json, and the signing keys of its organisations."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from veilmatch.crypto.answer_share import KEY_ID_BYTES
from veilmatch.crypto.errors import ConfigurationError, InvalidInputError, KeyFileError, RecipientCertificateError
from veilmatch.crypto.keys.parties import PARTIES, Party
from veilmatch.crypto.keys.recipient_certificate import INSTALLATION_BYTES, RecipientCertificate
from veilmatch.crypto.parameters import ParameterSet

FORMAT = "veilmatch public key 2"
_SIGNER_BYTES = 32
#: No public.json is longer.
_MAX_BYTES = 1 << 14


@dataclass(frozen=True)
class Trust:
    """What of a public.json a relying party needs. It comes from the organisations, not from a device.

    installation, key_id: 16 bytes each. signers: Ed25519 public keys of the organisations, in the order of PARTIES.
    """

    installation: bytes
    key_id: bytes
    parameters: ParameterSet
    signers: tuple[bytes, ...]

    @staticmethod
    def load(path: str | Path) -> Trust:
        """Return what a public.json says. Raises ConfigurationError if it cannot be read, KeyFileError if it is none.

        The public key in it is not looked at: nothing is encrypted here.
        """
        try:
            with Path(path).open("rb") as file:
                data = file.read(_MAX_BYTES + 1)
        except OSError as error:
            raise ConfigurationError(
                "the public file cannot be read", got=f"{path}: {error.strerror}", expected="the public.json"
            ) from None
        return Trust.decode(data)

    @staticmethod
    def decode(data: bytes) -> Trust:
        """Return what the content of a public.json says. Raises KeyFileError if it is none."""
        try:
            if len(data) > _MAX_BYTES:
                raise ValueError
            fields = json.loads(data)
            if fields["format"] != FORMAT or set(fields["signers"]) != set(PARTIES):
                raise ValueError
            signers = tuple(_octets(fields["signers"][party], _SIGNER_BYTES) for party in PARTIES)
            if len(set(signers)) != len(signers):
                raise ValueError
            return Trust(
                installation=_octets(fields["installation"], INSTALLATION_BYTES),
                key_id=_octets(fields["key_id"], KEY_ID_BYTES),
                parameters=ParameterSet.from_name(fields["parameter_set"]),
                signers=signers,
            )
        except (ValueError, TypeError, KeyError, RecursionError, InvalidInputError):
            raise KeyFileError("not a public file with the keys of signers", expected=FORMAT) from None

    def signer(self, party: Party) -> Ed25519PublicKey:
        """Return the signing key of an organisation."""
        return Ed25519PublicKey.from_public_bytes(self.signers[PARTIES.index(party)])

    def require(self, certificate: RecipientCertificate) -> None:
        """Raise RecipientCertificateError unless two organisations signed the certificate, for this installation."""
        said = certificate.statement
        if said.installation != self.installation:
            raise RecipientCertificateError(
                "the recipient's certificate is for another installation",
                got=said.installation.hex(),
                expected=self.installation.hex(),
            )
        for party, signature in certificate.signatures:
            try:
                self.signer(party).verify(signature, said.signed_bytes())
            except InvalidSignature:
                raise RecipientCertificateError(
                    "a signature of the certificate is not that of its organisation, or the certificate was altered",
                    got=party,
                ) from None
        certificate.require_two()


def _octets(text: str, size: int) -> bytes:
    data = bytes.fromhex(text)
    if len(data) != size:
        raise ValueError
    return data
