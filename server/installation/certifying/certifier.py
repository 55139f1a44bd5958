"""The certification key of an organisation, and certifying a device with it.

Every organisation has one, beside its key share. What two of them have signed about a device, all daemons go by.
"""

from __future__ import annotations

import datetime
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from veilmatch.crypto.encryption.public_key_format import PublicFile
from veilmatch.crypto.errors import ConfigurationError, KeyFileError
from veilmatch.crypto.keys.device_certificate import ALL_GALLERIES, DeviceCertificate, Statement
from veilmatch.crypto.keys.parties import Party
from veilmatch.crypto.keys.revocation_list import RevocationList
from veilmatch.crypto.keys.signed_by_two import SERIAL_BYTES
from veilmatch.crypto.requests import USUAL_RIGHTS, Operation
from veilmatch.crypto.secret_access import SecretAccess, SecretHolder
from veilmatch.server.installation.lowest import Lowest

DEFAULT_DAYS = 825
MAX_DAYS = 3650
#: Clocks of the parties may differ by this much.
_BACKDATED = datetime.timedelta(minutes=5)


@dataclass(frozen=True, repr=False)
class Certifier(SecretHolder):
    """An organisation's Ed25519 key for certificates of devices; a handle that does not show it."""

    party: Party
    _key: Ed25519PrivateKey

    @staticmethod
    def fresh(party: Party) -> Certifier:
        """Return a new key."""
        return Certifier(party, Ed25519PrivateKey.generate())

    @staticmethod
    def from_secret_bytes(party: Party, data: bytes) -> Certifier:
        """Return the key of `to_secret_bytes`. Raises KeyFileError if it is none."""
        try:
            return Certifier(party, Ed25519PrivateKey.from_private_bytes(data))
        except ValueError:
            raise KeyFileError("not a certification key", got=f"{len(data)} bytes", expected="32 bytes") from None

    def to_secret_bytes(self, access: SecretAccess) -> bytes:
        """Return the private key, 32 bytes."""
        return self._key.private_bytes_raw()

    @property
    def public_bytes(self) -> bytes:
        """The public key, 32 bytes."""
        return self._key.public_key().public_bytes_raw()

    def certify(self, certificate: DeviceCertificate) -> DeviceCertificate:
        """Return the certificate with this organisation's signature."""
        return certificate.with_signature(self.party, self._key.sign(certificate.statement.signed_bytes()))

    def sign_list(self, revoked: RevocationList) -> RevocationList:
        """Return a revocation list with this organisation's signature."""
        return revoked.with_signature(self.party, self._key.sign(revoked.statement.signed_bytes()))


@dataclass(frozen=True)
class Grant:
    """What a device is to be allowed, from which thresholds on, for whom, and for how many days from now.

    recipient_only: it may compare for a recipient only, and does not learn the answer. liveness: detectors that it may
    compare after, as in a certificate.
    Raises ConfigurationError for days that no certificate can have.
    """

    rights: tuple[Operation, ...] = USUAL_RIGHTS
    galleries: tuple[str, ...] = ALL_GALLERIES
    days: int = DEFAULT_DAYS
    lowest: Lowest = field(default_factory=Lowest)
    recipient_only: bool = False
    liveness: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.days <= MAX_DAYS:
            raise ConfigurationError("not a validity", got=f"{self.days} days", expected=f"1..{MAX_DAYS} days")

    def request(self, public: PublicFile, device: str, public_key: bytes, now: datetime.datetime) -> DeviceCertificate:
        """Return the certificate to be signed, for the installation of a public file.

        Raises DeviceCertificateError for rights that there are not, or recipient_only or liveness without one that
        compares; ConfigurationError for a lowest threshold of an operation that is not among the rights.
        """
        rights = tuple(sorted(set(self.rights)))
        statement = Statement(
            installation=public.installation,
            device=device,
            public_key=public_key,
            rights=rights,
            galleries=tuple(sorted(set(self.galleries))),
            lowest=self.lowest.thresholds(rights, public.public_key.parameters),
            not_before_s=int((now - _BACKDATED).timestamp()),
            not_after_s=int((now + datetime.timedelta(days=self.days)).timestamp()),
            serial=secrets.token_bytes(SERIAL_BYTES),
            recipient_only=self.recipient_only,
            liveness=self.liveness,
        )
        return DeviceCertificate(statement)


def certified(certificate: DeviceCertificate, certifiers: Iterable[Certifier]) -> DeviceCertificate:
    """Return the certificate with the signatures of all these organisations."""
    for certifier in certifiers:
        certificate = certifier.certify(certificate)
    return certificate
