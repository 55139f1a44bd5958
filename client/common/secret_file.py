"""Reading files that hold a secret, of any party: none but the owner has a right to one, or it is not read."""

from __future__ import annotations

import os
import shlex
import stat
from pathlib import Path

from veilmatch.common.access_list import is_for_this_user_alone
from veilmatch.common.system import HAS_MODES, READING
from veilmatch.crypto.errors import KeyFileError

#: No key file is longer.
_MAX_BYTES = 1 << 16
#: What nobody but the owner may have: any right of the group or of others.
_OTHERS = 0o077


def read_secret(path: Path, what: str) -> bytes:
    """Return the content of a key file. what: "the TLS key", say, for errors.

    Raises KeyFileError if it is too long for a key, and what `read_private` raises.
    """
    data = read_private(path, what, _MAX_BYTES)
    if len(data) > _MAX_BYTES:
        raise KeyFileError(f"{what} is not a key", got=f"{path}: over {_MAX_BYTES} bytes")
    return data


def read_private(path: Path, what: str, most: int = _MAX_BYTES) -> bytes:
    """Return the content of a file that holds a secret, `most` + 1 bytes of it at most.

    what: "the TLS key", say, for errors. Raises KeyFileError if it is not a file, or group or others have any right to
    it: the mode is that of the very file that is read. Raises OSError if it cannot be read.
    """
    # Not blocking: a pipe in place of the file must not hang its user.
    descriptor = os.open(path, READING)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise KeyFileError(f"{what} is not a file", got=str(path))
        require_private(descriptor, path, what)
        return file.read(most + 1)


def require_private(descriptor: int, path: Path, what: str) -> None:
    """Raise KeyFileError if group or others have any right to an open file. Pipes and terminals hold nothing.

    What an access list gives to this user alone is no right of others: systemd gives credentials so.
    """
    mode = os.fstat(descriptor).st_mode
    if HAS_MODES and stat.S_ISREG(mode) and stat.S_IMODE(mode) & _OTHERS and not is_for_this_user_alone(descriptor):
        raise KeyFileError(
            f"{what} is open to others",
            got=f"{path}: mode {stat.S_IMODE(mode):04o}",
            expected="mode 0600",
            hint=f"Run `chmod 600 {shlex.quote(str(path))}`; if others may have read it, replace what is in it.",
        )
