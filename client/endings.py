"""When the certificates of a device end: for whoever looks, and in the log of its program from 60 days before.

A device has two: the TLS certificate that lets it in, of an authority, and the one that says what it may do, of two
organisations. Nobody's signature is verified here: it is about dates.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from veilmatch.common.pem import certificates_of, date
from veilmatch.crypto.errors import DeviceCertificateError
from veilmatch.crypto.health import DAY_S, WARNING_DAYS, Ending
from veilmatch.crypto.keys.device_certificate import DeviceCertificate

if TYPE_CHECKING:
    from veilmatch.client.config import DeviceSettings

_log = logging.getLogger(__name__)


def certificates_of_device(settings: DeviceSettings) -> list[Ending]:
    """Return when the certificates of a device end; what cannot be read is left out: its user says what is wrong."""
    found = []
    with suppress(OSError, ValueError):
        own = certificates_of(settings.tls.certificate.read_bytes())[0]
        found.append(
            Ending(
                "TLS certificate", str(settings.tls.certificate), own.not_valid_after_utc.timestamp(),
                "whoever has the TLS authority: veilmatch authority renew",
            )
        )  # fmt: skip
    if settings.certificate is not None:
        with suppress(OSError, DeviceCertificateError):
            said = DeviceCertificate.decode(settings.certificate.read_bytes()).statement
            found.append(
                Ending(
                    "certificate of rights", str(settings.certificate), float(said.not_after_s),
                    "veilmatch device renew, for two organisations to sign",
                )
            )  # fmt: skip
    return found


class EndWarning:
    """Says in the log, once a day, that something is about to end. what: subject of the sentence.

    now: the clock, Unix time in seconds.
    """

    def __init__(self, what: str, command: str, now: Callable[[], float]) -> None:
        self._what, self._command, self._now = what, command, now
        self._said_s = float("-inf")

    def renewed(self) -> None:
        """Begin anew: another one has taken its place."""
        self._said_s = float("-inf")

    def look(self, end_s: float) -> None:
        """Log a warning from 60 days before the end, Unix time."""
        now_s = self._now()
        if end_s - now_s >= WARNING_DAYS * DAY_S or 0 <= now_s - self._said_s < DAY_S:
            return
        self._said_s = now_s
        _log.warning(
            "%s %s on %s: `%s`", self._what, "ends" if end_s > now_s else "ended", date(end_s), self._command
        )  # fmt: skip
