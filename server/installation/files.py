"""Files of a party: written so that a crash leaves the old one or the new one; secrets of mode 0600."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from veilmatch.crypto.errors import ConfigurationError

SECRET_MODE = 0o600
PUBLIC_MODE = 0o644
#: Folders of a party: its keys are of nobody else's concern.
FOLDER_MODE = 0o700


def write_file(path: Path, data: bytes, *, secret: bool = False) -> None:
    """Write `data` to `path` atomically and durably: temporary file, fsync, rename, fsync of the folder.

    secret: mode 0600 whatever the umask, from the first moment; else 0644 less the umask. Raises OSError,
    and then leaves nothing behind.
    """
    _write(path, data, SECRET_MODE if secret else PUBLIC_MODE, exactly=secret)


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
