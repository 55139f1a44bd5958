"""Whether the files of [tls] hold what they should: gRPC would say nothing of it, or call it a failed handshake."""

from __future__ import annotations

from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from veilmatch.common.settings import TlsSettings
from veilmatch.crypto.errors import ConfigurationError


def require_pem(tls: TlsSettings, authority: bytes, certificate: bytes, key: bytes) -> x509.Certificate:
    """Return the party's own certificate, of the content of all three files.

    Raises ConfigurationError naming the field and the file that is not PEM of its kind, or if the key is not that of
    the certificate.
    """
    _certificate("authority", tls.authority, authority)
    own = _certificate("certificate", tls.certificate, certificate)
    if _key(tls.key, key).public_key() != own.public_key():
        raise ConfigurationError("tls.key is not the key of tls.certificate", got=tls.key, expected=tls.certificate)
    return own


def _certificate(field: str, path: Path, data: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificates(data)[0]
    except ValueError:
        raise _other(field, path, "a certificate in PEM") from None


def _key(path: Path, data: bytes) -> PrivateKeyTypes:
    try:
        return load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: an encrypted one
        raise _other("key", path, "an unencrypted private key in PEM") from None


def _other(field: str, path: Path, expected: str) -> ConfigurationError:
    return ConfigurationError(f"tls.{field} does not name what it should", got=path, expected=expected)
