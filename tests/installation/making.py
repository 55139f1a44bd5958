"""Small ceremonies and installations, made once: UNSAFE sizes, cheap passphrases."""

from __future__ import annotations

import datetime
from functools import cache
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from veilmatch.crypto.encryption.public_key_format import PublicFile
from veilmatch.crypto.keys.ceremony import Ceremony, run_ceremony
from veilmatch.crypto.keys.device_certificate import DeviceCertificate
from veilmatch.crypto.keys.parties import PARTIES, Party
from veilmatch.crypto.keys.shares import KeyHolderKey
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.crypto.secret_access import SECRET_ACCESS
from veilmatch.server.ground.organisation import OrganisationKey
from veilmatch.server.installation.certifying.certifier import Certifier, Grant, certified
from veilmatch.server.installation.layout import Plan, write_installation
from veilmatch.server.installation.lowest import Lowest
from veilmatch.server.installation.sealed import ScryptCost

PARAMETERS = ParameterSet.from_name("UNSAFE-d8-s60-c23-n512")
PASSPHRASE = "correct horse"
CHEAP = ScryptCost(10, 1, 1)
ANY_THRESHOLD = Lowest(others=0)


def ceremony(number: int = 0) -> Ceremony:
    """Return the ceremony of that number: two numbers are two unrelated keys."""
    return _ceremony(number)


def public_file(number: int = 0) -> PublicFile:
    return _public_file(number)


@cache
def certifiers() -> dict[Party, Certifier]:
    """Return the certification keys of the organisations that the public files of these tests name."""
    return {party: Certifier.fresh(party) for party in PARTIES}


def organisations() -> tuple[bytes, ...]:
    """Return their public parts."""
    return tuple(certifier.public_bytes for certifier in certifiers().values())


@cache
def organisation_keys() -> dict[Party, OrganisationKey]:
    """Return the signing keys of the organisations that the public files of these tests name."""
    return {party: OrganisationKey.fresh(party) for party in PARTIES}


def signers() -> tuple[bytes, ...]:
    """Return their public parts."""
    return tuple(key.public_bytes for key in organisation_keys().values())


def certificate(
    device: str, key: Ed25519PrivateKey, signers: str = "ab", public: PublicFile | None = None, **grant: Any
) -> DeviceCertificate:
    """Return a device's certificate, which these organisations have signed.

    grant: fields of `Grant`, and now; every threshold is allowed unless said.
    """
    now = grant.pop("now", datetime.datetime.now(datetime.UTC))
    fields = {"lowest": ANY_THRESHOLD} | grant
    request = Grant(**fields).request(public or public_file(), device, key.public_key().public_bytes_raw(), now)
    return certified(request, [certifiers()[party] for party in PARTIES if party in signers])


@cache
def _ceremony(number: int) -> Ceremony:
    return run_ceremony(PARAMETERS)


@cache
def _public_file(number: int) -> PublicFile:
    return PublicFile.fresh(ceremony(number).public_key, organisations(), signers())


def install(directory: Path, *devices: str, plan: Plan = Plan()) -> Path:  # noqa: B008
    """Write a whole installation of ceremony 0 and return its folder."""
    write_installation(directory, ceremony(), PASSPHRASE, devices or ("device-1",), plan, CHEAP)
    return directory


def material(key: KeyHolderKey) -> list[str]:
    """Return every secret of a key as it could show up in a text: decimal, hexadecimal, and as bytes."""
    public = ceremony().public_key
    numbers = [n for share in key._shares for n in (share._exponent, share._kappa)]
    numbers += [n for x in key._safety for n in (x._gamma, x._verifying, x._kappa_key, x._proving, x._kappa_tag)]
    numbers += [key._gammas._plus, key._gammas._minus]
    seeds = [key.dealing_seed(SECRET_ACCESS), key.storage_seed(SECRET_ACCESS)]
    whole = key.to_secret_bytes(public, SECRET_ACCESS)
    texts = [str(int(n)) for n in numbers] + [f"{int(n):x}" for n in numbers]
    return texts + [seed.hex() for seed in seeds] + [repr(seed)[2:-1] for seed in seeds] + [whole.hex()]
