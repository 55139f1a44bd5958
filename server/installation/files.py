"""Files of a party: written so that a crash leaves the old one or the new one; secrets of mode 0600, or not read."""

from __future__ import annotations

import os
import secrets
import shlex
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from veilmatch.crypto.errors import ConfigurationError, KeyFileError

SECRET_MODE = 0o600
PUBLIC_MODE = 0o644
#: Folders of a party: its keys are of nobody else's concern.
FOLDER_MODE = 0o700
#: What nobody but the owner may have: any right of the group or of others.
_OTHERS = 0o077
#: No file with a secret is longer.
_SECRET_BYTES = 1 << 16


def write_file(path: Path, data: bytes, *, secret: bool = False) -> None:
    """Write `data` to `path` atomically and durably: temporary file, fsync, rename, fsync of the folder.

    secret: mode 0600 whatever the umask, from the first moment; else 0644 less the umask. Raises OSError,
    and then leaves nothing behind.
    """
    _write(path, data, SECRET_MODE if secret else PUBLIC_MODE, exactly=secret)


def read_secret(path: Path, what: str, most: int = _SECRET_BYTES) -> bytes:
    """Return the content of a file that holds a secret, `most` + 1 bytes of it at most.

    what: "the TLS key", say, for errors. Raises KeyFileError if it is not a file, or group or others have any right to
    it: the mode is that of the very file that is read. Raises OSError if it cannot be read.
    """
    # Not blocking: a pipe in place of the file must not hang a daemon.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise KeyFileError(f"{what} is not a file", got=str(path))
        require_private(descriptor, path, what)
        return file.read(most + 1)


def require_private(descriptor: int, path: Path, what: str) -> None:
    """Raise KeyFileError if group or others have any right to an open file. Pipes and terminals hold nothing."""
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode) and stat.S_IMODE(mode) & _OTHERS:
        raise KeyFileError(
            f"{what} is open to others",
            got=f"{path}: mode {stat.S_IMODE(mode):04o}",
            expected="mode 0600",
            hint=f"Run `chmod 600 {shlex.quote(str(path))}`; if others may have read it, replace what is in it.",
        )


@contextmanager
def appearing(target: Path) -> Iterator[Path]:
    """Give a path to make a folder at; it gets its own name when the body is done, or goes away if that fails.

    Raises ConfigurationError for an OSError of the body.
    """
    final = target.resolve()
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{final.name}.", dir=final.parent) as temporary:
            partial = Path(temporary) / final.name
            yield partial
            # An empty directory of that name is replaced, any other is not.
            partial.rename(final)
        sync_folder(final.parent)
    except OSError as error:
        raise ConfigurationError("the folder cannot be written", got=f"{target}: {error.strerror}") from None


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(path: Path, data: bytes, mode: int, *, exactly: bool) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if exactly:
                os.fchmod(descriptor, mode)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
