"""Certificates of recipients: signed by one organisation and another, each at its own machine, then joined."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from veilmatch.common.public_file import read_public_file
from veilmatch.crypto.encryption.public_key_format import PublicFile
from veilmatch.crypto.errors import ConfigurationError, RecipientCertificateError
from veilmatch.crypto.keys.recipient_certificate import CONTEXT, MAX_BYTES, RecipientCertificate
from veilmatch.server.admission.recipients import check_signatures
from veilmatch.server.config import KeyHolderSettings
from veilmatch.server.ground.organisation import OrganisationKey
from veilmatch.server.installation.files import write_file


def read_recipient(path: Path) -> RecipientCertificate:
    """Return the certificate in a file. Raises ConfigurationError or RecipientCertificateError, naming the file."""
    try:
        with path.open("rb") as file:
            return RecipientCertificate.decode(file.read(MAX_BYTES + 1))
    except OSError as error:
        raise ConfigurationError("the certificate cannot be read", got=f"{path}: {error.strerror}") from None
    except RecipientCertificateError as error:
        raise RecipientCertificateError(f"{path}: {error.message}", got=error.got, expected=error.expected) from None


def certifiable(path: Path, settings: KeyHolderSettings, now: Callable[[], float] = time.time) -> RecipientCertificate:
    """Return the certificate in a file if an organisation may sign it: it is for this installation, and not expired.

    Raises RecipientCertificateError if not, or if a signature that is there already is wrong; ConfigurationError if
    this organisation's is there.
    """
    certificate = read_recipient(path)
    check_signatures(certificate, read_public_file(settings.public_key))
    if certificate.statement.not_after_s <= now():
        raise RecipientCertificateError(f"{path}: the certificate has expired", expected="one that is still of use")
    if settings.party in certificate.organisations:
        raise ConfigurationError("this organisation has signed already", got=settings.party)
    return certificate


def certify(path: Path, settings: KeyHolderSettings, organisation: OrganisationKey) -> RecipientCertificate:
    """Add an organisation's signature to the certificate in a file.

    Raises what `certifiable` raises, and ConfigurationError if the file cannot be written.
    """
    certificate = certifiable(path, settings)
    signature = organisation.sign(CONTEXT, certificate.statement.id)
    signed = certificate.with_signature(organisation.party, signature)
    _write(path, signed)
    return signed


def issue(paths: Sequence[Path], public: PublicFile, out: Path) -> RecipientCertificate:
    """Join what organisations have signed, each perhaps in a copy of its own, into one certificate.

    Raises RecipientCertificateError if the files are not of one request, a signature is wrong, or there are too few;
    ConfigurationError if a file cannot be read or written.
    """
    found = [read_recipient(path) for path in paths]
    joined = found[0]
    for path, certificate in zip(paths, found, strict=True):
        check_signatures(certificate, public)
        if certificate.statement != joined.statement:
            raise RecipientCertificateError(f"{path}: signed for another request", expected=f"that of {paths[0]}")
        for party, signature in certificate.signatures:
            joined = joined.with_signature(party, signature)
    joined.require_two()
    _write(out, joined)
    return joined


def _write(path: Path, certificate: RecipientCertificate) -> None:
    try:
        write_file(path, certificate.encode())
    except OSError as error:
        raise ConfigurationError("the certificate cannot be written", got=f"{path}: {error.strerror}") from None
