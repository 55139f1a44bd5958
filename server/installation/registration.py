"""The configurations that are in an installation directory: which devices they know, and making them know one more."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from veilmatch.crypto.errors import ConfigurationError
from veilmatch.crypto.keys import SEATS
from veilmatch.server.installation.files import rewrite_file
from veilmatch.server.installation.plan import PORTS
from veilmatch.server.installation.toml import with_entry


@dataclass(frozen=True)
class _File:
    path: Path
    text: str
    fields: dict[str, Any]

    @staticmethod
    def read(path: Path) -> _File:
        try:
            text = path.read_bytes().decode()
            return _File(path, text, tomllib.loads(text))
        except OSError as error:
            raise ConfigurationError("a configuration cannot be read", got=f"{path}: {error.strerror}") from None
        except (ValueError, RecursionError) as error:
            raise ConfigurationError("a configuration is not TOML", got=f"{path}: {error}") from None

    def table(self, name: str) -> dict[str, Any]:
        """Return a table, empty if there is none. Raises ConfigurationError if it is something else."""
        table = self.fields.get(name, {})
        if not isinstance(table, dict):
            raise ConfigurationError(f"{self.path}: {name}: not a table")
        return table


@dataclass(frozen=True)
class Configurations:
    """The TOML files of the daemons and devices whose folders are here: some may have gone to their machines."""

    daemons: tuple[_File, ...]
    devices: tuple[_File, ...]

    @staticmethod
    def read(directory: Path) -> Configurations:
        """Read them. Raises ConfigurationError if one cannot be read."""
        candidates = [directory / name / f"{name.split('-')[0]}.toml" for name in PORTS]
        daemons = tuple(_File.read(path) for path in candidates if path.exists())
        return Configurations(daemons, tuple(_File.read(path) for path in sorted(directory.glob("*/device.toml"))))

    def knows(self, device: str) -> bool:
        """Whether a daemon knows a device of this name."""
        return any(device in file.table("devices") for file in self.daemons)

    def matcher_addresses(self) -> dict[str, str]:
        """Return where devices reach the matchers, by seat: as other devices do, else as the matchers' files say.

        Raises ConfigurationError if the files that are here do not say it.
        """
        found: dict[str, Any] = {}
        for file in self.devices:
            found = file.table("matchers") | found
        matchers = {seat: file for file in self.daemons for seat in SEATS if file.fields.get("seat") == seat}
        # What the peer calls an address before what the matcher itself listens on, which may be 0.0.0.0.
        for field, own in (("peer", False), ("listen", True)):
            for seat in SEATS:
                teller = next((file for s, file in matchers.items() if (s == seat) is own), None)
                if teller is not None and field in teller.fields:
                    found.setdefault(seat, teller.fields[field])
        if set(found) != set(SEATS) or not all(isinstance(address, str) for address in found.values()):
            raise ConfigurationError("no file here says where the matchers are", expected="a device's or a matcher's")
        return found

    @contextmanager
    def register(self, device: str, public_key_hex: str) -> Iterator[None]:
        """Make all daemons know a device; if the body then fails, none of them does.

        Raises ConfigurationError if a file cannot be written.
        """
        try:
            edited = [(file.path, with_entry(file.text, "devices", device, public_key_hex)) for file in self.daemons]
        except (ValueError, TypeError):
            raise ConfigurationError("a configuration holds what none can hold", expected="text, numbers") from None
        try:
            try:
                for path, text in edited:
                    rewrite_file(path, text.encode())
            except OSError as error:
                raise ConfigurationError("a configuration cannot be written", got=f"{path}: {error.strerror}") from None
            yield
        except BaseException:
            for file in self.daemons:
                with suppress(OSError):
                    rewrite_file(file.path, file.text.encode())
            raise
