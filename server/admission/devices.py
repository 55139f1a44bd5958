"""The devices that a daemon serves: one certificate file each, NAME.cert in its folder of devices.

    devices = Devices(settings.devices_dir, public)
    statement = devices.find("door-2")

A file that has changed is read again when its device next asks, and one that is gone is a device revoked, from the
very next request on: that costs one look at the file's status a request. A file that does not verify is logged when
it is read and serves nobody; the other devices are not affected.

A certificate that is to stay away, wherever a copy of it turns up, has a file ID.revoked beside it, ID that of the
certificate in hex. Its name alone counts (revoked.py), and another certificate of the same device is another one. So
does what two organisations have put on their revocation lists (revoking/lists.py), at every server.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from veilmatch.crypto.encryption.public_key_format import PublicFile
from veilmatch.crypto.errors import ConfigurationError, DeviceCertificateError, DeviceRightsError, StorageError
from veilmatch.crypto.keys.device_certificate import MAX_BYTES, DeviceCertificate, Statement, check_device_name
from veilmatch.server.admission.certification import certified_statement
from veilmatch.server.admission.revoked import revoked_path
from veilmatch.server.revoking.lists import RevocationLists

SUFFIX = ".cert"
#: What says that there is no such file. Anything else is the disk.
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)

_log = structlog.get_logger(__name__)
#: What tells one content of a file from another: times of change, size, number of the file.
_Mark = tuple[int, int, int, int]


@dataclass(frozen=True)
class _Known:
    mark: _Mark
    statement: Statement | None
    #: What revokes the certificate, if it is there.
    revocation: Path | None


class Devices:
    """The certified devices of one daemon.

    folder: of the certificates. public: names the installation and the organisations' keys. lists: what organisations
    have taken back; None: there is nothing. Raises ConfigurationError if the folder cannot be read.
    """

    def __init__(
        self,
        folder: Path,
        public: PublicFile,
        now: Callable[[], float] = time.time,
        lists: RevocationLists | None = None,
    ) -> None:
        self._lists = lists
        self._folder = folder
        self._public = public
        self._now = now
        self._known: dict[str, _Known] = {}
        for path in certificate_files(folder):
            self._refresh(path)

    def find(self, name: str) -> Statement | None:
        """Return what two organisations state about the device, valid now or not; None if nothing that verifies.

        Raises DeviceRightsError if its certificate is revoked here or by two organisations, StorageError if the disk
        cannot tell.
        """
        try:
            check_device_name(name)  # a path otherwise, if it comes to the worst
        except ConfigurationError:
            return None
        known = self._refresh(certificate_path(self._folder, name))
        if known is not None and known.revocation is not None and _is_there(known.revocation):
            raise DeviceRightsError("the device's certificate was revoked", got=name, expected="another certificate")
        said = known.statement if known is not None else None
        if said is not None and self._lists is not None and self._lists.has(said.id):
            raise DeviceRightsError(
                "two organisations have revoked the device's certificate", got=name, expected="another certificate"
            )
        return said

    def _refresh(self, path: Path) -> _Known | None:
        try:
            mark = _mark(path.stat())
        except OSError as error:
            if error.errno not in _GONE:
                # A failing disk takes no device's certificate away, and gives none.
                raise _failing(error) from None
            if self._known.pop(path.stem, None) is not None:
                _log.info("device removed", device=path.stem)
            return None
        known = self._known.get(path.stem)
        if known is None or known.mark != mark:
            # The mark is older than what is read: a file that changes meanwhile is read once more.
            statement = self._load(path)
            revocation = revoked_path(self._folder, statement.id) if statement is not None else None
            known = self._known[path.stem] = _Known(mark, statement, revocation)
        return known

    def _load(self, path: Path) -> Statement | None:
        try:
            statement = certified_statement(read_certificate(path), self._public)
        except DeviceCertificateError as error:
            _log.warning("device certificate refused", file=str(path), code=error.code, reason=str(error))
            return None
        try:
            statement.require_valid(self._now())
        except DeviceRightsError as error:
            _log.warning("device certificate not valid now", file=str(path), code=error.code, reason=str(error))
        else:
            _log.info("device certificate read", device=statement.device, serial=statement.serial.hex())
        return statement


def _is_there(revocation: Path) -> bool:
    try:
        revocation.lstat()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _failing(error) from None
    return True


def _failing(error: OSError) -> StorageError:
    return StorageError(
        "the folder of device certificates cannot be read",
        needed="a folder that can be read",
        available=os.strerror(error.errno or 0),
    )


def certificate_path(folder: Path, device: str) -> Path:
    """Return where the certificate of a device is, in a folder of them."""
    return folder / f"{device}{SUFFIX}"


def certificate_files(folder: Path) -> list[Path]:
    """Return the certificates in a folder, in order. Raises ConfigurationError if it cannot be read."""
    try:
        return sorted(path for path in folder.iterdir() if path.suffix == SUFFIX)
    except OSError as error:
        raise ConfigurationError(
            "the folder of device certificates cannot be read", got=f"{folder}: {error.strerror}"
        ) from None


def read_certificate(path: Path) -> DeviceCertificate:
    """Return the certificate in NAME.cert. Its signatures are not verified here.

    Raises DeviceCertificateError, naming the file, if there is none, or it is one of another device than NAME.
    """
    try:
        found = DeviceCertificate.decode(_read(path))
    except OSError as error:
        raise DeviceCertificateError(f"{path}: the certificate cannot be read", got=error.strerror) from None
    except DeviceCertificateError as error:
        raise DeviceCertificateError(f"{path}: {error.message}", got=error.got, expected=error.expected) from None
    if path.name != f"{found.statement.device}{SUFFIX}":
        # Otherwise a file would be looked for under one name, and removed under another.
        raise DeviceCertificateError(
            f"{path}: the certificate of another device", got=found.statement.device, expected=path.stem[:60]
        )
    return found


def _read(path: Path) -> bytes:
    # Not blocking: a pipe in place of the file must not hang a daemon.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise DeviceCertificateError("not a file")
        return file.read(MAX_BYTES + 1)


def _mark(status: os.stat_result) -> _Mark:
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino
