"""The installation's own TLS authority: ECDSA P-256 certificates named after the parties."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from veilmatch.crypto.errors import KeyFileError, WrongPassphraseError

_AUTHORITY_DAYS = 3650
_PARTY_DAYS = 825
#: Clocks of the parties may differ by this much.
_BACKDATED = datetime.timedelta(minutes=5)


@dataclass(frozen=True)
class Authority:
    """The authority's certificate and its private key."""

    certificate: x509.Certificate
    _key: ec.EllipticCurvePrivateKey

    def __repr__(self) -> str:
        return "<Authority>"

    @staticmethod
    def fresh() -> Authority:
        """Return a new authority, valid for ten years."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name("Veilmatch installation authority")
        builder = _builder(name, name, key.public_key(), _AUTHORITY_DAYS)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(_usage(sign_certificates=True), critical=True)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        return Authority(builder.sign(key, hashes.SHA256()), key)

    @staticmethod
    def from_pem(certificate: bytes, key: bytes, passphrase: str) -> Authority:
        """Return an authority from its files. Raises WrongPassphraseError or KeyFileError."""
        try:
            loaded = serialization.load_pem_private_key(key, passphrase.encode())
            parsed = x509.load_pem_x509_certificate(certificate)
        except ValueError:
            raise WrongPassphraseError("the passphrase does not open the authority's key, or it was altered") from None
        if not isinstance(loaded, ec.EllipticCurvePrivateKey) or loaded.public_key() != parsed.public_key():
            raise KeyFileError("the authority's key and certificate do not belong together")
        return Authority(parsed, loaded)

    def certificate_pem(self) -> bytes:
        """Return the authority's certificate."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def key_pem(self, passphrase: str) -> bytes:
        """Return the authority's key, encrypted under the passphrase."""
        encryption = serialization.BestAvailableEncryption(passphrase.encode())
        return self._key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)

    def issue(self, party_name: str) -> tuple[bytes, bytes]:
        """Return certificate and key, PEM, of a party; both ends of mutual TLS."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_name(party_name), self.certificate.subject, key.public_key(), _PARTY_DAYS)
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        for extension, critical in (
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (_usage(sign_certificates=False), True),
            (x509.ExtendedKeyUsage(usages), False),
            (x509.SubjectAlternativeName([x509.DNSName(party_name)]), False),
            (x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), False),
        ):
            builder = builder.add_extension(extension, critical=critical)
        certificate = builder.sign(self._key, hashes.SHA256())
        secret = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return certificate.public_bytes(serialization.Encoding.PEM), secret


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, key_cert_sign=sign_certificates, crl_sign=sign_certificates,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip
