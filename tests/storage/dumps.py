"""Databases as SQL: what tests/vectors/storage has of each format, written and read again.

`python -m tests.storage.dumps FOLDER` writes those of the code that it runs with. A format that was released is never
written again: what its files say is what installations have.
"""

from __future__ import annotations

import sqlite3
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from tests.storage import filled
from veilmatch.server.matcher.follow.staging_file import FOLDER

VECTORS = Path(__file__).parents[1] / "vectors" / "storage"
#: What has a database, and its file in a data directory.
FILES = {
    "gallery": "gallery.db",
    "rotating": "gallery.db",
    "ledger": "ledger.db",
    "stock": "stock.db",
    "pace": "pace.db",
    "refresh": "refresh.db",
    "staging": f"{FOLDER}/*.db",
}
#: Not among a dump's statements.
_HEAD = ("application_id", "user_version")


def dump(path: Path) -> str:
    """Return a database as statements that make it again."""
    with closing(sqlite3.connect(path)) as connection:
        head = [f"PRAGMA {name} = {connection.execute(f'PRAGMA {name}').fetchone()[0]};" for name in _HEAD]
        return "\n".join([f"-- {path.name}", *head, *connection.iterdump(), ""])


def restore(name: str, folder: Path) -> Path:
    """Make the database of this name in a data directory, as its daemon left it; return its file."""
    text = (VECTORS / f"{name}.sql").read_text()
    path = folder / text.splitlines()[0].removeprefix("-- ")
    if "*" in FILES[name]:
        path = folder / FOLDER / path.name
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(text)
    path.chmod(0o600)
    return path


def main(folder: Path) -> None:
    for name, file in FILES.items():
        with tempfile.TemporaryDirectory() as data_dir:
            getattr(filled, f"fill_{name}")(Path(data_dir))
            (path,) = Path(data_dir).glob(file)
            (folder / f"{name}.sql").write_text(dump(path))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
