"""When certificates end: said at the start of a daemon and every day, louder the nearer it is.

A certificate that has ended is refused in the handshake, by everybody at once, and little in an error then says why.
Looked at are the daemon's own certificate, its authority's and its revocation list, and the certificates of devices: as
they are in their files now, which are those in use.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import structlog
from cryptography import x509

from veilmatch.common.pem import certificates_of, date
from veilmatch.common.settings import TlsSettings
from veilmatch.crypto.encryption.public_key_format import PublicFile
from veilmatch.crypto.errors import ConfigurationError, DeviceCertificateError
from veilmatch.crypto.health import DAY_S, WARNING_DAYS
from veilmatch.server.admission.certification import certified_statement
from veilmatch.server.admission.devices import certificate_files, read_certificate
from veilmatch.server.installation.tls.revocations import Revocations

#: Days left below which the line is an alert; below WARNING_DAYS it is a warning.
ALERT_DAYS = 7

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a log line says of one. of: "this party", "authority", "revocation list" or a device's name.

    end_s: Unix time, excluded; of a list, when the next one is due.
    """

    of: str
    file: Path
    end_s: float


class Expiry:
    """The certificates that one daemon lives by.

    tls, crl: its files. devices: folder of the certificates of its devices.
    """

    def __init__(
        self,
        tls: TlsSettings,
        devices: Path,
        public: PublicFile,
        now: Callable[[], float] = time.time,
        crl: Path | None = None,
    ) -> None:
        self._tls = tls
        self._crl = crl
        self._devices = devices
        self._public = public
        self._now = now
        #: When the first certificate of a device ends, as it was found by the last `look`.
        self._devices_end_s: float | None = None

    def expiries(self) -> dict[str, float]:
        """Return when the daemon's own certificate, its authority's and its revocation list end, as they are now.

        By role; Unix times. Of several authorities the one that ends first counts. A file that cannot be read is left
        out. Blocks on the disk.
        """
        found: dict[str, float] = {}
        with suppress(ConfigurationError):
            for one in own_certificates(self._tls, self._crl):
                found[one.of] = min(one.end_s, found.get(one.of, one.end_s))
        return found

    def look(self) -> None:
        """Log one line for every certificate: an alert if it has ended or is about to. Blocks on the disk."""
        for certificates in (partial(own_certificates, self._tls, self._crl), self._of_devices):
            try:
                for certificate in certificates():
                    self._say(certificate)
            except ConfigurationError as error:
                _log.error("alert", code=error.code, reason=error.message, got=error.got)

    def ends(self) -> dict[str, float]:
        """Return the same, and when the first certificate of a device ends, without its name, as `look` found it."""
        return self.expiries() | ({} if self._devices_end_s is None else {"devices": self._devices_end_s})

    def _of_devices(self) -> Iterator[Certificate]:
        first_s: float | None = None
        for path in certificate_files(self._devices):
            try:
                statement = certified_statement(read_certificate(path), self._public)
            except DeviceCertificateError:
                continue  # it serves nobody; said when it was read
            first_s = statement.not_after_s if first_s is None else min(first_s, statement.not_after_s)
            yield Certificate(statement.device, path, statement.not_after_s)
        self._devices_end_s = first_s

    def _say(self, certificate: Certificate) -> None:
        left_s = certificate.end_s - self._now()
        facts = {
            "of": certificate.of,
            "file": str(certificate.file),
            "ends": date(certificate.end_s),
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


def own_certificates(tls: TlsSettings, crl: Path | None) -> Iterator[Certificate]:
    """Yield what a daemon's TLS files hold that ends. Raises ConfigurationError if one cannot be read."""
    yield from (Certificate("this party", tls.certificate, _end_s(x)) for x in _read(tls.certificate)[:1])
    authorities = _read(tls.authority)
    yield from (Certificate("authority", tls.authority, _end_s(one)) for one in authorities)
    if crl is not None:
        next_update_s = Revocations.read(crl, authorities).next_update_s
        if next_update_s is not None:
            yield Certificate("revocation list", crl, next_update_s)


def _read(file: Path) -> list[x509.Certificate]:
    try:
        return certificates_of(file.read_bytes())
    except (OSError, ValueError):
        raise ConfigurationError("a TLS file cannot be read", got=file, expected="a PEM file") from None


def _end_s(certificate: x509.Certificate) -> float:
    return certificate.not_valid_after_utc.timestamp()
