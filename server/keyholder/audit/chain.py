"""The audit log's format: one line of canonical JSON an entry, each with the SHA-256 of itself and the one before.

    {"at":"2026-01-31T12:00:00.000Z","event":"session",...,"hash":"9f..","prev":"41..","seq":7}

`hash` is the digest of the entry without it, so it covers `prev`: whoever knows the last hash knows that nothing
before it was changed, left out or put in. There is one encoding: sorted names, no spaces, ASCII, a line feed at
the end. Files are named by the number of their first entry, which is an "open" entry with party and key id.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from veilmatch.crypto.digests import digest

#: `prev` of entry 0.
START = bytes(32).hex()
#: Longer lines are none: the longest entry has some 1,500 bytes.
MAX_LINE_BYTES = 1 << 16
_FILE_NAME = re.compile(r"audit-([0-9]{12})\.jsonl")
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry. number: from 0. fields: what was noted, `event` and `at` among it."""

    number: int
    prev: str
    hash: str
    fields: Mapping[str, Any]

    @property
    def event(self) -> str:
        """ "open", "session" or "refused"."""
        return str(self.fields.get("event"))


def encode(fields: Mapping[str, Any], number: int, prev: str) -> tuple[bytes, str]:
    """Return an entry's line and hash. fields: JSON values, without seq, prev and hash."""
    content = {**fields, "seq": number, "prev": prev}
    found = digest("audit entry", _canonical(content)).hex()
    return _canonical(content | {"hash": found}) + b"\n", found


def decode(line: bytes) -> Entry:
    """Return the entry of a line, with or without its line feed. Raises ValueError saying what is wrong with it."""
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        raise ValueError("not JSON") from None
    if not isinstance(content, dict):
        raise ValueError("not a JSON object")
    number, prev, stated = (content.pop(name, None) for name in ("seq", "prev", "hash"))
    if type(number) is not int or number < 0:
        raise ValueError("no entry number")
    if not all(isinstance(value, str) and _HASH.fullmatch(value) for value in (prev, stated)):
        raise ValueError("no hash, or none of the entry before")
    try:
        expected, found = encode(content, number, prev)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if found != stated:
        raise ValueError("the hash is not that of the entry: it was changed")
    if expected.rstrip(b"\n") != line.rstrip(b"\n"):
        raise ValueError("written in another way than entries are")
    return Entry(number, prev, found, content)


def file_name(first: int) -> str:
    """Return the name of the file that begins with this entry."""
    return f"audit-{first:012}.jsonl"


def first_number(path: Path) -> int | None:
    """Return the number of the first entry that the file's name states, None if it is not the name of a log file."""
    found = _FILE_NAME.fullmatch(path.name)
    return int(found[1]) if found else None


def files_in(folder: Path) -> list[Path]:
    """Return the log files of a folder in order. Raises OSError."""
    return sorted(path for path in folder.iterdir() if first_number(path) is not None)


def _canonical(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
