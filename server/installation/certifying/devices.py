"""Devices of an installation: requested, certified by organisations, given to daemons, listed and removed.

    request_device(...)      a new device's folder, with a certificate that nobody has signed yet
    certify(...)             one organisation signs, at its own machine
    add_certificate(...)     what two have signed goes to the daemons

`issue_device` does all three at once, where the secrets of two organisations are still in one place.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from veilmatch.common.public_file import read_public_file
from veilmatch.common.secret_file import read_private
from veilmatch.crypto.encryption.public_key_format import PublicFile
from veilmatch.crypto.errors import ConfigurationError, DeviceCertificateError, KeyFileError, VeilmatchError
from veilmatch.crypto.keys.device_certificate import DeviceCertificate, check_device_name
from veilmatch.crypto.keys.parties import PARTIES
from veilmatch.crypto.keys.signed_by_two import SIGNATURES_NEEDED
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.server.admission.certification import certified_statement, check_signatures
from veilmatch.server.admission.devices import SUFFIX, certificate_files, certificate_path, read_certificate
from veilmatch.server.admission.revoked import revoked_path
from veilmatch.server.config import KeyHolderSettings
from veilmatch.server.installation.certifying.certifier import Certifier, Grant, certified
from veilmatch.server.installation.certifying.certifier_file import unseal_certifier
from veilmatch.server.installation.certifying.registration import Configurations, DaemonFolder
from veilmatch.server.installation.files import appearing, write_file
from veilmatch.server.installation.folders import SIGNING_KEY, Issuer, write_signing_key
from veilmatch.server.installation.plan import folder_of
from veilmatch.server.installation.stretching import ScryptCost

_ALL = Grant()


def request_device(
    directory: Path, name: str, passphrase: str, grant: Grant = _ALL, cost: ScryptCost | None = None
) -> DeviceCertificate:
    """Make the folder of a new device in an installation, and in it the certificate to be signed.

    passphrase: of the TLS authority. cost: that of the installation, if not the usual. Raises ConfigurationError if the
    name is taken or cannot be one, or this is not an installation with its authority; what `Grant.request` raises;
    WrongPassphraseError or KeyFileError if the authority cannot be opened. On an error nothing is changed.
    """
    configurations = _free(directory, name)
    issuer = Issuer.open(directory, passphrase, cost)
    signing_key, certificate = _fresh(issuer, name, grant)
    with issuer.home.recording(), appearing(directory / name) as partial:
        issuer.write_device(partial, signing_key, configurations.matcher_addresses(), certificate)
    return certificate


def issue_device(
    directory: Path, name: str, passphrase: str, grant: Grant = _ALL, cost: ScryptCost | None = None
) -> DeviceCertificate:
    """Add a device: its folder, and its certificate at every daemon whose folder is here.

    The certification keys of two organisations have to be here, under the passphrase. Raises what `request_device`
    and `unseal_certifier` raise. On an error nothing is changed.
    """
    configurations = _free(directory, name)
    issuer = Issuer.open(directory, passphrase, cost)
    matchers = configurations.matcher_addresses()
    signing_key, request = _fresh(issuer, name, grant)
    certificate = certified(request, certifiers_here(directory, issuer.public, passphrase))
    # The folder appears last: a device that is seen is known to the daemons.
    with issuer.home.recording(), configurations.register(certificate), appearing(directory / name) as partial:
        issuer.write_device(partial, signing_key, matchers, certificate)
    return certificate


def request_again(folder: Path, name: str, grant: Grant) -> DeviceCertificate:
    """Write a new request into the folder of a device, for its signing key, which is made if there is none.

    Raises ConfigurationError if the name cannot be one or a file cannot be used; KeyFileError if the signing key is
    none; what `Grant.request` raises.
    """
    check_device_name(name)
    public = read_public_file(folder / "public.json")
    path = folder / SIGNING_KEY
    try:
        key = _signing_key(path) if path.exists() else Ed25519PrivateKey.generate()
        certificate = grant.request(public, name, key.public_key().public_bytes_raw(), _now())
        if not path.exists():
            write_signing_key(path, key)
        write_file(certificate_path(folder, name), certificate.encode())
    except OSError as error:
        raise ConfigurationError("the device's folder cannot be used", got=f"{folder}: {error.strerror}") from None
    return certificate


def certifiable(path: Path, settings: KeyHolderSettings) -> DeviceCertificate:
    """Return the certificate in a file if an organisation may sign it: it is for this installation, and not expired.

    Raises DeviceCertificateError if not, or if a signature that is there already is wrong; ConfigurationError if
    this organisation's is there.
    """
    certificate = read_certificate(path)
    check_signatures(certificate, read_public_file(settings.public_key))
    if certificate.statement.not_after_s <= _now().timestamp():
        raise DeviceCertificateError(f"{path}: the certificate has expired", expected="one that is still of use")
    if settings.party in certificate.organisations:
        raise ConfigurationError("this organisation has signed already", got=settings.party)
    return certificate


def certify(path: Path, settings: KeyHolderSettings, passphrase: str) -> DeviceCertificate:
    """Add an organisation's signature to the certificate in a file.

    Raises what `certifiable` and `unseal_certifier` raise, and ConfigurationError if the file cannot be written.
    """
    certificate = certifiable(path, settings)
    public = read_public_file(settings.public_key)
    certifier = unseal_certifier(settings.certifier_key, settings.party, public, passphrase)
    signed = certifier.certify(certificate)
    try:
        write_file(path, signed.encode())
    except OSError as error:
        raise ConfigurationError("the certificate cannot be written", got=f"{path}: {error.strerror}") from None
    return signed


def add_certificate(path: Path, configurations: Configurations) -> tuple[str, ...]:
    """Give daemons the certificate in a file, in place of an older one of the device; return their names.

    Raises DeviceCertificateError if it does not verify at one of them; ConfigurationError if there are no daemons
    or a file cannot be written. On an error nothing is changed.
    """
    certificate = read_certificate(path)
    if not configurations.daemon_files:
        raise ConfigurationError("no daemon's folder is here", expected="an installation, or folders of daemons")
    with configurations.register(certificate) as names:
        return names


def revoke_certificate(
    which: str, configurations: Configurations
) -> tuple[tuple[DeviceCertificate, ...], tuple[str, ...]]:
    """Have daemons refuse certificates of a device for good, wherever a copy turns up. Returns these, and the daemons.

    which: the file NAME.cert, or the name of a device: what daemons have of it then. Raises DeviceCertificateError if
    the file is no certificate of the daemons' installation; ConfigurationError if there are no daemons, none has one of
    that name, or a file cannot be written, and then daemons before it refuse the device already.
    """
    daemons = configurations.daemons
    if not daemons:
        raise ConfigurationError("no daemon's folder is here", expected="an installation, or folders of daemons")
    path = Path(which)
    paths = (
        [path] if path.suffix == SUFFIX else [certificate_path(x.devices, check_device_name(which)) for x in daemons]
    )
    found = {one.statement.id: one for one in (read_certificate(path) for path in paths if path.exists())}
    if not found:
        raise ConfigurationError("no daemon here has a certificate of this device", got=ascii(which[:60]))
    for daemon in daemons:
        for certificate in found.values():
            check_signatures(certificate, daemon.public())
    for daemon in daemons:
        for id_, certificate in found.items():
            place = revoked_path(daemon.devices, id_)
            try:
                write_file(place, certificate.encode())
            except OSError as error:
                raise ConfigurationError("a revocation cannot be written", got=f"{place}: {error.strerror}") from None
    return tuple(found.values()), tuple(daemon.name for daemon in daemons)


@dataclass(frozen=True)
class Listed:
    """A certificate as daemons have it. refused: why they do not go by it. at: the daemons that have this very one.

    parameters: of their installation; None if their public file cannot be read.
    """

    device: str
    certificate: DeviceCertificate | None
    refused: str | None
    at: tuple[str, ...]
    parameters: ParameterSet | None


def listed(configurations: Configurations, now: Callable[[], float]) -> list[Listed]:
    """Return the certificates that daemons have, by device; different ones of one name are listed apart."""
    found: dict[tuple[object, ...], list[Listed]] = {}
    for daemon in configurations.daemons:
        parameters = _parameters(daemon)
        for path in certificate_files(daemon.devices):
            certificate, refused = _judged(path, daemon, now())
            content = b"" if certificate is None else certificate.encode()
            one = Listed(path.stem, certificate, refused, (daemon.name,), parameters)
            found.setdefault((path.stem, content, refused, parameters), []).append(one)
    same = sorted(found.values(), key=lambda group: group[0].device)
    return [replace(group[0], at=tuple(name for one in group for name in one.at)) for group in same]


def _parameters(daemon: DaemonFolder) -> ParameterSet | None:
    try:
        return daemon.public().public_key.parameters
    except VeilmatchError:
        return None


def _judged(path: Path, daemon: DaemonFolder, now_s: float) -> tuple[DeviceCertificate | None, str | None]:
    certificate = None
    try:
        certificate = read_certificate(path)
        certified_statement(certificate, daemon.public()).require_valid(now_s)
    except VeilmatchError as error:
        return certificate, str(error)
    return certificate, "revoked" if revoked_path(daemon.devices, certificate.statement.id).exists() else None


def _free(directory: Path, name: str) -> Configurations:
    """Return the configurations of an installation in which the name is not taken."""
    check_device_name(name)
    configurations = Configurations.read(directory)
    if (directory / name).exists() or configurations.knows(name):
        raise ConfigurationError("the device exists already", got=name, expected="a new name")
    return configurations


def _fresh(issuer: Issuer, name: str, grant: Grant) -> tuple[Ed25519PrivateKey, DeviceCertificate]:
    key = Ed25519PrivateKey.generate()
    return key, grant.request(issuer.public, name, key.public_key().public_bytes_raw(), _now())


def certifiers_here(directory: Path, public: PublicFile, passphrase: str) -> Sequence[Certifier]:
    """Return the certification keys of the first organisations that have theirs in an installation, as many as needed.

    Raises ConfigurationError if there are fewer, and what `unseal_certifier` raises.
    """
    paths = {party: directory / folder_of(f"keyholder-{party}") / "certifier.key" for party in PARTIES}
    here = [party for party, path in paths.items() if path.exists()][:SIGNATURES_NEEDED]
    if len(here) < SIGNATURES_NEEDED:
        raise ConfigurationError(
            "the certification keys of two organisations are not here",
            got=", ".join(here) or "none",
            expected="`veilmatch device request`, or `renew --out`, for each organisation to sign",
        )
    return [unseal_certifier(paths[party], party, public, passphrase) for party in here]


def _signing_key(path: Path) -> Ed25519PrivateKey:
    try:
        key = serialization.load_pem_private_key(read_private(path, "the signing key of the device"), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFileError("not a signing key", got=str(path), expected="an Ed25519 key in PEM")
    return key


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
