"""Renewing the certificate of a device: what it has, once more and for longer.

`renewed` makes a request for organisations to sign; `renew_here` does all of it, where the secrets of two organisations
are in one place.
"""

from __future__ import annotations

import datetime
import secrets
from dataclasses import replace
from pathlib import Path

from veilmatch.common.public_file import read_public_file
from veilmatch.crypto.errors import ConfigurationError
from veilmatch.crypto.keys.device_certificate import DeviceCertificate, check_device_name
from veilmatch.crypto.keys.signed_by_two import SERIAL_BYTES
from veilmatch.server.admission.devices import certificate_path, read_certificate
from veilmatch.server.installation.certifying.certifier import MAX_DAYS, certified
from veilmatch.server.installation.certifying.devices import certifiers_here
from veilmatch.server.installation.certifying.registration import Configurations
from veilmatch.server.installation.files import FOLDER_MODE, write_file


def renewed(path: Path, out: Path, days: int) -> DeviceCertificate:
    """Write a request for the certificate in a file, for another time, into a folder, and return it.

    path: NAME.cert, signed or not, ended or not. out: where NAME.cert goes; never over the one in use, which counts
    until the new one is signed. Valid from now on, for `days`. Raises DeviceCertificateError if the file is none,
    ConfigurationError for days that no certificate can have, or if the request cannot be written.
    """
    made, target = _request(read_certificate(path), days), out / path.name
    try:
        out.mkdir(mode=FOLDER_MODE, exist_ok=True)
        if target.exists() and target.samefile(path):
            raise ConfigurationError("the certificate in use would be replaced", got=str(target), expected="--out")
        write_file(target, made.encode())
    except OSError as error:
        raise ConfigurationError("the request cannot be written", got=f"{target}: {error.strerror}") from None
    return made


def renew_here(directory: Path, device: str, passphrase: str, days: int) -> tuple[DeviceCertificate, tuple[str, ...]]:
    """Renew a device's certificate at every daemon whose folder is in an installation, and in the device's, if it is.

    Returns it, and whose folders have it now. passphrase: of the certification keys of two organisations, which have to
    be here. Raises ConfigurationError if they are not, nobody here has a certificate of the device, or days cannot be;
    DeviceCertificateError if what is here is none; what `unseal_certifier` raises. On an error nothing is changed.
    """
    configurations, own = Configurations.read(directory), directory / check_device_name(device)
    at_device = certificate_path(own, device)
    held = [at_device, *(certificate_path(daemon.devices, device) for daemon in configurations.daemons)]
    found = [read_certificate(path) for path in held if path.exists()]
    if not found:
        raise ConfigurationError("nobody here has a certificate of this device", got=device, expected="its name")
    latest = max(found, key=lambda one: one.statement.not_before_s)
    public = read_public_file(directory / "public.json")
    made = certified(_request(latest, days), certifiers_here(directory, public, passphrase))
    with configurations.register(made) as names:
        if not own.is_dir():
            return made, names
        try:
            write_file(at_device, made.encode())
        except OSError as error:
            raise ConfigurationError("the certificate cannot be written", got=f"{own}: {error.strerror}") from None
    return made, (*names, device)


def _request(found: DeviceCertificate, days: int) -> DeviceCertificate:
    """Return the same certificate for another time, for somebody to sign."""
    if not 1 <= days <= MAX_DAYS:
        raise ConfigurationError("not a validity", got=f"{days} days", expected=f"1..{MAX_DAYS} days")
    now_s = int(datetime.datetime.now(datetime.UTC).timestamp())
    statement = replace(
        found.statement,
        # As for a new one, clocks may differ.
        not_before_s=now_s - 300,
        not_after_s=now_s + days * 86400,
        serial=secrets.token_bytes(SERIAL_BYTES),
    )
    return DeviceCertificate(statement)
