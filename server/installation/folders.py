"""One party's folder: everything that party needs, so that it can be copied to its machine as it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from veilmatch.crypto.public_key_format import PublicFile
from veilmatch.server.installation.authority import Authority
from veilmatch.server.installation.files import FOLDER_MODE, sync_folder, write_file
from veilmatch.server.installation.plan import device_fields
from veilmatch.server.installation.toml import to_toml


@dataclass(frozen=True)
class Issuer:
    """What goes into every folder: the public file, and certificates of the authority."""

    public: PublicFile
    authority: Authority

    def write_daemon(self, folder: Path, fields: Mapping[str, Any]) -> None:
        """Make the folder of a daemon, which has the daemon's name; its sealed key is written by `sealed.seal`."""
        folder.mkdir(mode=FOLDER_MODE)
        (folder / "data").mkdir(mode=FOLDER_MODE)
        self._write_identity(folder, folder.name, is_server=True)
        write_file(folder / f"{folder.name.split('-')[0]}.toml", to_toml(fields).encode())
        sync_folder(folder.parent)

    def write_device(
        self, folder: Path, name: str, signing_key: Ed25519PrivateKey, matchers: Mapping[str, str]
    ) -> None:
        """Make the folder of a device. matchers: address by seat."""
        folder.mkdir(mode=FOLDER_MODE)
        self._write_identity(folder, name, is_server=False)
        secret = signing_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        write_file(folder / "signing.key", secret, secret=True)
        write_file(folder / "device.toml", to_toml(device_fields(name, matchers)).encode())
        sync_folder(folder.parent)

    def _write_identity(self, folder: Path, name: str, *, is_server: bool) -> None:
        certificate, key = self.authority.issue(name, is_server=is_server)
        write_file(folder / "public.json", self.public.encode())
        write_file(folder / "ca.pem", self.authority.certificate_pem())
        write_file(folder / "tls.pem", certificate)
        write_file(folder / "tls-key.pem", key, secret=True)
