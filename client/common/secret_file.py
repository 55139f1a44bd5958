"""Reading the files that hold a secret of a device or of a recipient: mode 0600, or not read."""

from __future__ import annotations

import os
import shlex
import stat
from pathlib import Path

from veilmatch.crypto.errors import KeyFileError

#: No key file is longer.
_MAX_BYTES = 1 << 16
#: What nobody but the owner may have: any right of the group or of others.
_OTHERS = 0o077


def read_secret(path: Path, what: str) -> bytes:
    """Return the content of a key file. what: "the TLS key", say, for errors.

    Raises KeyFileError if it is not a file, is too long for a key, or group or others have any right to it: the mode is
    that of the very file that is read. Raises OSError if it cannot be read.
    """
    # Not blocking: a pipe in place of the file must not hang its user.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise KeyFileError(f"{what} is not a file", got=str(path))
        if stat.S_IMODE(mode) & _OTHERS:
            raise KeyFileError(
                f"{what} is open to others",
                got=f"{path}: mode {stat.S_IMODE(mode):04o}",
                expected="mode 0600",
                hint=f"Run `chmod 600 {shlex.quote(str(path))}`; if others may have read it, replace what is in it.",
            )
        data = file.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise KeyFileError(f"{what} is not a key", got=f"{path}: over {_MAX_BYTES} bytes")
    return data
