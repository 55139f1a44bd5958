"""When certificates end: said at the start of a daemon and every day, louder the nearer it is.

A certificate that has ended is refused in the handshake, by everybody at once, and nothing in an error then says why.
Looked at are the daemon's own certificate and its authority's, as they were when it started and are in use, and the
certificates of devices, as they are in their folder now.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import structlog
from cryptography import x509

from veilmatch.common.settings import TlsSettings
from veilmatch.crypto.encryption.public_key_format import PublicFile
from veilmatch.crypto.errors import ConfigurationError, DeviceCertificateError
from veilmatch.server.admission.certification import certified_statement
from veilmatch.server.admission.devices import certificate_files, read_certificate

DAY_S = 86400.0
#: Days left below which the line is a warning, and below which it is an alert.
WARNING_DAYS = 30
ALERT_DAYS = 7

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a log line says of one. of: "this party", "authority" or a device's name. end_s: Unix time, excluded."""

    of: str
    file: Path
    end_s: float


class Expiry:
    """The certificates that one daemon lives by.

    tls: its files. devices: folder of the certificates of its devices. Raises ConfigurationError if the TLS files are
    not what they should be.
    """

    def __init__(self, tls: TlsSettings, devices: Path, public: PublicFile, now: Callable[[], float] = time.time):
        self._own = [
            *(Certificate("this party", tls.certificate, _end_s(one)) for one in _read(tls.certificate)[:1]),
            *(Certificate("authority", tls.authority, _end_s(one)) for one in _read(tls.authority)),
        ]
        self._devices = devices
        self._public = public
        self._now = now

    def look(self) -> None:
        """Log one line for every certificate: an alert if it has ended or is about to. Blocks on the disk."""
        for certificate in self._own:
            self._say(certificate)
        try:
            for certificate in self._of_devices():
                self._say(certificate)
        except ConfigurationError as error:
            _log.error("alert", code=error.code, reason=error.message, got=error.got)

    def _of_devices(self) -> Iterator[Certificate]:
        for path in certificate_files(self._devices):
            try:
                statement = certified_statement(read_certificate(path), self._public)
            except DeviceCertificateError:
                continue  # it serves nobody; said when it was read
            yield Certificate(statement.device, path, statement.not_after_s)

    def _say(self, certificate: Certificate) -> None:
        left_s = certificate.end_s - self._now()
        facts = {
            "of": certificate.of,
            "file": str(certificate.file),
            "ends": _date(certificate.end_s),
            "days_left": int(left_s // DAY_S),
        }
        if left_s <= 0:
            _log.error("alert", code=ConfigurationError.code, reason="a certificate has ended", **facts)
        elif left_s < ALERT_DAYS * DAY_S:
            _log.error("alert", code=ConfigurationError.code, reason="a certificate is about to end", **facts)
        elif left_s < WARNING_DAYS * DAY_S:
            _log.warning("certificate", **facts)
        else:
            _log.info("certificate", **facts)


def require_valid(certificate: x509.Certificate, file: Path, now_s: float) -> None:
    """Raise ConfigurationError, naming file and date, unless the certificate is valid at this Unix time."""
    start_s, end_s = certificate.not_valid_before_utc.timestamp(), _end_s(certificate)
    if now_s >= end_s:
        raise ConfigurationError(
            f"{file}: the certificate has expired; the authority issues another one",
            got=f"it ended on {_date(end_s)}",
            expected=f"one that is valid on {_date(now_s)}",
        )
    if now_s < start_s:
        raise ConfigurationError(
            f"{file}: the certificate is not valid yet; check this machine's clock",
            got=f"it begins on {_date(start_s)}",
            expected=f"one that is valid on {_date(now_s)}",
        )


def _read(file: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(file.read_bytes())
    except (OSError, ValueError):
        raise ConfigurationError("a TLS file cannot be read", got=file, expected="a PEM file") from None


def _end_s(certificate: x509.Certificate) -> float:
    return certificate.not_valid_after_utc.timestamp()


def _date(time_s: float) -> str:
    return datetime.datetime.fromtimestamp(time_s, datetime.UTC).isoformat(timespec="seconds")
