"""What POSIX has and Windows lacks, in one place: whoever captures faces there imports the same modules.

Daemons need POSIX; a device and a relying party do not.
"""

from __future__ import annotations

import os
from pathlib import Path

#: Whether modes of files say who may read them. Where they do not, the folder's access list is the owner's matter.
HAS_MODES = os.name == "posix"

#: For reading what a path names: a pipe is opened at once, no child inherits it, and every byte is read as it is.
READING = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


def cores() -> int:
    """Return how many processors this process may use, at least one."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def flush_folder(path: Path) -> None:
    """Have the names in a folder reach the disk. Raises OSError. Windows opens no folders and does so by itself."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_private(descriptor: int) -> None:
    """Leave an open file to its owner, whatever the umask. Raises OSError. Does nothing where there are no modes."""
    if HAS_MODES:
        os.fchmod(descriptor, 0o600)
