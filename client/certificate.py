"""What a device knows of its own certificate: enough to refuse at once what every server would refuse.

The file is the device's copy of NAME.cert, which daemons go by; nobody's signature is verified here, because nothing
is served by it. A copy that is older than theirs can only make a device refuse too much, or ask in vain.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from veilmatch.client.endings import EndWarning
from veilmatch.common.watched import Watched
from veilmatch.crypto.encryption.public_key_format import PublicFile
from veilmatch.crypto.errors import (
    ConfigurationError,
    DeviceCertificateError,
    DeviceRightsError,
    OtherInstallationError,
    VeilmatchError,
)
from veilmatch.crypto.keys.device_certificate import DeviceCertificate, Statement
from veilmatch.crypto.keys.signed_by_two import SIGNATURES_NEEDED
from veilmatch.crypto.liveness import Verdict
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.crypto.requests import Operation

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class OwnCertificate:
    """A device's certificate, for a device to ask before it captures anything."""

    path: Path
    statement: Statement
    parameters: ParameterSet

    @staticmethod
    def read(path: Path, device: str, device_key: bytes, public: PublicFile) -> OwnCertificate | None:
        """Return the certificate in a file; None if it is a request that organisations have still to sign.

        device_key: the public key that the device signs with, 32 bytes. Raises ConfigurationError if the file cannot
        be read; DeviceCertificateError if it holds no certificate of this device, key and installation.
        """
        try:
            found = DeviceCertificate.decode(path.read_bytes())
        except OSError as error:
            raise ConfigurationError(
                "the certificate of the device cannot be read", got=f"{path}: {error.strerror}"
            ) from None
        except DeviceCertificateError as error:
            raise DeviceCertificateError(f"{path}: {error.message}", got=error.got, expected=error.expected) from None
        said, parameters = found.statement, public.public_key.parameters
        for what, theirs, own, kind in (
            ("installation", said.installation.hex(), public.installation.hex(), OtherInstallationError),
            ("device", said.device, device, DeviceCertificateError),
            ("signing key", said.public_key.hex(), device_key.hex(), DeviceCertificateError),
        ):
            if theirs != own:
                raise kind(f"{path}: the certificate of another {what}", got=theirs, expected=own)
        said.require_parameters(parameters)
        return OwnCertificate(path, said, parameters) if len(found.signatures) >= SIGNATURES_NEEDED else None

    def require(self, operation: Operation, t: int, for_recipient: bool) -> None:
        """Raise DeviceRightsError, LowThresholdError above all, if the device may not do this at threshold t.

        for_recipient: whether the answer is for one.
        """
        try:
            self.statement.require_threshold(operation, t, self.parameters)
            self.statement.require_recipient(operation, named=for_recipient)
        except DeviceRightsError as error:
            raise type(error)(f"{self.path}: {error.message}", got=error.got, expected=error.expected) from None

    def require_detector(self, operation: Operation, detector: bytes | None) -> None:
        """Raise LivenessDemandedError if a check of liveness is demanded before this, and none by this detector.

        detector: 32 bytes, of the one that is asked before this operation; None if none is.
        """
        verdict = None if detector is None else Verdict(detector, 1)
        try:
            self.statement.require_liveness(operation, verdict, 1)
        except DeviceRightsError as error:
            raise type(error)(f"{self.path}: {error.message}", got=error.got, expected=error.expected) from None


class FollowedCertificate:
    """The certificate in a file, as it is now: a renewed one is taken without a restart, and its end is said before.

    The first reading raises what `OwnCertificate.read` raises; a later one that cannot be used changes nothing, as the
    file may be half of what is to come. now: the clock, Unix time in seconds.
    """

    def __init__(
        self, path: Path, device: str, device_key: bytes, public: PublicFile, now: Callable[[], float] = time.time
    ) -> None:
        self._path, self._device, self._device_key, self._public = path, device, device_key, public
        self._watched = Watched([path])
        self._own = self._read()
        self._warning = EndWarning(f"the certificate of device {device}", "veilmatch device renew", now)

    def look(self, *, at_once: bool = False) -> OwnCertificate | None:
        """Return the certificate, None while there is a request only; look at the file every two seconds.

        Logs a warning, once a day, from 60 days before its end. at_once: look, however long the last look was ago.
        """
        if self._watched.changed(at_once=at_once):
            try:
                self._own = self._read() or self._own
            except VeilmatchError as error:
                _log.warning("the device's certificate is not read again: %s", error)
            else:
                self._warning.renewed()
        if self._own is not None:
            self._warning.look(self._own.statement.not_after_s)
        return self._own

    def _read(self) -> OwnCertificate | None:
        return OwnCertificate.read(self._path, self._device, self._device_key, self._public)
