"""An installation on disk: one self-contained folder per party, to be copied to that party's machine.

public.json                public key and parameter set
authority/                 TLS authority; its key is encrypted under the passphrase
keyholder-a/ -b/ -c/       keyholder.toml, share.key (sealed), public.json, ca.pem, tls.pem, tls-key.pem, data/
matcher-a/ -b/             matcher.toml, the same without share.key
device-1/ ...              device.toml, signing.key, the same without data/
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from veilmatch.crypto.ceremony import Ceremony
from veilmatch.crypto.errors import ConfigurationError
from veilmatch.crypto.keys import PARTIES, SEATS
from veilmatch.crypto.public_key_format import PublicFile
from veilmatch.server.installation.authority import Authority
from veilmatch.server.installation.files import FOLDER_MODE, sync_folder, write_file
from veilmatch.server.installation.folders import Issuer
from veilmatch.server.installation.plan import Plan, key_holder_fields, matcher_fields
from veilmatch.server.installation.public_file import read_public_file
from veilmatch.server.installation.registration import Configurations
from veilmatch.server.installation.sealed import seal
from veilmatch.server.installation.stretching import DEFAULT_COST, ScryptCost

__all__ = ["Plan", "add_device", "check_device_name", "check_free", "write_installation"]

_DEVICE_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,46}[a-z0-9])?")
_DEFAULT_PLAN = Plan()


def write_installation(
    directory: Path,
    ceremony: Ceremony,
    passphrase: str,
    devices: Sequence[str],
    plan: Plan = _DEFAULT_PLAN,
    cost: ScryptCost = DEFAULT_COST,
) -> None:
    """Write a whole installation; it appears under its name complete or not at all.

    devices: their names. cost: of guessing the passphrase; only tests ask for less than the default. Raises
    ConfigurationError if the directory exists and is not empty, a device's name cannot be one, or the disk refuses.
    """
    check_free(directory)
    for name in devices:
        check_device_name(name)
    if len(set(devices)) != len(devices):
        raise ConfigurationError("two devices of one name", expected="different names")
    with _appearing(directory) as partial:
        partial.mkdir(mode=FOLDER_MODE)
        issuer = Issuer(PublicFile.fresh(ceremony.public_key), Authority.fresh())
        write_file(partial / "public.json", issuer.public.encode())
        (partial / "authority").mkdir(mode=FOLDER_MODE)
        write_file(partial / "authority" / "ca.pem", issuer.authority.certificate_pem())
        write_file(partial / "authority" / "ca-key.pem", issuer.authority.key_pem(passphrase, cost), secret=True)
        matchers: dict[str, str] = {seat: plan.address(f"matcher-{seat}") for seat in SEATS}
        signing_keys = {name: Ed25519PrivateKey.generate() for name in devices}
        keys = {name: key.public_key().public_bytes_raw().hex() for name, key in signing_keys.items()}
        for name, signing_key in signing_keys.items():
            issuer.write_device(partial / name, name, signing_key, matchers)
        for seat in SEATS:
            issuer.write_daemon(partial / f"matcher-{seat}", matcher_fields(seat, plan, keys))
        for party, key in zip(PARTIES, ceremony.keys, strict=True):
            folder = partial / f"keyholder-{party}"
            issuer.write_daemon(folder, key_holder_fields(party, plan, keys))
            seal(folder / "share.key", key, issuer.public, passphrase, cost)


def add_device(directory: Path, name: str, passphrase: str, cost: ScryptCost = DEFAULT_COST) -> str:
    """Add a device: its folder, and its public key in the configuration of every daemon whose folder is here.

    Returns the public key in hex, for the `devices` of daemons whose folders are elsewhere; daemons read their
    configuration when they start. cost: that of the installation. Raises ConfigurationError if the name is taken or
    cannot be one, or this is not an installation with its authority; WrongPassphraseError or KeyFileError if its
    authority cannot be opened. On an error nothing is changed.
    """
    check_device_name(name)
    configurations = Configurations.read(directory)
    if (directory / name).exists() or configurations.knows(name):
        raise ConfigurationError("the device exists already", got=name, expected="a new name")
    try:
        certificate, key = ((directory / "authority" / file).read_bytes() for file in ("ca.pem", "ca-key.pem"))
    except OSError:
        raise ConfigurationError("not an installation with its authority", got=str(directory)) from None
    issuer = Issuer(read_public_file(directory / "public.json"), Authority.from_pem(certificate, key, passphrase, cost))
    matchers = configurations.matcher_addresses()
    signing_key = Ed25519PrivateKey.generate()
    public_hex = signing_key.public_key().public_bytes_raw().hex()
    # The folder appears last: a device that is seen is known to the daemons.
    with configurations.register(name, public_hex), _appearing(directory / name) as partial:
        issuer.write_device(partial, name, signing_key, matchers)
    return public_hex


def check_device_name(name: str) -> str:
    """Return the name if a device can have it: it is a DNS label, and no daemon's name. Raises ConfigurationError."""
    if not _DEVICE_NAME.fullmatch(name) or name.startswith(("matcher-", "keyholder-", "authority")):
        raise ConfigurationError(
            "not a device's name", got=ascii(name[:60]), expected="lower-case letters, digits and hyphens"
        )
    return name


def check_free(directory: Path) -> None:
    """Raise ConfigurationError unless an installation can be written there: nothing is, or an empty directory."""
    try:
        if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
            raise ConfigurationError("the directory is not empty", got=str(directory), expected="a new directory")
    except OSError as error:
        raise ConfigurationError("the directory cannot be used", got=f"{directory}: {error.strerror}") from None


@contextmanager
def _appearing(target: Path) -> Iterator[Path]:
    """Give a path to make a folder at; it gets its own name when the body is done, or goes away if that fails.

    Raises ConfigurationError for an OSError of the body.
    """
    final = target.resolve()
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{final.name}.", dir=final.parent) as temporary:
            partial = Path(temporary) / final.name
            yield partial
            # An empty directory of that name is replaced, any other is not.
            partial.rename(final)
        sync_folder(final.parent)
    except OSError as error:
        raise ConfigurationError("the installation cannot be written", got=f"{target}: {error.strerror}") from None
