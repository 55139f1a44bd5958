"""The daemons whose folders are at hand, and the devices that they have certificates of.

At the ceremony's machine that is a whole installation, at an organisation the folders of its own daemons.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from veilmatch.common.public_file import read_public_file
from veilmatch.common.toml_file import read_toml
from veilmatch.crypto.encryption.public_key_format import PublicFile
from veilmatch.crypto.errors import ConfigurationError
from veilmatch.crypto.keys.device_certificate import DeviceCertificate
from veilmatch.crypto.keys.parties import PARTIES
from veilmatch.server.admission.certification import certified_statement
from veilmatch.server.admission.devices import certificate_path
from veilmatch.server.installation.files import sync_folder, write_file
from veilmatch.server.installation.plan import DEVICES_DIR, PORTS, REVOKED_DIR, TLS, config_of

_DAEMON_FILES = ("keyholder.toml", "matcher.toml")


@dataclass(frozen=True)
class _File:
    path: Path
    fields: dict[str, Any]

    @staticmethod
    def read(path: Path) -> _File:
        return _File(path, read_toml(path)[0])

    def table(self, name: str) -> dict[str, Any]:
        """Return a table, empty if there is none. Raises ConfigurationError if it is something else."""
        table = self.fields.get(name, {})
        if not isinstance(table, dict):
            raise ConfigurationError(f"{self.path}: {name}: not a table")
        return table

    def located(self, name: str, default: str) -> Path:
        """Return a path of the file. Raises ConfigurationError if it is something else."""
        value = self.fields.get(name, default)
        if not isinstance(value, str) or "\0" in value:
            raise ConfigurationError(f"{self.path}: {name}: not a path")
        return self.path.absolute().parent / value


@dataclass(frozen=True)
class DaemonFolder:
    """A daemon whose folder is at hand. devices, revoked: where its certificates of devices and revocations are."""

    name: str
    devices: Path
    revoked: Path
    public_file: Path

    def public(self) -> PublicFile:
        """Return the daemon's own copy of the public file. Raises ConfigurationError or KeyFileError."""
        return read_public_file(self.public_file)


@dataclass(frozen=True)
class TlsPlace:
    """Where a party whose folder is at hand has its TLS files. crl: None if it has no revocation list."""

    name: str
    authority: Path
    certificate: Path
    key: Path
    crl: Path | None


@dataclass(frozen=True)
class Configurations:
    """The TOML files of the daemons and devices whose folders are here: some may have gone to their machines."""

    daemon_files: tuple[_File, ...]
    device_files: tuple[_File, ...] = ()

    @staticmethod
    def read(directory: Path) -> Configurations:
        """Read those of an installation. Raises ConfigurationError if one cannot be read."""
        candidates = [config_of(directory, name) for name in PORTS]
        daemons = tuple(_File.read(path) for path in candidates if path.exists())
        return Configurations(daemons, tuple(_File.read(path) for path in sorted(directory.glob("*/device.toml"))))

    @staticmethod
    def of_daemons(folders: Sequence[Path]) -> Configurations:
        """Read those of single daemons. Raises ConfigurationError if a folder is not one of a daemon."""
        found = []
        for folder in folders:
            files = [folder / name for name in _DAEMON_FILES if (folder / name).exists()]
            if len(files) != 1:
                raise ConfigurationError(
                    "not the folder of a daemon",
                    got=str(folder),
                    expected="keyholder.toml or matcher.toml in it, and not both",
                )
            found.append(_File.read(files[0]))
        return Configurations(tuple(found))

    @property
    def daemons(self) -> tuple[DaemonFolder, ...]:
        """The daemons. Raises ConfigurationError if a file holds no paths where it should."""
        places = (("devices_dir", DEVICES_DIR), ("revoked_dir", REVOKED_DIR), ("public_key", "public.json"))
        return tuple(
            DaemonFolder(_name(file), *(file.located(*place) for place in places)) for file in self.daemon_files
        )

    @property
    def tls(self) -> tuple[TlsPlace, ...]:
        """Where daemons and devices have their TLS files. Raises ConfigurationError if a file does not say it."""
        return tuple(_tls_place(file) for file in (*self.daemon_files, *self.device_files))

    def knows(self, device: str) -> bool:
        """Whether a daemon has a certificate of a device of this name."""
        return any(certificate_path(daemon.devices, device).exists() for daemon in self.daemons)

    def matcher_addresses(self) -> dict[str, str]:
        """Return where devices reach the matchers, by letter: as other devices do, else as the matchers' files say.

        Raises ConfigurationError if the files that are here do not say it.
        """
        found: dict[str, Any] = {}
        for file in self.device_files:
            found = file.table("matchers") | found
        matchers = [file for file in self.daemon_files if file.path.name == "matcher.toml"]
        # What peers call an address before what the matcher itself listens on, which may be 0.0.0.0.
        for file in matchers:
            found = file.table("peers") | found
        for file in matchers:
            if (party := file.fields.get("party")) in PARTIES and "listen" in file.fields:
                found.setdefault(str(party), file.fields["listen"])
        if len(found) < 2 or not set(found) <= set(PARTIES) or not all(isinstance(x, str) for x in found.values()):
            raise ConfigurationError("no file here says where the matchers are", expected="a device's or a matcher's")
        return {party: found[party] for party in PARTIES if party in found}

    @contextmanager
    def register(self, certificate: DeviceCertificate) -> Iterator[tuple[str, ...]]:
        """Give all daemons a device's certificate, in place of an older one; if the body fails, none of them.

        Gives their names. Raises DeviceCertificateError if one of them would refuse it, ConfigurationError if a file
        cannot be written.
        """
        daemons = self.daemons
        for daemon in daemons:
            certified_statement(certificate, daemon.public())
        paths = [certificate_path(daemon.devices, certificate.statement.device) for daemon in daemons]
        before = {path: path.read_bytes() if path.exists() else None for path in paths}
        try:
            try:
                for path in paths:
                    write_file(path, certificate.encode())
            except OSError as error:
                raise ConfigurationError("a certificate cannot be written", got=f"{path}: {error.strerror}") from None
            yield tuple(daemon.name for daemon in daemons)
        except BaseException:
            for path, data in before.items():
                with suppress(OSError):
                    path.unlink(missing_ok=True) if data is None else write_file(path, data)
            raise

    def remove(self, device: str) -> tuple[str, ...]:
        """Take a device's certificate from all daemons and return the names of those that had one.

        Raises ConfigurationError if a file cannot be removed; daemons before it have lost theirs then.
        """
        found = []
        for daemon in self.daemons:
            path = certificate_path(daemon.devices, device)
            try:
                path.unlink()
                sync_folder(path.parent)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise ConfigurationError("a certificate cannot be removed", got=f"{path}: {error.strerror}") from None
            found.append(daemon.name)
        return tuple(found)


def _tls_place(file: _File) -> TlsPlace:
    table = _File(file.path, file.table("tls"))
    crl = table.located("crl", "") if "crl" in table.fields else None
    own = {field: table.located(field, name) for field, name in TLS.items()}
    return TlsPlace(_name(file), own["authority"], own["certificate"], own["key"], crl)


def _name(file: _File) -> str:
    """Return the name of a daemon or device from its file, or of its folder where that does not say it."""
    kind = file.path.name.removesuffix(".toml")
    if isinstance(device := file.fields.get("device"), str):
        return device
    if isinstance(party := file.fields.get("party"), str):
        return f"{kind}-{party}"
    return file.path.absolute().parent.name
