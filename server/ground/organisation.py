"""The signing key of an organisation: its daemons sign with it for the organisation.

    key = OrganisationKey.fresh("a")
    signature = key.sign("gallery change v1", message)
    verify(public_file.signer("a"), "gallery change v1", message, signature)

One Ed25519 key for all that an organisation's matcher and key holder sign. The context says what a signature is of, and
is signed with it, so that none is taken for one of another kind. Certificates of devices have another key, off-line.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from veilmatch.crypto.errors import KeyFileError
from veilmatch.crypto.gallery_change import SIGNATURE_BYTES, signed_by_organisation
from veilmatch.crypto.keys.parties import Party
from veilmatch.crypto.secret_access import SecretAccess, SecretHolder


@dataclass(frozen=True, repr=False)
class OrganisationKey(SecretHolder):
    """An organisation's Ed25519 signing key; a handle that does not show it."""

    party: Party
    _key: Ed25519PrivateKey

    @staticmethod
    def fresh(party: Party) -> OrganisationKey:
        """Return a new key."""
        return OrganisationKey(party, Ed25519PrivateKey.generate())

    @staticmethod
    def from_secret_bytes(party: Party, data: bytes) -> OrganisationKey:
        """Return the key of `to_secret_bytes`. Raises KeyFileError if it is none."""
        try:
            return OrganisationKey(party, Ed25519PrivateKey.from_private_bytes(data))
        except ValueError:
            raise KeyFileError("not a signing key", got=f"{len(data)} bytes", expected="32 bytes") from None

    def to_secret_bytes(self, access: SecretAccess) -> bytes:
        """Return the private key, 32 bytes."""
        return self._key.private_bytes_raw()

    @property
    def public_bytes(self) -> bytes:
        """The public key, 32 bytes."""
        return self._key.public_key().public_bytes_raw()

    def sign(self, context: str, message: bytes) -> bytes:
        """Return the organisation's signature of a message, 64 bytes. context: what is signed, "gallery change v1"."""
        return self._key.sign(signed_by_organisation(context, message))

    def sign_statement(self, payload: bytes) -> str:
        """Return a statement about an answer as a compact JWS; see `statements`."""
        # Only here: a ceremony needs no extra.
        from veilmatch.server.ground.statements import signed_statement

        return signed_statement(self._key, payload)


def verify(public: bytes, context: str, message: bytes, signature: bytes) -> bool:
    """Return whether this is the signature of a message under a public key of 32 bytes, in this context.

    What it was asked lately it knows: a matcher states the same of a gallery in every request until that changes, and
    its signature is the same then. All of it is public, and short: a message is a digest.
    """
    # Nothing of another length is kept in memory: it is as long as whoever sent it liked.
    return len(signature) == SIGNATURE_BYTES and _is_signature(public, context, message, signature)


@lru_cache(maxsize=256)
def _is_signature(public: bytes, context: str, message: bytes, signature: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, signed_by_organisation(context, message))
    except (InvalidSignature, ValueError):
        return False
    return True
