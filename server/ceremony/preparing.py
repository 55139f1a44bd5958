"""What an organisation makes for itself before a key ceremony: a TLS authority, and the two keys that it signs with.

FOLDER/
  ceremony.toml                 for `veilmatch ceremony join`
  organisation-a.json           its introduction: the other two get it, and have theirs put here
  keys/authority/               its TLS authority (tls/folder.py)
  keys/certifier.pem, signer.pem    PKCS8, encrypted
  keys/ca.pem, tls.pem, tls-key.pem     what it shows in the ceremony
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from veilmatch.common.secret_file import read_private
from veilmatch.common.settings import TlsSettings
from veilmatch.crypto.digests import digest
from veilmatch.crypto.errors import ConfigurationError, KeyFileError, WrongPassphraseError
from veilmatch.crypto.keys.parties import Party
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.crypto.secret_access import SECRET_ACCESS, SecretHolder
from veilmatch.server.ceremony.introduction import Introduction, file_of
from veilmatch.server.ground.organisation import OrganisationKey
from veilmatch.server.installation.authority import Authority
from veilmatch.server.installation.certifying.certifier import Certifier
from veilmatch.server.installation.files import FOLDER_MODE, appearing, write_file
from veilmatch.server.installation.plan import AUTHORITY, TLS, Plan
from veilmatch.server.installation.stretching import ScryptCost, cost_for, stretch
from veilmatch.server.installation.tls.folder import AuthorityFolder
from veilmatch.server.installation.toml import to_toml

CONFIG, KEYS = "ceremony.toml", "keys"
#: A ceremony is held within this time; daemons get certificates of their own.
_VALIDITY = datetime.timedelta(days=90)


@dataclass(frozen=True, repr=False)
class OwnKeys(SecretHolder):
    """What an organisation signs with: handles that do not show it."""

    authority: Authority
    certifier: Certifier
    signer: OrganisationKey

    def require_introduced(self, introduction: Introduction) -> None:
        """Raise KeyFileError unless these are the keys that others were told of."""
        told = introduction.certifier, introduction.signer, introduction.authority
        if told != (self.certifier.public_bytes, self.signer.public_bytes, self.authority.certificate):
            raise KeyFileError("the keys of this organisation are not those of its introduction")


def prepare(
    folder: Path, party: Party, parameters: ParameterSet, plan: Plan, passphrase: str, more: Mapping[str, Any]
) -> Introduction:
    """Make the folder of an organisation, complete or not at all; return what the others get.

    plan: where this organisation's daemons will be. more: further fields of ceremony.toml. Raises ConfigurationError
    if the folder exists and is not empty, or cannot be written.
    """
    cost = cost_for(parameters)
    own = OwnKeys(Authority.fresh(organisation=party), Certifier.fresh(party), OrganisationKey.fresh(party))
    introduction = Introduction(
        party, plan.host, plan.base_port, own.authority.certificate, own.certifier.public_bytes,
        own.signer.public_bytes,
    )  # fmt: skip
    name = f"keyholder-{party}"
    fields = {
        "party": party,
        "parameters": parameters.name,
        "listen": plan.address(name),
        "keys": KEYS,
        "introductions": ".",
        "installation": "installation",
        **more,
        "fingerprints": {},
    }
    with appearing(folder) as partial:
        partial.mkdir(mode=FOLDER_MODE)
        keys = partial / KEYS
        keys.mkdir(mode=FOLDER_MODE)
        home = AuthorityFolder.make(keys / AUTHORITY, own.authority, passphrase, cost)
        certificate, key = home.issue(own.authority, name, is_server=True, validity=_VALIDITY)
        write_file(keys / TLS["certificate"], certificate)
        write_file(keys / TLS["key"], key, secret=True)
        for kind, secret in (("certifier", own.certifier), ("signer", own.signer)):
            pem = _sealed(secret.to_secret_bytes(SECRET_ACCESS), kind, secret.public_bytes, passphrase, cost)
            write_file(keys / f"{kind}.pem", pem, secret=True)
        write_file(file_of(partial, party), introduction.encode())
        write_file(partial / CONFIG, to_toml(fields).encode())
    return introduction


def open_keys(folder: Path, introduction: Introduction, passphrase: str, cost: ScryptCost) -> OwnKeys:
    """Return the keys that `prepare` has made. Raises ConfigurationError, KeyFileError or WrongPassphraseError."""
    authority = AuthorityFolder(folder / AUTHORITY).open(passphrase, cost)
    party = introduction.party
    certifier = _unsealed(folder / "certifier.pem", "certifier", introduction.certifier, passphrase, cost)
    signer = _unsealed(folder / "signer.pem", "signer", introduction.signer, passphrase, cost)
    own = OwnKeys(
        authority, Certifier.from_secret_bytes(party, certifier), OrganisationKey.from_secret_bytes(party, signer)
    )
    own.require_introduced(introduction)
    return own


def tls_of(folder: Path, introductions: Mapping[Party, Introduction]) -> TlsSettings:
    """Return the TLS files of the ceremony, with the authorities of these introductions. Raises ConfigurationError."""
    bundle = b"".join(one.authority.public_bytes(serialization.Encoding.PEM) for one in introductions.values())
    try:
        write_file(folder / TLS["authority"], bundle)
    except OSError as error:
        raise ConfigurationError("a TLS file cannot be written", got=f"{folder}: {error.strerror}") from None
    return TlsSettings(**{field: folder / file for field, file in TLS.items()})


def _sealed(secret: bytes, kind: str, public: bytes, passphrase: str, cost: ScryptCost) -> bytes:
    encryption = serialization.BestAvailableEncryption(_password(kind, public, passphrase, cost))
    key = Ed25519PrivateKey.from_private_bytes(secret)
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def _unsealed(path: Path, kind: str, public: bytes, passphrase: str, cost: ScryptCost) -> bytes:
    what = f"the organisation's {kind} key"
    try:
        data = read_private(path, what)
    except OSError as error:
        raise ConfigurationError(f"{what} cannot be read", got=f"{path}: {error.strerror}") from None
    try:
        key = serialization.load_pem_private_key(data, _password(kind, public, passphrase, cost))
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise WrongPassphraseError(
            f"the passphrase does not open {what}, or the file was altered", got=str(path)
        ) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFileError(f"{what} is of another kind", got=str(path), expected="Ed25519")
    return key.private_bytes_raw()


def _password(kind: str, public: bytes, passphrase: str, cost: ScryptCost) -> bytes:
    # As dear to guess as the sealed key shares will be: the PEM format alone is a thousand times cheaper.
    return stretch(passphrase, digest(f"ceremony {kind}", public), cost).hex().encode()
