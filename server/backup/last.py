"""When the last backup of a party was made: noted in its data directory, and told by the metrics of its daemon."""

from __future__ import annotations

import datetime
from pathlib import Path

from veilmatch.server.installation.files import write_file

FILE_NAME = "last-backup"


def note_backup(data_dir: Path, at: datetime.datetime) -> bool:
    """Note that a backup was made at this time; return whether it could be noted, which is no matter to the backup."""
    try:
        write_file(data_dir / FILE_NAME, f"{at.timestamp():.0f}\n".encode())
    except OSError:
        return False
    return True


def last_backup_s(data_dir: Path) -> float:
    """Return when the last one was made, Unix time; 0 if none was. Raises OSError if the disk cannot tell."""
    try:
        return float((data_dir / FILE_NAME).read_bytes()[:32])
    except (FileNotFoundError, ValueError):
        return 0.0
