"""What a device knows of its own certificate: enough to refuse at once what every server would refuse.

The file is the device's copy of NAME.cert, which daemons go by; nobody's signature is verified here, because nothing
is served by it. A copy that is older than theirs can only make a device refuse too much, or ask in vain.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from veilmatch.crypto.encryption.public_key_format import PublicFile
from veilmatch.crypto.errors import (
    ConfigurationError,
    DeviceCertificateError,
    DeviceRightsError,
    OtherInstallationError,
)
from veilmatch.crypto.keys.device_certificate import DeviceCertificate, Statement
from veilmatch.crypto.keys.signed_by_two import SIGNATURES_NEEDED
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.crypto.requests import Operation


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
