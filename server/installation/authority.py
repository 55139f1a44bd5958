"""The TLS authority of an installation, or of one organisation: ECDSA P-256 certificates named after the parties.

Its key is kept so that devices can be added later: an encrypted PEM file whose password is stretched from the
passphrase with the certificate's fingerprint as salt. The PEM format alone has 2048 rounds of PBKDF2, which would
make the passphrase, and with it the sealed key shares, a thousand times cheaper to guess.
"""

from __future__ import annotations

import datetime
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from veilmatch.common.authorities import may_name, organisations_of
from veilmatch.common.pem import certificates_of
from veilmatch.crypto.errors import ConfigurationError, KeyFileError, WrongPassphraseError
from veilmatch.crypto.keys.parties import PARTIES, Party
from veilmatch.crypto.secret_access import SecretHolder
from veilmatch.server.installation.stretching import DEFAULT_COST, ScryptCost, stretch

_AUTHORITY_VALIDITY = datetime.timedelta(days=3650)
#: How long a certificate is valid, unless it is said.
PARTY_VALIDITY = datetime.timedelta(days=825)
#: Clocks of the parties may differ by this much.
_BACKDATED = datetime.timedelta(minutes=5)


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


@dataclass(frozen=True, repr=False)
class Authority(SecretHolder):
    """The authority's certificate and its private key; a handle that does not show the key."""

    certificate: x509.Certificate
    _key: ec.EllipticCurvePrivateKey

    @staticmethod
    def fresh(clock: Callable[[], datetime.datetime] = _now, organisation: Party | None = None) -> Authority:
        """Return a new authority, valid for ten years. organisation: whose it is, None if it is of all."""
        key = ec.generate_private_key(ec.SECP256R1())
        # A name of its own: certificates of two installations never look alike to whoever has to tell them apart.
        own = organisation and f"organisation-{organisation}"
        name = _name(f"Veilmatch authority {secrets.token_hex(8)}", own)
        now = clock()
        builder = _builder(name, name, key.public_key(), now - _BACKDATED, now + _AUTHORITY_VALIDITY)
        for extension, critical in (
            (x509.BasicConstraints(ca=True, path_length=0), True),
            (_usage(sign_certificates=True), True),
            (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
        ):
            builder = builder.add_extension(extension, critical=critical)
        return Authority(builder.sign(key, hashes.SHA256()), key)

    @staticmethod
    def from_pem(certificate: bytes, key: bytes, passphrase: str, cost: ScryptCost = DEFAULT_COST) -> Authority:
        """Return an authority from its files.

        cost: that which `key_pem` was given. Raises WrongPassphraseError if the passphrase does not open the key, or
        a file was altered; KeyFileError if the files are no authority's or do not belong together.
        """
        try:
            parsed = certificates_of(certificate)[0]
            public_key = parsed.public_key()
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise KeyFileError("the authority's certificate is not one", expected="a PEM file") from None
        if b"-----BEGIN ENCRYPTED PRIVATE KEY-----" not in key:
            raise KeyFileError("the authority's key is not an encrypted key", expected="PKCS8 PEM")
        try:
            loaded = serialization.load_pem_private_key(key, _password(passphrase, parsed, cost))
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise WrongPassphraseError(
                "the passphrase does not open the authority's key, or its key or certificate was altered"
            ) from None
        if not isinstance(loaded, ec.EllipticCurvePrivateKey) or loaded.public_key() != public_key:
            raise KeyFileError("the authority's key and certificate do not belong together")
        return Authority(parsed, loaded)

    @property
    def organisation(self) -> Party | None:
        """Whose it is; None if it is of all."""
        own = organisations_of(self.certificate)
        return next((party for party in PARTIES if own == {party}), None)

    def certificate_pem(self) -> bytes:
        """Return the authority's certificate."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def key_pem(self, passphrase: str, cost: ScryptCost = DEFAULT_COST) -> bytes:
        """Return the authority's key, encrypted under the passphrase."""
        encryption = serialization.BestAvailableEncryption(_password(passphrase, self.certificate, cost))
        return self._key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)

    def issue(
        self,
        party_name: str,
        *,
        is_server: bool = True,
        clock: Callable[[], datetime.datetime] = _now,
        validity: datetime.timedelta = PARTY_VALIDITY,
    ) -> tuple[bytes, bytes]:
        """Return certificate and key, PEM, of a party: its name is the common name and the one DNS name.

        is_server: the party listens as well as calls; a device only calls. Valid for 825 days unless said, but not
        longer than the authority. Raises KeyFileError if the authority has expired, ConfigurationError for a server of
        an organisation whose authority this is not: nobody would believe it.
        """
        if not may_name(self.certificate, party_name):
            raise ConfigurationError(
                "a server of another organisation than this authority's", got=party_name[:60],
                expected=self.certificate.subject.rfc4514_string(),
            )  # fmt: skip
        key = ec.generate_private_key(ec.SECP256R1())
        now = clock()
        if now >= self.certificate.not_valid_after_utc:
            raise KeyFileError("the authority has expired", got=self.certificate.not_valid_after_utc.date())
        end = min(now + validity, self.certificate.not_valid_after_utc)
        builder = _builder(_name(party_name), self.certificate.subject, key.public_key(), now - _BACKDATED, end)
        usages = [ExtendedKeyUsageOID.SERVER_AUTH] * is_server + [ExtendedKeyUsageOID.CLIENT_AUTH]
        for extension, critical in (
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (_usage(sign_certificates=False), True),
            (x509.ExtendedKeyUsage(usages), False),
            (x509.SubjectAlternativeName([x509.DNSName(party_name)]), False),
            (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
            (x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), False),
        ):
            builder = builder.add_extension(extension, critical=critical)
        certificate = builder.sign(self._key, hashes.SHA256())
        secret = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return certificate.public_bytes(serialization.Encoding.PEM), secret

    def revocation_list(
        self, revoked: Mapping[int, datetime.datetime], number: int, clock: Callable[[], datetime.datetime] = _now
    ) -> bytes:
        """Return the list, PEM, of the certificates that this authority has taken back.

        revoked: when, by serial number. number: above that of every list before. The next one is due when the authority
        ends: nobody makes lists on a calendar where it is kept.
        """
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(clock() - _BACKDATED)
            .next_update(self.certificate.not_valid_after_utc)
            .add_extension(x509.CRLNumber(number), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        for serial, at in sorted(revoked.items()):
            one = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(at)
            builder = builder.add_revoked_certificate(one.build())
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _password(passphrase: str, certificate: x509.Certificate, cost: ScryptCost) -> bytes:
    return stretch(passphrase, certificate.fingerprint(hashes.SHA256()), cost).hex().encode()


def _name(common_name: str, organisation: str | None = None) -> x509.Name:
    own = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation)] if organisation else []
    return x509.Name([*own, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    start: datetime.datetime,
    end: datetime.datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
    )


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, key_cert_sign=sign_certificates, crl_sign=sign_certificates,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip
