"""One party's folder: everything that party needs, so that it can be copied to its machine as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from veilmatch.common.public_file import read_public_file
from veilmatch.crypto.encryption.public_key_format import PublicFile
from veilmatch.crypto.errors import ConfigurationError
from veilmatch.crypto.keys.device_certificate import DeviceCertificate
from veilmatch.server.admission.devices import certificate_path
from veilmatch.server.installation.authority import Authority
from veilmatch.server.installation.files import FOLDER_MODE, sync_folder, write_file
from veilmatch.server.installation.lowest import device_threshold
from veilmatch.server.installation.plan import AUTHORITY, DAEMON_TLS, DEVICES_DIR, REVOKED_DIR, TLS, device_fields
from veilmatch.server.installation.stretching import ScryptCost, cost_for
from veilmatch.server.installation.tls.folder import AuthorityFolder
from veilmatch.server.installation.toml import to_toml

SIGNING_KEY = "signing.key"


@dataclass(frozen=True)
class Issuer:
    """What goes into every folder: the public file, and certificates of the authority, whose folder is `home`."""

    public: PublicFile
    authority: Authority
    home: AuthorityFolder

    @staticmethod
    def open(directory: Path, passphrase: str, cost: ScryptCost | None = None) -> Issuer:
        """Return that of an installation on disk. cost: of its passphrase, if it is not the usual one.

        Raises ConfigurationError if it is none with its authority; WrongPassphraseError or KeyFileError if its
        authority cannot be opened.
        """
        home = AuthorityFolder(directory / AUTHORITY)
        if not home.path.is_dir():
            raise ConfigurationError("not an installation with its authority", got=str(directory))
        public = read_public_file(directory / "public.json")
        cost = cost or cost_for(public.public_key.parameters)
        return Issuer(public, home.open(passphrase, cost), home)

    def write_daemon(
        self, folder: Path, name: str, fields: Mapping[str, Any], devices: Sequence[DeviceCertificate]
    ) -> None:
        """Make the folder of the daemon of this name; its sealed keys are written by `layout`."""
        folder.mkdir(mode=FOLDER_MODE)
        for inner in ("data", DEVICES_DIR, REVOKED_DIR):
            (folder / inner).mkdir(mode=FOLDER_MODE)
        for certificate in devices:
            write_file(certificate_path(folder / DEVICES_DIR, certificate.statement.device), certificate.encode())
        self._write_identity(folder, name, is_server=True)
        write_file(folder / f"{name.split('-')[0]}.toml", to_toml(fields).encode())
        sync_folder(folder.parent)

    def write_device(
        self,
        folder: Path,
        signing_key: Ed25519PrivateKey,
        matchers: Mapping[str, str],
        certificate: DeviceCertificate,
    ) -> None:
        """Make the folder of a device. matchers: address by letter. certificate: signed or still to be signed."""
        name = certificate.statement.device
        folder.mkdir(mode=FOLDER_MODE)
        self._write_identity(folder, name, is_server=False)
        write_signing_key(folder / SIGNING_KEY, signing_key)
        own = certificate_path(folder, name)
        write_file(own, certificate.encode())
        threshold = device_threshold(certificate.statement.lowest, self.public.public_key.parameters)
        write_file(folder / "device.toml", to_toml(device_fields(name, matchers, own.name, threshold)).encode())
        sync_folder(folder.parent)

    def _write_identity(self, folder: Path, name: str, *, is_server: bool) -> None:
        certificate, key = self.home.issue(self.authority, name, is_server=is_server)
        write_file(folder / "public.json", self.public.encode())
        write_file(folder / TLS["authority"], self.home.bundle())
        write_file(folder / TLS["certificate"], certificate)
        write_file(folder / TLS["key"], key, secret=True)
        if is_server:
            write_file(folder / DAEMON_TLS["crl"], self.home.revocation_lists())


def write_signing_key(path: Path, key: Ed25519PrivateKey) -> None:
    """Write the signing key of a device: PEM, unencrypted, mode 0600."""
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_file(path, secret, secret=True)
