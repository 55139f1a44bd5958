"""Writes a gallery.db of version 4 from what is in it: the tables as that version made them (version_4.sql)."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from veilmatch.crypto.gallery_change import next_chain
from veilmatch.crypto.parameters import ParameterSet
from veilmatch.server.matcher.gallery.mutation import initial_chain

_TABLES = Path(__file__).with_name("version_4.sql")


@dataclass(frozen=True)
class Old:
    """A change of version 4: its entry in the log. Of what it added only what is still there: (pack, slot, ...)."""

    kind: str
    token: bytes
    result: str
    model: str
    device: str
    #: (pack, slot, subject, record, by_device)
    templates: Sequence[tuple[int, int, str, bytes, bool]] = ()
    retired: Sequence[tuple[int, int]] = ()
    request_digest: bytes = hashlib.sha256(b"request").digest()


def write_version_4(
    data_dir: Path,
    key_id: bytes,
    parameters: ParameterSet,
    galleries: Mapping[str, tuple[Sequence[Old], Sequence[bytes]]],
    *,
    pending: bool = False,
) -> None:
    """Make the database. galleries: changes in order, content of each pack. pending: the last is not settled."""
    data_dir.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(data_dir / "gallery.db")) as database, database:
        database.executescript(_TABLES.read_text())
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("INSERT INTO identity VALUES (1, ?, ?)", (key_id, parameters.name))
        for number, (name, (changes, packs)) in enumerate(galleries.items(), start=1):
            chains = [initial_chain(name, key_id, parameters)]
            for sequence, change in enumerate(changes, start=1):
                digest = hashlib.sha256(change.token + b"digest").digest()
                chains.append(next_chain(chains[-1], sequence, digest))
                row = number, sequence, change.kind, change.token, change.request_digest, digest, change.result
                database.execute(
                    "INSERT INTO log VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, x'')", (*row, change.model, change.device)
                )
                for pack, slot, subject, record, by_device in change.templates:
                    database.execute(
                        "INSERT INTO templates (gallery_id, pack, slot, subject, by_device, added_in, content_id)"
                        " VALUES (?, ?, ?, ?, ?, ?, ?)",
                        (number, pack, slot, subject, by_device, sequence, _content(database, record)),
                    )
                for pack, slot in change.retired:
                    row4 = number, pack, slot, sequence
                    database.execute("INSERT INTO retired (gallery_id, pack, slot, added_in) VALUES (?, ?, ?, ?)", row4)
            for pack, content in enumerate(packs):
                database.execute(
                    "INSERT INTO packs (gallery_id, pack, added_in, content_id) VALUES (?, ?, 1, ?)",
                    (number, pack, _content(database, content)),
                )
            done = len(changes) - pending
            row5 = number, name, done, chains[done], chains[-1] if pending else None
            database.execute("INSERT INTO galleries VALUES (?, ?, ?, ?, ?)", row5)


def _content(database: sqlite3.Connection, body: bytes) -> int | None:
    row = hashlib.sha256(body).digest(), body
    return database.execute("INSERT INTO contents (checksum, body) VALUES (?, ?)", row).lastrowid
