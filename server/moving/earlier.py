"""A gallery.db of version 4, read as it lies: two matchers held it, and no organisation had signed its changes.

Nothing is written. What is read is checked: chain, checksums and sizes, as the matcher of that version did when it
started.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from veilmatch.crypto.errors import GalleryMismatchError, IntegrityError, KeyMismatchError, StorageError
from veilmatch.crypto.gallery_change import next_chain
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.server.matcher.gallery.body import Added, pack_leaf, template_leaf
from veilmatch.server.matcher.gallery.changes import Content
from veilmatch.server.matcher.gallery.disk.backends.sqlite import APPLICATION_ID, UNCERTIFIED_VERSION
from veilmatch.server.matcher.gallery.disk.checks import pack_bytes, record_bytes
from veilmatch.server.matcher.gallery.mutation import initial_chain


@dataclass(frozen=True)
class Entry:
    """A change that added templates which are still there: what a retry of it is answered with."""

    kind: str
    token: bytes
    request_digest: bytes
    result: str
    model: str
    device: str
    added: tuple[Added, ...]


@dataclass(frozen=True)
class Earlier:
    """What is in one gallery; everything ascends.

    sequence, chain: of its last change. packs: leaf of each. retired: slots that are not used again. entries: in the
    order of the changes.
    """

    name: str
    sequence: int
    chain: bytes
    packs: tuple[bytes, ...]
    retired: tuple[tuple[int, int], ...]
    entries: tuple[Entry, ...]


class EarlierDatabase:
    """gallery.db in `data_dir`; use `opened`."""

    def __init__(self, connection: sqlite3.Connection, key_id: bytes, parameters: ParameterSet) -> None:
        self._connection = connection
        self._key_id = key_id
        self._parameters = parameters
        self._contents: dict[bytes, tuple[int, str]] = {}

    def galleries(self) -> list[str]:
        """Return the names of all galleries, sorted."""
        return [name for (name,) in self._connection.execute("SELECT name FROM galleries ORDER BY name")]

    def read(self, name: str) -> Earlier:
        """Return what is in a gallery, and know its contents from now on.

        Raises GalleryMismatchError if a change is pending: the matchers have to settle it first. Raises IntegrityError
        if something is damaged.
        """
        row = self._connection.execute(
            "SELECT id, sequence, chain, pending_chain FROM galleries WHERE name = ?", (name,)
        ).fetchone()
        number, sequence, chain, pending = row
        if pending is not None:
            raise GalleryMismatchError(
                "a change of the gallery is not settled",
                got=f"{name}: pending",
                hint="Start the daemons of the earlier version once more, ask anything, and stop them again.",
            )
        self._check_chain(name, number, sequence, chain)
        packs = tuple(self._packs(name, number, sequence))
        retired = self._connection.execute(
            "SELECT pack, slot FROM retired WHERE gallery_id = ? AND added_in <= ? ORDER BY pack, slot",
            (number, sequence),
        ).fetchall()
        return Earlier(
            name, sequence, bytes(chain), packs, tuple((pack, slot) for pack, slot in retired),
            tuple(self._entries(name, number, sequence)),
        )  # fmt: skip

    def get(self, leaf: bytes, /) -> Content | None:
        """Return the content with this leaf, of the galleries that were read; see `changes.Contents`."""
        found = self._contents.get(leaf)
        if found is None:
            return None
        number, subject = found
        (data,) = self._connection.execute("SELECT body FROM contents WHERE id = ?", (number,)).fetchone()
        return Content(subject, bytes(data))

    def _check_chain(self, name: str, number: int, sequence: int, chain: bytes) -> None:
        expected = initial_chain(name, self._key_id, self._parameters)
        rows = self._connection.execute(
            "SELECT sequence, digest FROM log WHERE gallery_id = ? AND sequence <= ? ORDER BY sequence",
            (number, sequence),
        )
        at = 0
        for at, (found, digest) in enumerate(rows, start=1):
            if found != at:
                raise IntegrityError("a change is missing in the log of the gallery", got=found, expected=at)
            expected = next_chain(expected, at, bytes(digest))
        if at != sequence or expected != bytes(chain):
            raise IntegrityError("the log of the gallery does not lead to its chain value", got=name)

    def _packs(self, name: str, number: int, sequence: int) -> Iterator[bytes]:
        rows = self._connection.execute(
            "SELECT p.pack, c.id, c.body, c.checksum FROM packs p JOIN contents c ON c.id = p.content_id"
            " WHERE p.gallery_id = ? AND p.added_in <= ? ORDER BY p.pack",
            (number, sequence),
        )
        for expected, (pack, content, data, checksum) in enumerate(rows):
            if pack != expected:
                raise IntegrityError("a pack is missing", got=f"{name}: {pack}", expected=expected)
            _require_intact(data, checksum, pack_bytes(self._parameters), f"pack {pack} of {name}")
            leaf = pack_leaf(data)
            self._contents[leaf] = content, ""
            yield leaf

    def _entries(self, name: str, number: int, sequence: int) -> Iterator[Entry]:
        templates: dict[int, list[Added]] = {}
        rows = self._connection.execute(
            "SELECT t.added_in, t.pack, t.slot, t.subject, t.by_device, c.id, c.body, c.checksum"
            " FROM templates t JOIN contents c ON c.id = t.content_id"
            " WHERE t.gallery_id = ? AND t.added_in <= ? ORDER BY t.added_in, t.pack, t.slot",
            (number, sequence),
        )
        for added_in, pack, slot, subject, by_device, content, data, checksum in rows:
            _require_intact(data, checksum, record_bytes(self._parameters), f"record of pack {pack}, slot {slot}")
            leaf = template_leaf(subject, data)
            self._contents[leaf] = content, subject
            templates.setdefault(added_in, []).append(Added(pack, slot, leaf, bool(by_device)))
        for added_in, added in templates.items():
            kind, token, request_digest, result, model, device = self._connection.execute(
                "SELECT kind, token, request_digest, result, model, device FROM log"
                " WHERE gallery_id = ? AND sequence = ?",
                (number, added_in),
            ).fetchone()
            yield Entry(kind, bytes(token), bytes(request_digest), result, model, device, tuple(added))


@contextmanager
def opened(data_dir: Path, key_id: bytes, parameters: ParameterSet) -> Iterator[EarlierDatabase]:
    """Open the gallery.db of a matcher that has been stopped.

    Raises StorageError if there is none or it cannot be read, IntegrityError if it is not of version 4,
    KeyMismatchError if it belongs to another key or parameter set.
    """
    path = data_dir / "gallery.db"
    try:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
    except sqlite3.Error as error:
        raise StorageError("the gallery's database cannot be opened", got=f"{path}: {error}") from None
    try:
        application, version = (
            connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
        )
        if (application, version) != (APPLICATION_ID, UNCERTIFIED_VERSION):
            raise IntegrityError(
                "not a gallery's database that can be moved",
                got=f"{path}: version {version}",
                expected=f"version {UNCERTIFIED_VERSION}, and no rotation that is not complete",
                hint="A database of an earlier version is brought to this one by the matcher of that version.",
            )
        found_key, found_set = connection.execute("SELECT key_id, parameter_set FROM identity").fetchone()
        if (bytes(found_key), found_set) != (key_id, parameters.name):
            raise KeyMismatchError(
                "the gallery's database belongs to another key", got=bytes(found_key).hex(), expected=key_id.hex()
            )
        yield EarlierDatabase(connection, key_id, parameters)
    except sqlite3.DatabaseError as error:
        raise IntegrityError("the gallery's database cannot be read", got=f"{path}: {error}") from None
    finally:
        connection.close()


def _require_intact(data: bytes, checksum: bytes, size: int, what: str) -> None:
    if len(data) != size or hashlib.sha256(data).digest() != bytes(checksum):
        raise IntegrityError(
            "a part of the gallery is damaged", got=what, hint="Run `veilmatch check` at both matchers."
        )
