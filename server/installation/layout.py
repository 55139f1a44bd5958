"""An installation on disk: one self-contained folder per party, to be copied to that party's machine.

    public.json                public key and parameter set
    authority/                 TLS authority; its key is encrypted under the passphrase
    keyholder-a/ -b/ -c/       keyholder.toml, share.key (sealed), public.json, ca.pem, tls.pem, tls-key.pem, data/
    matcher-a/ -b/             matcher.toml, the same without share.key
    device-1/ ...              device.toml, signing.key, the same without data/
"""

from __future__ import annotations

import re
import shutil
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from veilmatch.crypto.ceremony import Ceremony
from veilmatch.crypto.errors import ConfigurationError
from veilmatch.crypto.keys import PARTIES, SEATS
from veilmatch.crypto.public_key_format import PublicFile
from veilmatch.server.installation.authority import Authority
from veilmatch.server.installation.files import sync_folder, write_file
from veilmatch.server.installation.public_file import read_public_file
from veilmatch.server.installation.sealed import ScryptCost, seal
from veilmatch.server.installation.toml import to_toml

_DEVICE_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,46}[a-z0-9])?")
_PORTS = {"matcher-a": 1, "matcher-b": 2, "keyholder-a": 11, "keyholder-b": 12, "keyholder-c": 13}


@dataclass(frozen=True)
class Plan:
    """What the configuration files say: where the daemons listen, and how many workers each has (0: one a core)."""

    host: str = "127.0.0.1"
    base_port: int = 7400
    workers: int = 0

    def address(self, party: str) -> str:
        """Return host:port of a daemon."""
        return f"{self.host}:{self.base_port + _PORTS[party]}"


def write_installation(
    directory: Path,
    ceremony: Ceremony,
    passphrase: str,
    devices: Sequence[str],
    plan: Plan = Plan(),  # noqa: B008
    cost: ScryptCost = ScryptCost(),  # noqa: B008
) -> None:
    """Write a whole installation; it appears under its name complete or not at all.

    Raises ConfigurationError if the directory exists and is not empty, or a device's name cannot be one.
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise ConfigurationError("the directory is not empty", got=str(directory), expected="a new directory")
    for name in devices:
        check_device_name(name)
    partial = directory.with_name(f".{directory.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True, mode=0o700)
    public, authority = PublicFile.fresh(ceremony.public_key), Authority.fresh()
    write_file(partial / "public.json", public.encode())
    (partial / "authority").mkdir()
    write_file(partial / "authority" / "ca.pem", authority.certificate_pem())
    write_file(partial / "authority" / "ca-key.pem", authority.key_pem(passphrase), secret=True)
    keys = {name: _write_device(partial / name, name, public, authority, plan) for name in devices}
    for seat in SEATS:
        _write_party(partial / f"matcher-{seat}", public, authority, _matcher(seat, plan, keys))
    for party, key in zip(PARTIES, ceremony.keys, strict=True):
        folder = partial / f"keyholder-{party}"
        _write_party(folder, public, authority, _key_holder(party, plan, keys))
        seal(folder / "share.key", key, public, passphrase, cost)
    sync_folder(partial)
    if directory.exists():
        directory.rmdir()
    partial.rename(directory)
    sync_folder(directory.parent)


def add_device(directory: Path, name: str, passphrase: str) -> None:
    """Add a device to an installation: its folder, and its public key in every daemon's configuration here.

    Raises ConfigurationError if the name is taken or cannot be one, WrongPassphraseError. Daemons read
    their configuration when they start.
    """
    check_device_name(name)
    if (directory / name).exists():
        raise ConfigurationError("the device exists already", got=name, expected="a new name")
    try:
        certificate, key = ((directory / "authority" / n).read_bytes() for n in ("ca.pem", "ca-key.pem"))
    except OSError:
        raise ConfigurationError("not an installation with its authority", got=str(directory)) from None
    authority = Authority.from_pem(certificate, key, passphrase)
    public = read_public_file(directory / "public.json")
    daemons = sorted([*directory.glob("matcher-*/matcher.toml"), *directory.glob("keyholder-*/keyholder.toml")])
    settings = {path: tomllib.loads(path.read_text()) for path in daemons}
    addresses = {f"matcher-{fields['seat']}": fields["listen"] for fields in settings.values() if "seat" in fields}
    if len(addresses) != len(SEATS):
        raise ConfigurationError("the matchers' configurations are not here", expected="matcher-a and matcher-b")
    public_hex = _write_device(directory / name, name, public, authority, addresses)
    for path, fields in settings.items():
        fields["devices"][name] = public_hex
        write_file(path, to_toml(fields).encode())


def check_device_name(name: str) -> str:
    """Return the name if a device can have it: it is a DNS label, and no daemon's name."""
    if not _DEVICE_NAME.fullmatch(name) or name.startswith(("matcher-", "keyholder-", "authority")):
        raise ConfigurationError("not a device's name", got=name[:60], expected="lower-case letters, digits and hyphens")
    return name


def _write_party(folder: Path, public: PublicFile, authority: Authority, fields: dict[str, Any]) -> None:
    folder.mkdir(mode=0o700)
    (folder / "data").mkdir(mode=0o700)
    _write_identity(folder, folder.name, public, authority)
    write_file(folder / f"{folder.name.split('-')[0]}.toml", to_toml(fields).encode())


def _write_device(
    folder: Path, name: str, public: PublicFile, authority: Authority, where: Plan | dict[str, str]
) -> str:
    """Write a device's folder; return its public signing key in hex."""
    folder.mkdir(mode=0o700)
    _write_identity(folder, name, public, authority)
    key = Ed25519PrivateKey.generate()
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_file(folder / "signing.key", secret, secret=True)
    address = where.address if isinstance(where, Plan) else where.__getitem__
    fields = {
        "device": name,
        "public_key": "public.json",
        "signing_key": "signing.key",
        "threshold": 0.40,
        "matchers": {seat: address(f"matcher-{seat}") for seat in SEATS},
        "tls": _TLS,
    }
    write_file(folder / "device.toml", to_toml(fields).encode())
    return key.public_key().public_bytes_raw().hex()


def _write_identity(folder: Path, name: str, public: PublicFile, authority: Authority) -> None:
    certificate, key = authority.issue(name)
    write_file(folder / "public.json", public.encode())
    write_file(folder / "ca.pem", authority.certificate_pem())
    write_file(folder / "tls.pem", certificate)
    write_file(folder / "tls-key.pem", key, secret=True)


_TLS = {"authority": "ca.pem", "certificate": "tls.pem", "key": "tls-key.pem"}


def _common(name: str, plan: Plan) -> dict[str, Any]:
    return {
        "listen": plan.address(name), "data_dir": "data", "public_key": "public.json", "workers": plan.workers,
    }  # fmt: skip


def _matcher(seat: str, plan: Plan, devices: dict[str, str]) -> dict[str, Any]:
    other = "b" if seat == "a" else "a"
    return {
        "seat": seat,
        **_common(f"matcher-{seat}", plan),
        "peer": plan.address(f"matcher-{other}"),
        "galleries": ["main"],
        "key_holders": {party: plan.address(f"keyholder-{party}") for party in (seat, "c")},
        "devices": devices,
        "tls": _TLS,
    }


def _key_holder(party: str, plan: Plan, devices: dict[str, str]) -> dict[str, Any]:
    return {
        "party": party,
        **_common(f"keyholder-{party}", plan),
        "key_file": "share.key",
        "peers": {other: plan.address(f"keyholder-{other}") for other in PARTIES if other != party},
        "devices": devices,
        "tls": _TLS,
    }
