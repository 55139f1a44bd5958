"""The recipient that a request names: its certificate, and what that is worth at this installation.

Every server finds out for itself, from the signing keys in its own copy of the public file: nothing is sealed to
whoever a device or another server says, but only to whom two organisations have certified.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from veilmatch.crypto.encryption.public_key_format import PublicFile
from veilmatch.crypto.errors import RecipientCertificateError
from veilmatch.crypto.keys.recipient_certificate import CONTEXT, RecipientCertificate, Statement
from veilmatch.server.admission.revoked import Revoked
from veilmatch.server.ground.organisation import verify


class Recipients:
    """Recipients of one installation. revoked: those refused by this daemon. now: the clock, Unix time in seconds."""

    def __init__(self, public: PublicFile, revoked: Revoked, now: Callable[[], float] = time.time) -> None:
        self._public = public
        self._revoked = revoked
        self._now = now

    def certified(self, data: bytes, named: bytes) -> Statement:
        """Return what two organisations state about the recipient of a request.

        data: the certificate, as its file. named: the id that the device has signed. Raises RecipientCertificateError
        if it is another one's, is not valid now, or two organisations did not sign it; RecipientRevokedError if it is
        revoked here; StorageError if the disk cannot tell whether it is.
        """
        certificate = RecipientCertificate.decode(data)
        if certificate.statement.id != named:
            raise RecipientCertificateError("the certificate is not that of the recipient which the request names")
        check_signatures(certificate, self._public)
        certificate.require_two()
        certificate.statement.require_valid(self._now())
        self._revoked.require_not(certificate.statement)
        return certificate.statement


def check_signatures(certificate: RecipientCertificate, public: PublicFile) -> None:
    """Raise RecipientCertificateError if it is another installation's, or a signature is not its organisation's."""
    said = certificate.statement
    if said.installation != public.installation:
        raise RecipientCertificateError(
            "the recipient's certificate is for another installation",
            got=said.installation.hex(),
            expected=public.installation.hex(),
        )
    for party, signature in certificate.signatures:
        if not verify(public.signer(party), CONTEXT, said.id, signature):
            raise RecipientCertificateError(
                "a signature of the certificate is not that of its organisation, or the certificate was altered",
                got=party,
            )
