"""What a device's certificate is worth at this installation: who signed it, and whether that is enough.

Every server finds out for itself, from the keys in its own copy of the public file.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from veilmatch.crypto.encryption.public_key_format import PublicFile
from veilmatch.crypto.errors import DeviceCertificateError, OtherInstallationError
from veilmatch.crypto.keys.device_certificate import DeviceCertificate, Statement


def certified_statement(certificate: DeviceCertificate, public: PublicFile) -> Statement:
    """Return what two organisations state about a device; whether it is valid now is for `Statement.require`.

    Raises DeviceCertificateError if it is another installation's, has fewer signatures than it needs, any signature
    is not that of its organisation under this very statement, or a lowest threshold is above all scores.
    """
    check_signatures(certificate, public)
    certificate.require_two()
    return certificate.statement


def check_signatures(certificate: DeviceCertificate, public: PublicFile) -> None:
    """Check the signatures that are there, however many.

    Raises DeviceCertificateError if one is not that of its organisation, the certificate is another
    installation's (OtherInstallationError then), or it has a lowest threshold that the parameter set has not.
    """
    if certificate.statement.installation != public.installation:
        raise OtherInstallationError(
            "the certificate is for another installation",
            got=certificate.statement.installation.hex(),
            expected=public.installation.hex(),
        )
    certificate.statement.require_parameters(public.public_key.parameters)
    for party, signature in certificate.signatures:
        try:
            key = Ed25519PublicKey.from_public_bytes(public.organisation(party))
            key.verify(signature, certificate.statement.signed_bytes())
        except (InvalidSignature, ValueError):
            raise DeviceCertificateError(
                "a signature of the certificate is not that of its organisation, or the certificate was altered",
                got=party,
            ) from None
