"""The folders of an installation of two matchers, as earlier versions made them, and what is taken over of each.

matcher-a/ -b/ keyholder-a/ -b/ -c/ device-1/ ... authority/ public.json
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from veilmatch.common.toml_file import read_toml
from veilmatch.crypto.encryption.public_key_format import FORMAT, OLD_FORMAT, PublicFile
from veilmatch.crypto.errors import ConfigurationError, KeyFileError
from veilmatch.crypto.keys.parties import PARTIES, Party
from veilmatch.server.installation.files import FOLDER_MODE, write_file
from veilmatch.server.installation.plan import DEVICES_DIR, REVOKED_DIR, TLS

MATCHERS: tuple[Party, ...] = ("a", "b")
DAEMONS = (*(f"matcher-{party}" for party in MATCHERS), *(f"keyholder-{party}" for party in PARTIES))
#: Of a data directory. Stock is used once, ever: no copy of it may be there beside the old one. Galleries are written
#: anew (history.py).
_LEFT_BEHIND = ("stock.db", "gallery.db", "lock")


@dataclass(frozen=True)
class Folder:
    """The folder of a daemon or a device: where it is, and its configuration as it is written there."""

    path: Path
    config: dict[str, Any]

    @staticmethod
    def read(path: Path, config: str) -> Folder:
        """Return the folder with this configuration file. Raises ConfigurationError if there is none."""
        return Folder(path, read_toml(path / config)[0])

    def file(self, field: str, usual: str) -> Path:
        """Return the file or folder that a field of the configuration names."""
        return (self.path / str(self.config.get(field, usual))).expanduser()

    @property
    def data_dir(self) -> Path:
        """Where the daemon keeps what it has."""
        return self.file("data_dir", "data")


def daemon_folders(directory: Path) -> dict[str, Folder]:
    """Return the folder of each daemon. Raises ConfigurationError if it is no such installation."""
    missing = [name for name in DAEMONS if not (directory / name).is_dir()]
    if missing:
        raise ConfigurationError(
            "not an installation of two matchers",
            got=str(directory),
            expected=f"folders {', '.join(missing)}",
            hint="Bring the folders of all five daemons, with their data, into one directory. Installations of "
            "three alike organisations (organisation-a/ and so on) need not be moved.",
        )
    return {name: Folder.read(directory / name, f"{name.split('-')[0]}.toml") for name in DAEMONS}


def device_folders(directory: Path) -> dict[str, Folder]:
    """Return the folder of each device that lies there."""
    return {path.parent.name: Folder.read(path.parent, path.name) for path in sorted(directory.glob("*/device.toml"))}


def with_signers(data: bytes, signers: tuple[bytes, ...]) -> PublicFile:
    """Return the public file of an installation of before, with what its organisations sign with.

    Raises KeyFileError if `data` is none.
    """
    try:
        fields: dict[str, Any] = json.loads(data)
        if fields["format"] != OLD_FORMAT:
            raise ValueError
        by_party = {party: key.hex() for party, key in zip(PARTIES, signers, strict=True)}
        moved = {"format": FORMAT} | {name: value for name, value in fields.items() if name != "format"}
        return PublicFile.decode((json.dumps(moved | {"signers": by_party}, indent=1) + "\n").encode())
    except (ValueError, TypeError, KeyError, AttributeError):
        raise KeyFileError("not the public file of an installation that can be moved", expected=OLD_FORMAT) from None


def copy_identity(folder: Folder, target: Path, public: PublicFile) -> None:
    """Write the public file, and copy TLS files and certificates of devices, under their usual names."""
    write_file(target / "public.json", public.encode())
    tls: Mapping[str, str] = folder.config.get("tls", TLS)
    for field, name in TLS.items():
        write_file(target / name, (folder.path / tls[field]).expanduser().read_bytes(), secret=field == "key")
    (target / REVOKED_DIR).mkdir(mode=FOLDER_MODE)
    devices = folder.file("devices_dir", DEVICES_DIR)
    if devices.is_dir():
        shutil.copytree(devices, target / DEVICES_DIR)


def copy_data(folder: Folder, target: Path) -> None:
    """Copy the data directory of a daemon, but for what must not be there twice."""
    (target / "data").mkdir(mode=FOLDER_MODE)
    if not folder.data_dir.is_dir():
        return
    for path in sorted(folder.data_dir.iterdir()):
        if path.name.startswith(_LEFT_BEHIND):
            continue
        if path.is_dir():
            shutil.copytree(path, target / "data" / path.name)
        else:
            shutil.copy2(path, target / "data" / path.name)
