"""The folder of a recipient: its key, its certificate, the installation's public file, and what it has seen.

recipient.key    X25519, PKCS8 PEM, mode 0600; never leaves this machine
recipient.cert   first a request for a certificate, then the certificate
public.json      of the installation
seen.sqlite      answers that were opened, until they have expired
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from veilmatch.common.system import make_private
from veilmatch.crypto.errors import ConfigurationError
from veilmatch.crypto.keys.recipient_certificate import RecipientCertificate, Statement
from veilmatch.crypto.keys.signed_by_two import SERIAL_BYTES
from veilmatch.relying.recipient_key import RecipientKey, key_file, read_key
from veilmatch.relying.seen import SqliteSeen
from veilmatch.relying.trust import Trust

KEY, CERTIFICATE, PUBLIC, SEEN = "recipient.key", "recipient.cert", "public.json", "seen.sqlite"
MAX_DAYS = 3650
#: Clocks of the parties may differ by this much.
_BACKDATED_S = 300
_DAY_S = 86400


def request_certificate(folder: Path, name: str, public: Path, days: int, now_s: float) -> RecipientCertificate:
    """Make the folder of a recipient, or a new request in it for the key that is there; return the request.

    public: the installation's public.json, which is copied. days: how long the certificate is to be valid, 1..3650.
    Raises ConfigurationError if a file cannot be read or written or the days cannot be, KeyFileError for a key or
    public file that is none, RecipientCertificateError for a name that cannot be one.
    """
    if not 1 <= days <= MAX_DAYS:
        raise ConfigurationError("not a validity", got=f"{days} days", expected=f"1..{MAX_DAYS} days")
    trust = Trust.load(public)
    path = folder / KEY
    key = read_key(path) if path.exists() else X25519PrivateKey.generate()
    certificate = RecipientCertificate(
        Statement(
            installation=trust.installation,
            recipient=name,
            public_key=key.public_key().public_bytes_raw(),
            not_before_s=int(now_s) - _BACKDATED_S,
            not_after_s=int(now_s) + days * _DAY_S,
            serial=secrets.token_bytes(SERIAL_BYTES),
        )
    )
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            _write_secret(path, key_file(key))
        if not (folder / PUBLIC).exists() or not (folder / PUBLIC).samefile(public):
            (folder / PUBLIC).write_bytes(public.read_bytes())
        (folder / CERTIFICATE).write_bytes(certificate.encode())
    except OSError as error:
        raise ConfigurationError("the recipient's folder cannot be used", got=f"{folder}: {error.strerror}") from None
    return certificate


def open_folder(folder: Path) -> tuple[Trust, RecipientKey, SqliteSeen]:
    """Return what `Statement.open` needs of a recipient's folder. Raises what their own loading raises."""
    trust, key = Trust.load(folder / PUBLIC), RecipientKey.load(folder / KEY, folder / CERTIFICATE)
    return trust, key, SqliteSeen(folder / SEEN)


def _write_secret(path: Path, data: bytes) -> None:
    """Write a new file of mode 0600, whatever the umask, durably."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        make_private(descriptor)
        file.write(data)
        file.flush()
        os.fsync(descriptor)
