"""The recipients that a daemon refuses: one file each, ID.revoked in its folder, ID that of the certificate in hex.

    revoked = Revoked(settings.revoked_dir)
    revoked.require_not(statement)

The file's name alone counts, and it is looked for at each request that names a recipient: one that appears is obeyed
from the very next request on. What is in it is for people: the certificate, if whoever revoked it had it.

A recipient that two organisations have put on their revocation lists (revoking/lists.py) is refused at every server.
"""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import structlog

from veilmatch.crypto.errors import ConfigurationError, RecipientRevokedError, StorageError
from veilmatch.crypto.keys.recipient_certificate import ID_BYTES, Statement
from veilmatch.server.revoking.lists import RevocationLists

SUFFIX = ".revoked"
_ID = re.compile(rf"[0-9a-f]{{{2 * ID_BYTES}}}")
_FOLDER_MODE = 0o700

_log = structlog.get_logger(__name__)


class Revoked:
    """The revoked recipients of one daemon.

    folder: of the files; made if there is none. lists: what organisations have taken back; None: there is nothing.
    Raises ConfigurationError if the folder cannot be made or read.
    """

    def __init__(self, folder: Path, lists: RevocationLists | None = None) -> None:
        self._lists = lists
        self._folder = folder
        try:
            if not folder.is_dir():
                folder.mkdir(mode=_FOLDER_MODE)
                _log.warning("no folder of revoked recipients: none is revoked", folder=str(folder))
            strange = [path for path in folder.iterdir() if path.suffix == SUFFIX and revoked_id(path) is None]
        except OSError as error:
            raise _unreadable(folder, error) from None
        _log.info("revoked recipients", folder=str(folder), count=len(revoked_files(folder)))
        for path in strange:
            # Whoever put it there believes that somebody is refused.
            _log.warning("revokes nobody: its name is no id of a certificate", file=str(path))

    def require_not(self, statement: Statement) -> None:
        """Raise RecipientRevokedError, naming the recipient, if it is revoked here or by two organisations.

        Raises StorageError if the disk cannot tell: without the folder nothing says that it is not.
        """
        if self._lists is not None and self._lists.has(statement.id):
            raise RecipientRevokedError(
                "two organisations have revoked the recipient's certificate", got=statement.recipient
            )
        try:
            revoked_path(self._folder, statement.id).lstat()
        except OSError as error:
            if error.errno == errno.ENOENT and self._folder.is_dir():
                return
            raise StorageError(
                "the folder of revoked recipients cannot be read",
                needed="a folder that can be read",
                available=os.strerror(error.errno or 0),
            ) from None
        raise RecipientRevokedError("the recipient's certificate is revoked", got=statement.recipient)


def revoked_path(folder: Path, recipient: bytes) -> Path:
    """Return where the file is that revokes a recipient. recipient: the id of its certificate."""
    return folder / f"{recipient.hex()}{SUFFIX}"


def revoked_files(folder: Path) -> list[Path]:
    """Return the files of a folder that revoke a recipient, in order. Raises ConfigurationError if it is unreadable."""
    try:
        return sorted(path for path in folder.iterdir() if revoked_id(path) is not None)
    except OSError as error:
        raise _unreadable(folder, error) from None


def revoked_id(path: Path) -> bytes | None:
    """Return the id of the certificate that a file revokes by its name, None if it is the name of no such file."""
    return bytes.fromhex(path.stem) if path.suffix == SUFFIX and _ID.fullmatch(path.stem) else None


def _unreadable(folder: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(
        "the folder of revoked recipients cannot be used", got=f"{folder}: {error.strerror}", expected="a folder"
    )
