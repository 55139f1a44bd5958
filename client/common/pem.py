"""Whether the files of [tls] hold what they should: gRPC would say nothing of it, or call it a failed handshake."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from veilmatch.common.settings import TlsSettings
from veilmatch.crypto.errors import ConfigurationError


def certificates_of(data: bytes) -> list[x509.Certificate]:
    """Return the certificates in PEM, at least one, each read to the end.

    Raises ValueError. The library reads names, keys and extensions when they are asked for, and would raise it there.
    """
    with _as_value_errors():
        return [_read(one) for one in x509.load_pem_x509_certificates(data)]


def certificate_in(der: bytes) -> x509.Certificate:
    """Return the certificate in DER, read to the end. Raises ValueError."""
    with _as_value_errors():
        return _read(x509.load_der_x509_certificate(der))


def revocation_list_of(data: bytes) -> x509.CertificateRevocationList:
    """Return the revocation list in PEM, read to the end. Raises ValueError."""
    with _as_value_errors():
        found = x509.load_pem_x509_crl(data)
        _ = found.issuer, found.last_update_utc, found.next_update_utc, found.extensions, len(found)
        return found


@contextmanager
def _as_value_errors() -> Iterator[None]:
    """What the library says of damaged bytes, by whichever of its errors."""
    try:
        yield
    except (
        UnsupportedAlgorithm, x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType
    ) as error:  # fmt: skip
        raise ValueError(str(error)) from None


def _read(one: x509.Certificate) -> x509.Certificate:
    _ = one.subject, one.issuer, one.not_valid_before_utc, one.not_valid_after_utc, one.public_key(), one.extensions
    return one


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


def require_valid(certificate: x509.Certificate, file: Path, now_s: float) -> None:
    """Raise ConfigurationError, naming file and date, unless the certificate is valid at this Unix time."""
    start_s, end_s = certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()
    if now_s >= end_s:
        raise ConfigurationError(
            f"{file}: the certificate has expired; the authority issues another one",
            got=f"it ended on {date(end_s)}",
            expected=f"one that is valid on {date(now_s)}",
        )
    if now_s < start_s:
        raise ConfigurationError(
            f"{file}: the certificate is not valid yet; check this machine's clock",
            got=f"it begins on {date(start_s)}",
            expected=f"one that is valid on {date(now_s)}",
        )


def date(time_s: float) -> str:
    """Return a Unix time as text, to the second."""
    return datetime.datetime.fromtimestamp(time_s, datetime.UTC).isoformat(timespec="seconds")


def _certificate(field: str, path: Path, data: bytes) -> x509.Certificate:
    try:
        return certificates_of(data)[0]
    except ValueError:
        raise _other(field, path, "a certificate in PEM") from None


def _key(path: Path, data: bytes) -> PrivateKeyTypes:
    try:
        return load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: an encrypted one
        raise _other("key", path, "an unencrypted private key in PEM") from None


def _other(field: str, path: Path, expected: str) -> ConfigurationError:
    return ConfigurationError(f"tls.{field} does not name what it should", got=path, expected=expected)
