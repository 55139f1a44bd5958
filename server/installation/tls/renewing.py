"""TLS certificates of parties, where the authority is: renewed, taken back, given to the folders that are here.

The folders may have gone to their machines. What they are to have is then left in a folder of that party's name, or in
`authority/for-parties`, for whoever carries it there. A daemon reads what takes the place of its files by itself.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from veilmatch.common.pem import certificates_of
from veilmatch.crypto.errors import ConfigurationError
from veilmatch.crypto.keys.device_certificate import check_device_name
from veilmatch.server.installation.authority import PARTY_VALIDITY
from veilmatch.server.installation.certifying.registration import Configurations, TlsPlace
from veilmatch.server.installation.files import FOLDER_MODE, write_file
from veilmatch.server.installation.folders import Issuer
from veilmatch.server.installation.plan import AUTHORITY, DAEMON_TLS, PORTS
from veilmatch.server.installation.stretching import ScryptCost, cost_for
from veilmatch.server.installation.tls.folder import AuthorityFolder, Issued
from veilmatch.server.installation.tls.revocations import Revocations


@dataclass(frozen=True)
class Renewed:
    """A certificate that was renewed. folder: where its files are. end: when it ends."""

    name: str
    folder: Path
    end: datetime.datetime


@dataclass(frozen=True)
class Held:
    """The certificate that a party has in its folder. lists: how many certificates its revocation list names; None if
    it has no list. trusted: authorities that it trusts.
    """

    name: str
    file: Path
    certificate: x509.Certificate
    trusted: int
    lists: int | None


def home_of(directory: Path) -> AuthorityFolder:
    """Return the authority's folder of an installation. Raises ConfigurationError if there is none."""
    home = AuthorityFolder(directory / AUTHORITY)
    if not home.path.is_dir():
        raise ConfigurationError("not an installation with its authority", got=str(directory))
    return home


def renew(
    directory: Path,
    names: Sequence[str],
    passphrase: str,
    out: Path | None = None,
    validity: datetime.timedelta = PARTY_VALIDITY,
    cost: ScryptCost | None = None,
) -> list[Renewed]:
    """Issue a new certificate and key to parties and devices under their names, in place of what their folders have.

    names: all that were ever issued to, or have a folder here, if empty. out: where folders are made, NAME each, for
    those whose own one is not here, or for all if it is given. cost: of the passphrase, if it is not the usual one.
    Raises what `Issuer.open` raises; ConfigurationError if a name is none of these or a file cannot be written: those
    before it are renewed then.
    """
    issuer = Issuer.open(directory, passphrase, cost)
    issuer.home.ensure_lists(passphrase, cost or cost_for(issuer.public.public_key.parameters))
    here = {place.name: place for place in Configurations.read(directory).tls}
    known = dict.fromkeys([*here, *(one.name for one in issuer.home.issued())])
    if unknown := [name for name in names if name not in known and name not in PORTS]:
        raise ConfigurationError(
            "no party of this installation", got=ascii(unknown[0][:60]), expected=", ".join(known) or "a party"
        )
    done = []
    for name in names or known:
        if name not in PORTS:
            check_device_name(name)
        place = _place_in(out / name, name) if out is not None else here.get(name)
        if place is None:
            raise ConfigurationError("the folder of this party is not here", got=name, expected="--out FOLDER")
        done.append(_renewed(issuer, place, validity))
    give_out(directory)
    return done


def give_out(directory: Path) -> tuple[str, ...]:
    """Write what parties are to trust, and whom not, into every folder that is here; return whose.

    Raises ConfigurationError if a file cannot be written; folders before it have theirs then.
    """
    home, names = home_of(directory), []
    for place in Configurations.read(directory).tls:
        try:
            _give(home, place)
        except OSError as error:
            raise _unwritten(error) from None
        names.append(place.name)
    return tuple(names)


