"""An installation on disk: one folder for each organisation, one in it for each of its daemons, to be copied to theirs.

public.json                public key and parameter set; keys that organisations certify devices and sign with
authority/                 TLS authority (tls/folder.py); its key is encrypted under the passphrase
organisation-a/ -b/ -c/
  keyholder/               keyholder.toml; share.key, certifier.key and organisation.key (sealed); public.json, ca.pem,
                           tls.pem, tls-key.pem, crl.pem, data/, devices/ (certificates of devices), revoked/
                           (recipients that are refused)
  matcher/                 matcher.toml, the same without share.key and certifier.key
device-1/ ...              device.toml, signing.key, device-1.cert, public.json, ca.pem, tls.pem, tls-key.pem
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from veilmatch.crypto.encryption.public_key_format import PublicFile
from veilmatch.crypto.errors import ConfigurationError
from veilmatch.crypto.keys.ceremony import Ceremony
from veilmatch.crypto.keys.device_certificate import DeviceCertificate, check_device_name
from veilmatch.crypto.keys.parties import PARTIES
from veilmatch.crypto.keys.shares import KeyHolderKey
from veilmatch.crypto.keys.signed_by_two import SIGNATURES_NEEDED
from veilmatch.server.ground.organisation import OrganisationKey
from veilmatch.server.installation.authority import Authority
from veilmatch.server.installation.certifying.certifier import Certifier, Grant, certified
from veilmatch.server.installation.certifying.certifier_file import seal_certifier
from veilmatch.server.installation.files import FOLDER_MODE, appearing, write_file
from veilmatch.server.installation.folders import Issuer
from veilmatch.server.installation.organisation_file import seal_organisation
from veilmatch.server.installation.plan import AUTHORITY, Plan, folder_of, key_holder_fields, matcher_fields
from veilmatch.server.installation.sealed import seal
from veilmatch.server.installation.stretching import ScryptCost, cost_for
from veilmatch.server.installation.tls.folder import AuthorityFolder

__all__ = ["Organisation", "Plan", "check_free", "write_installation", "write_organisation"]

_DEFAULT_PLAN = Plan()
_ALL = Grant()


def write_installation(
    directory: Path,
    ceremony: Ceremony,
    passphrase: str,
    devices: Sequence[str],
    plan: Plan = _DEFAULT_PLAN,
    cost: ScryptCost | None = None,
    grant: Grant = _ALL,
) -> None:
    """Write a whole installation; it appears under its name complete or not at all.

    devices: their names; organisations a and b certify them, with what `grant` says: every right in every gallery,
    unless said. cost: of guessing the passphrase; the usual one unless said. Raises ConfigurationError
    if the directory exists and is not empty, a device's name cannot be one, or the disk refuses.
    """
    cost = cost or cost_for(ceremony.public_key.parameters)
    check_free(directory)
    for name in devices:
        check_device_name(name)
    if len(set(devices)) != len(devices):
        raise ConfigurationError("two devices of one name", expected="different names")
    with appearing(directory) as partial:
        partial.mkdir(mode=FOLDER_MODE)
        certifiers = {party: Certifier.fresh(party) for party in PARTIES}
        organisations = tuple(certifier.public_bytes for certifier in certifiers.values())
        own_keys = {party: OrganisationKey.fresh(party) for party in PARTIES}
        signing = tuple(key.public_bytes for key in own_keys.values())
        authority = Authority.fresh()
        home = AuthorityFolder.make(partial / AUTHORITY, authority, passphrase, cost)
        issuer = Issuer(PublicFile.fresh(ceremony.public_key, organisations, signing), authority, home)
        write_file(partial / "public.json", issuer.public.encode())
        matchers: dict[str, str] = {party: plan.address(f"matcher-{party}") for party in plan.matchers}
        signers = [certifiers[party] for party in PARTIES[:SIGNATURES_NEEDED]]
        certificates = []
        for name in devices:
            signing_key = Ed25519PrivateKey.generate()
            public_bytes, now = signing_key.public_key().public_bytes_raw(), datetime.datetime.now(datetime.UTC)
            certificates.append(certified(grant.request(issuer.public, name, public_bytes, now), signers))
            issuer.write_device(partial / name, signing_key, matchers, certificates[-1])
        for party, key in zip(PARTIES, ceremony.keys, strict=True):
            own = Organisation(key, certifiers[party], own_keys[party])
            write_organisation(partial, issuer, own, plan, passphrase, cost, certificates)


@dataclass(frozen=True)
class Organisation:
    """What one organisation has for itself: handles that do not show it."""

    key: KeyHolderKey
    certifier: Certifier
    signing: OrganisationKey


def write_organisation(
    directory: Path,
    issuer: Issuer,
    own: Organisation,
    plan: Plan,
    passphrase: str,
    cost: ScryptCost,
    certificates: Sequence[DeviceCertificate] = (),
) -> None:
    """Write the folder of an organisation, with those of its daemons. certificates: of devices. Raises OSError."""
    party = own.key.party
    (directory / f"organisation-{party}").mkdir(mode=FOLDER_MODE)
    if party in plan.matchers:
        name = f"matcher-{party}"
        folder = directory / folder_of(name)
        issuer.write_daemon(folder, name, matcher_fields(party, plan), certificates)
        seal_organisation(folder / "organisation.key", own.signing, issuer.public, passphrase, cost)
    name = f"keyholder-{party}"
    folder = directory / folder_of(name)
    issuer.write_daemon(folder, name, key_holder_fields(party, plan), certificates)
    seal(folder / "share.key", own.key, issuer.public, passphrase, cost)
    seal_organisation(folder / "organisation.key", own.signing, issuer.public, passphrase, cost)
    seal_certifier(folder / "certifier.key", own.certifier, issuer.public, passphrase, cost)


def check_free(directory: Path) -> None:
    """Raise ConfigurationError unless an installation can be written there: nothing is, or an empty directory."""
    try:
        if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
            raise ConfigurationError("the directory is not empty", got=str(directory), expected="a new directory")
    except OSError as error:
        raise ConfigurationError("the directory cannot be used", got=f"{directory}: {error.strerror}") from None
