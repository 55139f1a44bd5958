"""The files beside a daemon's data: its sealed keys, its TLS files, the certificates of devices."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import NameOID

from veilmatch.common.pem import certificates_of
from veilmatch.common.secret_file import read_private
from veilmatch.crypto.encryption.public_key_format import PublicFile
from veilmatch.crypto.errors import ConfigurationError, DeviceRightsError, KeyFileError
from veilmatch.crypto.keys.parties import PARTIES
from veilmatch.crypto.keys.shares import KeyHolderKey
from veilmatch.server.admission.certification import certified_statement
from veilmatch.server.admission.devices import certificate_files, read_certificate
from veilmatch.server.admission.revoked import revoked_files, revoked_id
from veilmatch.server.check.report import Report
from veilmatch.server.config import DaemonSettings, DaemonTls, KeyHolderSettings, MatcherSettings
from veilmatch.server.installation.certifying.certifier_file import require_sealed_certifier, unseal_certifier
from veilmatch.server.installation.organisation_file import require_sealed_organisation, unseal_organisation
from veilmatch.server.installation.sealed import require_sealed, unfinished_files, unseal
from veilmatch.server.installation.tls.revocations import Revocations
from veilmatch.server.revoking.lists import (
    check_signatures,
    file_name,
    list_files,
    read_list,
    revoked_by_two,
    signed_by,
)
from veilmatch.server.transport.tls_files import TlsFiles

KEY_REMEDY = (
    "chmod 600 it if its mode is wrong; else put back the copy of share.key that was made after the last refresh "
    "(docs/backup.md)"
)
_CERTIFIER_REMEDY = "chmod 600 it if its mode is wrong; else put back a copy of certifier.key: it never changes"
_ORGANISATION_REMEDY = (
    "chmod 600 it if its mode is wrong; else put back a copy of organisation.key: it never changes, and the other "
    "daemon of this organisation has the same key in its own"
)
_TLS_REMEDY = (
    "put back the three files as they were issued together, or have them renewed (docs/certificates.md, renew)"
)
_TLS_KEY_REMEDY = "chmod 600 it; if others may have read it: docs/certificates.md, when a key was stolen"
_EARLY_REMEDY = "set the clock of this machine right; if it is right, have the certificate issued again"
_ENDED_REMEDY = "have it renewed (docs/certificates.md, renew); if the date is wrong: the clock"
_SOON_REMEDY = "have it renewed before that (docs/certificates.md, renew)"
_CRL_REMEDY = "put there crl.pem of authority/for-parties as it is today (docs/certificates.md)"
_DEVICE_REMEDY = "`veilmatch device add` the certificate again, or `veilmatch device remove` it: no other device waits"
_REVOKED_REMEDY = "remove it, and `veilmatch recipient revoke` whom it was meant for"
_LIST_REMEDY = (
    "remove it: the daemon gets the lists that it lacks from the other servers; `veilmatch device revoked` says which "
    "count, and the organisation that signed it can sign it again"
)
#: A certificate that ends sooner is worth a note.
SOON = datetime.timedelta(days=60)


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
    for beside in unfinished_files(path):
        with report.finding(
            beside, "docs/operations.md, refreshing shares, or docs/recovery.md: one that was interrupted"
        ):
            require_sealed(beside, party, public)
            report.notes.append(f"{beside}: a refresh or a recovery is not finished")
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
            read_private(path, "the passphrase file")


def check_tls(tls: DaemonTls, party: str, report: Report, now: Callable[[], float] = time.time) -> None:
    """Look at the TLS files: readable, of each other, of this party and of the authorities, and valid now."""
    with report.finding(tls.certificate.parent, _TLS_REMEDY, "TLS files"):
        try:
            files = TlsFiles.read(tls)
        except KeyFileError as error:
            report.found(tls.key, "", error, _TLS_KEY_REMEDY)
            return
        chain = certificates_of(files.certificate)
        names = [name.value for name in files.own.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        if names != [party]:
            raise ConfigurationError("the certificate of another party", got=names, expected=party)
        if not files.trusts(chain):
            raise ConfigurationError("the certificate is not of this authority", got=str(tls.certificate))
        at = datetime.datetime.fromtimestamp(now(), datetime.UTC)
        for path, certificate in (*((tls.authority, one) for one in files.trusted), (tls.certificate, files.own)):
            _check_dates(path, certificate, at, report)
        if tls.crl is not None:
            with report.finding(tls.crl, _CRL_REMEDY):
                revocations = Revocations.read(tls.crl, files.trusted)
                report.saw(tls.crl, f"{sum(map(len, revocations.serials.values()))} revoked certificates")
                if revocations.has(files.own):
                    report.found(tls.certificate, "", "it was revoked", _ENDED_REMEDY)


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


def check_revoked(settings: DaemonSettings, public: PublicFile, report: Report) -> None:
    """Look at the folder of what is revoked: whether files of recipients and lists of organisations revoke anybody."""
    folder = settings.revoked_dir
    with report.finding(folder, "put back the folder from a copy: without it revoked recipients are served again"):
        report.saw(folder, f"{len(revoked_files(folder))} recipients revoked here")
        lists, found = list_files(folder), []
        for path in lists:
            with report.finding(path, _LIST_REMEDY):
                one = read_list(path)
                check_signatures(one, public)
                found.append(one)
                if path.name != file_name(one):
                    report.notes.append(f"{path} is not called {file_name(one)}, as a daemon would: it counts")
        if found:
            numbers = {party: max(x.statement.number for x in signed) for party in PARTIES
                       if (signed := signed_by(found, party))}  # fmt: skip
            said = ", ".join(f"number {number} of organisation {party}" for party, number in numbers.items())
            report.saw(folder, f"{len(revoked_by_two(found))} certificates revoked by two organisations: lists {said}")
        for path in sorted(folder.iterdir()):
            if path not in lists and not path.name.startswith(".") and revoked_id(path) is None:
                report.found(path, "", "a name that revokes nobody", _REVOKED_REMEDY)
