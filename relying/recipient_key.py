"""The key of a relying party: what organisations seal to it, only it opens."""

from __future__ import annotations

from pathlib import Path

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from veilmatch.common.secret_file import read_secret
from veilmatch.crypto.errors import ConfigurationError, KeyFileError, RecipientCertificateError, StatementError
from veilmatch.crypto.keys.recipient_certificate import RecipientCertificate, Statement
from veilmatch.crypto.secret_access import SecretAccess, SecretHolder

#: RFC 9180, base mode: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20Poly1305. The one that key holders seal with.
SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)


class RecipientKey(SecretHolder):
    """An X25519 key with its certificate; a handle that opens what is sealed to it, and shows nothing of itself."""

    __slots__ = ("_key", "certificate")

    def __init__(self, key: X25519PrivateKey, certificate: RecipientCertificate) -> None:
        """Raises RecipientCertificateError if the certificate is that of another key."""
        if certificate.statement.public_key != key.public_key().public_bytes_raw():
            raise RecipientCertificateError("the certificate is that of another key")
        self._key = key
        self.certificate = certificate

    @staticmethod
    def load(key: str | Path, certificate: str | Path) -> RecipientKey:
        """Return the key of a PKCS8 PEM file, with its certificate.

        Raises ConfigurationError if a file cannot be read; KeyFileError if others than its owner have a right to the
        key file, or it holds anything else; RecipientCertificateError if the other one is not its certificate.
        """
        return RecipientKey(read_key(Path(key)), read_certificate(Path(certificate)))

    @property
    def statement(self) -> Statement:
        """What the certificate says."""
        return self.certificate.statement

    def open(self, sealed: bytes, info: bytes) -> bytes:
        """Return what was sealed to this key under `info`. Raises StatementError if nothing was."""
        try:
            return SUITE.decrypt(sealed, self._key, info=info)
        except (InvalidTag, ValueError):
            raise StatementError("what is sealed does not open: not for this key, not as stated, or altered") from None

    def to_secret_bytes(self, access: SecretAccess) -> bytes:
        """Return the content of its file."""
        return key_file(self._key)


def key_file(key: X25519PrivateKey) -> bytes:
    """Return the key as an unencrypted PKCS8 PEM file."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def read_key(path: Path) -> X25519PrivateKey:
    """Return the key in a file; see RecipientKey.load."""
    try:
        data = read_secret(path, "the key of the recipient")
    except OSError as error:
        raise ConfigurationError("the key of the recipient cannot be read", got=f"{path}: {error.strerror}") from None
    try:
        key = load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, X25519PrivateKey):
        raise KeyFileError("not the key of a recipient", got=str(path), expected="an X25519 key in PEM")
    return key


def read_certificate(path: Path) -> RecipientCertificate:
    """Return the certificate in a file. Raises ConfigurationError or RecipientCertificateError, naming the file."""
    try:
        with path.open("rb") as file:
            return RecipientCertificate.decode(file.read(RecipientCertificate.max_bytes + 1))
    except OSError as error:
        raise ConfigurationError(
            "the recipient's certificate cannot be read", got=f"{path}: {error.strerror}"
        ) from None
    except RecipientCertificateError as error:
        raise RecipientCertificateError(f"{path}: {error.message}", got=error.got, expected=error.expected) from None
