"""The files beside a daemon's data: its sealed keys, its TLS files, the certificates of devices."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.x509.oid import NameOID

from veilmatch.common.settings import TlsSettings
from veilmatch.crypto.encryption.public_key_format import PublicFile
from veilmatch.crypto.errors import ConfigurationError, DeviceRightsError, KeyFileError
from veilmatch.crypto.keys.shares import KeyHolderKey
from veilmatch.server.admission.certification import certified_statement
from veilmatch.server.admission.devices import certificate_files, read_certificate
from veilmatch.server.admission.revoked import revoked_files, revoked_id
from veilmatch.server.check.report import Report
from veilmatch.server.config import DaemonSettings, KeyHolderSettings, MatcherSettings
from veilmatch.server.installation.certifying.certifier_file import require_sealed_certifier, unseal_certifier
from veilmatch.server.installation.files import read_secret
from veilmatch.server.installation.organisation_file import require_sealed_organisation, unseal_organisation
from veilmatch.server.installation.sealed import old_file, require_sealed, unseal, waiting_file
from veilmatch.server.transport.channels import server_credentials

KEY_REMEDY = (
    "chmod 600 it if its mode is wrong; else put back the copy of share.key that was made after the last refresh "
    "(docs/operations.md, backups, a key holder)"
)
_CERTIFIER_REMEDY = "chmod 600 it if its mode is wrong; else put back a copy of certifier.key: it never changes"
_ORGANISATION_REMEDY = (
    "chmod 600 it if its mode is wrong; else put back a copy of organisation.key: it never changes, and the other "
    "daemon of this organisation has the same key in its own"
)
_TLS_REMEDY = (
    "put back the three files as they were issued together, or have them issued again "
    "(docs/operations.md, certificates)"
)
_TLS_KEY_REMEDY = "chmod 600 it; if others may have read it, have it issued again (docs/operations.md, certificates)"
_EARLY_REMEDY = "set the clock of this machine right; if it is right, have the certificate issued again"
_ENDED_REMEDY = "have it issued again and restart (docs/operations.md, certificates); if the date is wrong: the clock"
_SOON_REMEDY = "have it issued again and restart before that (docs/operations.md, certificates)"
_DEVICE_REMEDY = "`veilmatch device add` the certificate again, or `veilmatch device remove` it: no other device waits"
_REVOKED_REMEDY = "remove it, and `veilmatch recipient revoke` whom it was meant for"
#: A certificate that ends sooner is worth a note.
SOON = datetime.timedelta(days=30)


def check_sealed_keys(
    settings: KeyHolderSettings, public: PublicFile, passphrase: str | None, report: Report
) -> KeyHolderKey | None:
    """Look at share.key, what a refresh keeps beside it, and certifier.key; return the key if it was opened."""
    key: KeyHolderKey | None = None
    path, party = settings.key_file, settings.party
    with report.finding(path, KEY_REMEDY):
        if passphrase is None:
            report.saw(path, f"epoch {require_sealed(path, party, public)}, not opened: that takes the passphrase")
        else:
            key = unseal(path, party, public, passphrase)
            report.saw(path, f"opened, epoch {key.epoch}")
    for beside in (waiting_file(path), old_file(path)):
        if beside.exists():
            with report.finding(beside, "docs/operations.md, refreshing shares: one that was interrupted"):
                require_sealed(beside, party, public)
                report.notes.append(f"{beside}: a refresh is not finished")
    if not settings.certifier_key.exists():
        report.notes.append(f"{settings.certifier_key} is not here: the daemon does not need it")
        return key
    with report.finding(settings.certifier_key, _CERTIFIER_REMEDY):
        if passphrase is None:
            require_sealed_certifier(settings.certifier_key, party, public)
        else:
            unseal_certifier(settings.certifier_key, party, public, passphrase)
        report.saw(settings.certifier_key, "opened" if passphrase else "not opened: that takes the passphrase")
    return key


def check_organisation_key(
    settings: KeyHolderSettings | MatcherSettings, public: PublicFile, passphrase: str | None, report: Report
) -> None:
    """Look at organisation.key, which both daemons of an organisation have."""
    path, party = settings.organisation_key, settings.party
    with report.finding(path, _ORGANISATION_REMEDY):
        if passphrase is None:
            require_sealed_organisation(path, party, public)
        else:
            unseal_organisation(path, party, public, passphrase)
        report.saw(path, "opened" if passphrase else "not opened: that takes the passphrase")


def check_passphrase_file(path: Path, report: Report) -> None:
    """Look at the mode of a passphrase file; what is in it is not read here."""
    if path.is_file():
        with report.finding(path, "chmod 600 it"):
            read_secret(path, "the passphrase file")


def check_tls(tls: TlsSettings, party: str, report: Report, now: Callable[[], float] = time.time) -> None:
    """Look at the TLS files: readable, of each other, of this party and of the authority, and valid now."""
    with report.finding(tls.certificate.parent, _TLS_REMEDY, "TLS files"):
        try:
            server_credentials(tls)
        except KeyFileError as error:
            report.found(tls.key, "", error, _TLS_KEY_REMEDY)
            return
        authority, own = (x509.load_pem_x509_certificate(p.read_bytes()) for p in (tls.authority, tls.certificate))
        names = [name.value for name in own.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        if names != [party]:
            raise ConfigurationError("the certificate of another party", got=names, expected=party)
        try:
            own.verify_directly_issued_by(authority)
        except (InvalidSignature, ValueError, TypeError, UnsupportedAlgorithm):
            raise ConfigurationError("the certificate is not of this authority", got=str(tls.certificate)) from None
        at = datetime.datetime.fromtimestamp(now(), datetime.UTC)
        for path, certificate in ((tls.authority, authority), (tls.certificate, own)):
            _check_dates(path, certificate, at, report)


def _check_dates(path: Path, certificate: x509.Certificate, at: datetime.datetime, report: Report) -> None:
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if at < start:
        report.found(path, "", f"not valid before {start:%Y-%m-%d %H:%M} UTC", _EARLY_REMEDY)
        return
    if end <= at:
        report.found(path, "", f"expired on {end:%Y-%m-%d}", _ENDED_REMEDY)
        return
    report.saw(path, f"valid until {end:%Y-%m-%d}")
    if end - at < SOON:
        report.notes.append(f"{path} is valid for {(end - at).days} days more: {_SOON_REMEDY}")


def check_devices(
    settings: DaemonSettings, public: PublicFile, report: Report, now: Callable[[], float] = time.time
) -> None:
    """Look at the certificates of devices: whether this daemon goes by them."""
    folder = settings.devices_dir
    with report.finding(folder, "make the folder, and `veilmatch device add` the certificates"):
        files = certificate_files(folder)
        report.saw(folder, f"{len(files)} device certificates")
        for path in files:
            with report.finding(path, _DEVICE_REMEDY):
                try:
                    certified_statement(read_certificate(path), public).require_valid(now())
                except DeviceRightsError as error:
                    report.notes.append(f"{path}: {error}")


def check_revoked(settings: DaemonSettings, report: Report) -> None:
    """Look at the folder of revoked recipients: whether what is in it revokes anybody."""
    folder = settings.revoked_dir
    with report.finding(folder, "put back the folder from a copy: without it revoked recipients are served again"):
        report.saw(folder, f"{len(revoked_files(folder))} revoked recipients")
        for path in sorted(folder.iterdir()):
            if revoked_id(path) is None:
                report.found(path, "", "a name that revokes nobody", _REVOKED_REMEDY)
