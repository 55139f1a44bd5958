"""backup.json: what a backup says of itself, and the hashes of all that is in it.

    manifest, digest = read(folder)

The digest of the file itself stands for the whole backup: whoever noted it when it was made can tell that every byte is
as it was then. Without it the hashes find damage, and no intent.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from veilmatch.crypto.errors import ConfigurationError, IntegrityError
from veilmatch.crypto.keys.parties import PARTIES, Party

FILE_NAME = "backup.json"
#: Of what this version writes. It reads this one and those before it.
FORMAT = 1
_MAX_BYTES = 1 << 26
Hex = Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{2})+$")]
_Party = Annotated[str, StringConstraints(pattern=r"^(keyholder|matcher)-[abc]$")]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FileEntry(_Entry):
    """One file of a backup, with its SHA-256."""

    name: str
    bytes: int = Field(ge=0)
    sha256: Hex


class GalleryEntry(_Entry):
    """A gallery in gallery.db: its last change and the value of the hash chain there."""

    name: str
    sequence: int = Field(ge=0)
    chain: Hex


class AuditEntry(_Entry):
    """The audit log, as far as it was taken."""

    entries: int = Field(ge=0)
    head: str


class Manifest(_Entry):
    """What backup.json says. epoch, audit: of a key holder. left_out: what is not here on purpose, and why."""

    format: int = Field(ge=1)
    version: str
    party: _Party
    installation: Hex
    key_id: Hex
    parameters: str
    made_at: AwareDatetime
    epoch: int | None = None
    galleries: list[GalleryEntry] = []
    audit: AuditEntry | None = None
    files: list[FileEntry]
    left_out: dict[str, str] = {}

    def encode(self) -> bytes:
        """Return the content of the file."""
        return self.model_dump_json(indent=2).encode() + b"\n"

    @property
    def letter(self) -> Party:
        """Of the organisation."""
        return next(party for party in PARTIES if party == self.party[-1])

    @property
    def names(self) -> set[str]:
        """The names of all files beside it."""
        return {file.name for file in self.files}


def read(folder: Path) -> tuple[Manifest, str]:
    """Return what a backup says of itself, and the digest of that in hex.

    Raises ConfigurationError if it is no backup, IntegrityError if it is damaged or newer than this program.
    """
    path = folder / FILE_NAME
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(
            "not a backup", got=f"{path}: {error.strerror}", expected="a folder that `veilmatch backup make` made"
        ) from None
    return decode(data), hashlib.sha256(data).hexdigest()


def decode(data: bytes) -> Manifest:
    """Return a manifest. Raises IntegrityError."""
    try:
        content = json.loads(data)
        stated = content["format"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise IntegrityError(f"{FILE_NAME} is damaged", expected="JSON that states a format") from None
    if isinstance(stated, int) and stated > FORMAT:
        raise IntegrityError(
            "the backup is newer than this program",
            got=f"format {stated}", expected=f"format {FORMAT} at most",
            hint="Use the version of Veilmatch that made it, or a later one.",
        )  # fmt: skip
    try:
        return Manifest.model_validate_json(data)
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        raise IntegrityError(f"{FILE_NAME} is damaged", got=f"an unusable {where}") from None


def entries_of(folder: Path) -> list[FileEntry]:
    """Return the hashes of every file in a folder, sorted by name. Raises OSError."""
    return [measured(folder, name) for name in sorted(files_in(folder))]


def measured(folder: Path, name: str) -> FileEntry:
    """Return size and SHA-256 of a file. Raises OSError."""
    with (folder / name).open("rb") as file:
        found = hashlib.file_digest(file, "sha256")
        return FileEntry(name=name, bytes=file.tell(), sha256=found.hexdigest())


def files_in(folder: Path) -> Iterator[str]:
    """Yield the name of everything in a folder that is no folder, links and all, but that of the manifest."""
    for path in folder.rglob("*"):
        if path.is_symlink() or not path.is_dir():
            name = path.relative_to(folder).as_posix()
            if name != FILE_NAME:
                yield name


def stamp(at: datetime) -> str:
    """Return a time for the name of a folder, 20260131T120000Z."""
    return f"{at:%Y%m%dT%H%M%SZ}"
