"""A folder of photos, each of the person that it is named after: what is enrolled of it, and what is left out and why.

    people/ada.jpg            one photo of ada
    people/bob/1.heic         one of several photos of bob

A file is a photo if it is named like one or begins like one. Files that systems put beside photos are passed over:
hidden ones (a name that begins with a dot) and IGNORED. Everything else that cannot be enrolled is told, because
whoever is left out unnoticed is refused at a door later.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from veilmatch.client.capture.formats import HEAD_BYTES, format_of
from veilmatch.client.capture.source import RIGHT_PATH
from veilmatch.client.given.arguments import checked_name
from veilmatch.client.given.quoting import quoted_path
from veilmatch.crypto.errors import InvalidInputError

#: Names in lower case of what systems leave in folders of photos.
IGNORED = {"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx"}

_SUFFIXES = {
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".heic", ".heif", ".hif"),
}
_NO_FILE = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFBLK: "a device",
    stat.S_IFCHR: "a device",
}


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Something in a folder that cannot be enrolled. path: from the folder on."""

    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


@dataclass(frozen=True, slots=True)
class PhotoFolder:
    """(subject, photo) of every photo in a folder, in order of names, and what else is in it."""

    photos: tuple[tuple[str, Path], ...]
    left_out: tuple[LeftOut, ...]


def read_folder(folder: Path) -> PhotoFolder:
    """Return what a folder of photos holds; no photo is decoded.

    Raises InvalidInputError if there is no such folder, it may not be read, or no photo is in it.
    """
    if not os.path.isdir(folder):  # noqa: PTH112 - that of pathlib raises if the name is too long
        raise InvalidInputError("there is no such folder", got=quoted_path(str(folder)), hint=RIGHT_PATH)
    photos: list[tuple[str, Path]] = []
    left_out: list[LeftOut] = []
    try:
        entries = _entries(folder)
    except OSError as error:
        raise InvalidInputError(
            "the folder cannot be read", got=f"{quoted_path(str(folder))}: {error.strerror}", hint=RIGHT_PATH
        ) from None
    for entry in entries:
        for subject, path, reason in _of_subject(entry):
            if reason is None:
                photos.append((subject, path))
            else:
                left_out.append(LeftOut(_shown(path.relative_to(folder)), reason))
    if not photos:
        raise InvalidInputError(
            "there is no photo in the folder",
            got=quoted_path(str(folder)),
            expected="NAME.jpg or NAME/*.jpg",
            hint="Is the path right? Photos, or folders of photos, are named after their subjects.",
        )
    return PhotoFolder(tuple(photos), tuple(left_out))


def _of_subject(entry: Path) -> Iterator[tuple[str, Path, str | None]]:
    """Yield (subject, path, why it is left out or None) for what belongs to one subject."""
    is_folder = entry.is_dir()
    try:
        subject = checked_name(entry.name if is_folder else entry.stem)
    except InvalidInputError as error:
        no_photo = None if is_folder else _why_no_photo(entry)
        yield "", entry, no_photo or f"no name of a subject: {error}"
        return
    if not is_folder:
        yield subject, entry, _why_no_photo(entry)
        return
    try:
        inside = _entries(entry)
    except OSError as error:
        yield subject, entry, f"a folder that cannot be read: {error.strerror}"
        return
    for path in inside:
        yield subject, path, "a folder in the folder of a subject" if path.is_dir() else _why_no_photo(path)
    if not inside:
        yield subject, entry, "a folder without photos"


def _shown(path: Path) -> str:
    """Return a path that can be printed: names of files may hold control characters, and bytes that are no text."""
    return "".join(c if c.isprintable() else "?" for c in str(path))


def _entries(folder: Path) -> list[Path]:
    entries = sorted(folder.iterdir(), key=lambda path: path.name)
    return [path for path in entries if not path.name.startswith(".") and path.name.lower() not in IGNORED]


def _why_no_photo(path: Path) -> str | None:
    """Return why a path is no photo, None if it is one: by its name, or else by what it begins with."""
    try:
        kind = stat.S_IFMT(path.stat().st_mode)
        if kind != stat.S_IFREG:
            return _NO_FILE.get(kind, "not a file")
        if path.suffix.lower() in _SUFFIXES:
            return None
        with path.open("rb") as file:
            return None if format_of(file.read(HEAD_BYTES)) else "not a photo"
    except OSError as error:
        return "a link that leads nowhere" if path.is_symlink() else f"cannot be read: {error.strerror}"