def revoke(
    directory: Path, which: str, passphrase: str, *, older: bool = False, cost: ScryptCost | None = None
) -> list[Issued]:
    """Take back certificates, and give the new list to the folders that are here. Returns those taken back.

    which: a name (all of it that were issued), a serial number or a file. older: all of that name but the newest.
    Raises ConfigurationError if there is nothing to take back; what `AuthorityFolder.revoke` raises.
    """
    issuer = Issuer.open(directory, passphrase, cost)
    found = issuer.home.find(which)
    if older:
        found = found[:-1]
    fresh = [one for one in found if one.revoked_at is None]
    if not fresh:
        raise ConfigurationError("nothing to take back", got=which, expected="a certificate that counts still")
    certificates = [one.certificate for one in fresh]
    issuer.home.revoke(certificates, passphrase, cost or cost_for(issuer.public.public_key.parameters))
    give_out(directory)
    return fresh


def replace_authority(directory: Path, passphrase: str, cost: ScryptCost | None = None) -> tuple[str, ...]:
    """Begin to replace the authority; every folder that is here trusts both. Returns whose.

    Raises what `Issuer.open` and `AuthorityFolder.replace` raise.
    """
    issuer = Issuer.open(directory, passphrase, cost)
    issuer.home.replace(passphrase, cost or cost_for(issuer.public.public_key.parameters))
    return give_out(directory)


def end_replacement(directory: Path) -> tuple[str, ...]:
    """End it; every folder that is here trusts the new authority alone. Returns whose.

    Raises ConfigurationError if a party still has a certificate of the old one, as its newest or in its folder, or no
    authority is being replaced.
    """
    home = home_of(directory)
    if home.being_replaced:
        new = home.authorities()[-1].subject
        newest = {one.name: one.certificate for one in home.issued()}
        own = [held.certificate for held in held_by(Configurations.read(directory))]
        if old := sorted({_name(one) for one in [*newest.values(), *own] if one.issuer != new}):
            raise ConfigurationError(
                "a party has no certificate of the new authority yet",
                got=", ".join(old),
                expected="`veilmatch authority renew`",
            )
    home.end()
    return give_out(directory)


def held_by(configurations: Configurations) -> list[Held]:
    """Return the certificates in the folders that are here. Raises ConfigurationError if one cannot be read."""
    found = []
    for place in configurations.tls:
        try:
            own = certificates_of(place.certificate.read_bytes())[0]
            trusted = certificates_of(place.authority.read_bytes())
        except (OSError, ValueError):
            raise ConfigurationError("TLS files cannot be read", got=str(place.certificate.parent)) from None
        serials = None
        if place.crl is not None:
            serials = sum(map(len, Revocations.read(place.crl, trusted).serials.values()))
        found.append(Held(place.name, place.certificate, own, len(trusted), serials))
    return found


def _renewed(issuer: Issuer, place: TlsPlace, validity: datetime.timedelta) -> Renewed:
    """Issue to one party. Trust first, then the key, which means nothing without its certificate."""
    try:
        place.certificate.parent.mkdir(parents=True, exist_ok=True, mode=FOLDER_MODE)
        _give(issuer.home, place)
        certificate, key = issuer.home.issue(
            issuer.authority, place.name, is_server=place.name in PORTS, validity=validity
        )
        write_file(place.key, key, secret=True)
        write_file(place.certificate, certificate)
    except OSError as error:
        raise _unwritten(error) from None
    end = x509.load_pem_x509_certificate(certificate).not_valid_after_utc
    return Renewed(place.name, place.certificate.parent, end)


def _unwritten(error: OSError) -> ConfigurationError:
    return ConfigurationError("a TLS file cannot be written", got=f"{error.filename}: {error.strerror}")


def _give(home: AuthorityFolder, place: TlsPlace) -> None:
    write_file(place.authority, home.bundle())
    if place.crl is not None and (lists := home.revocation_lists()):
        write_file(place.crl, lists)


def _place_in(folder: Path, name: str) -> TlsPlace:
    paths = {field: folder / file for field, file in DAEMON_TLS.items()}
    return TlsPlace(name, paths["authority"], paths["certificate"], paths["key"], paths["crl"])


def _name(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string().removeprefix("CN=")
