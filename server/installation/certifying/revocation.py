"""Revoking recipients: a file at each daemon, which the daemon obeys from the next request on."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from veilmatch.crypto.errors import ConfigurationError, RecipientCertificateError
from veilmatch.crypto.keys.recipient_certificate import ID_BYTES, RecipientCertificate
from veilmatch.server.admission.recipients import check_signatures
from veilmatch.server.admission.revoked import revoked_files, revoked_id, revoked_path
from veilmatch.server.installation.certifying.recipients import read_recipient
from veilmatch.server.installation.certifying.registration import Configurations
from veilmatch.server.installation.files import FOLDER_MODE, write_file

_ID = re.compile(rf"[0-9a-fA-F]{{{2 * ID_BYTES}}}")


@dataclass(frozen=True)
class Revocation:
    """A certificate that daemons refuse. id: its 32 bytes. certificate: itself, None if it is known by its id alone.

    at: the daemons that refuse it.
    """

    id: bytes
    certificate: RecipientCertificate | None
    at: tuple[str, ...]


def revoke(which: str, configurations: Configurations) -> Revocation:
    """Have daemons refuse a recipient. which: the file of its certificate, or the id of that, 64 hex digits.

    Raises RecipientCertificateError if the file is no certificate of the daemons' installation; ConfigurationError if
    there are no daemons, or a file cannot be read or written, and then daemons before it refuse the recipient already.
    """
    daemons = configurations.daemons
    if not daemons:
        raise ConfigurationError("no daemon's folder is here", expected="an installation, or folders of daemons")
    certificate = None if _ID.fullmatch(which) else read_recipient(Path(which))
    if certificate is None:
        found = bytes.fromhex(which)
    else:
        found = certificate.statement.id
        for daemon in daemons:
            check_signatures(certificate, daemon.public())
    for daemon in daemons:
        path = revoked_path(daemon.revoked, found)
        try:
            daemon.revoked.mkdir(mode=FOLDER_MODE, exist_ok=True)
            if certificate is not None or not path.exists():
                write_file(path, certificate.encode() if certificate else b"")
        except OSError as error:
            raise ConfigurationError("a revocation cannot be written", got=f"{path}: {error.strerror}") from None
    return Revocation(found, certificate, tuple(daemon.name for daemon in daemons))


def revocations(configurations: Configurations) -> list[Revocation]:
    """Return whom daemons refuse, by id. Raises ConfigurationError if a folder cannot be read."""
    found: dict[bytes, Revocation] = {}
    for daemon in configurations.daemons:
        for path in revoked_files(daemon.revoked) if daemon.revoked.exists() else ():
            id_ = revoked_id(path) or b""
            one = found.get(id_, Revocation(id_, None, ()))
            found[id_] = replace(one, certificate=one.certificate or _inside(path, id_), at=(*one.at, daemon.name))
    return [found[id_] for id_ in sorted(found)]


def _inside(path: Path, id_: bytes) -> RecipientCertificate | None:
    """Return the certificate in a file that revokes it; None if another one is, or none: the name counts."""
    try:
        certificate = read_recipient(path)
    except (ConfigurationError, RecipientCertificateError):
        return None
    return certificate if certificate.statement.id == id_ else None
