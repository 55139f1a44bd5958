"""The key files of a key holder across a refresh: the current one, the next one while it waits, the old one until all
three key holders have the new.

    share.key         what the daemon serves with
    share.key.next    of the next epoch: prepared and not in use, or in use once and gone back from
    share.key.old     from the switch until both peers have switched too

The latter two are overwritten before they are deleted. Every step is one rename or one deletion, made durable before
the next, so a crash leaves the state before or after it. What is done when: settling.py.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from veilmatch.crypto.encryption.paillier import PublicKey
from veilmatch.crypto.encryption.public_key_format import PublicFile
from veilmatch.crypto.errors import ConfigurationError, KeyFileError, KeyMismatchError
from veilmatch.crypto.keys.refreshing import next_epoch
from veilmatch.crypto.keys.shares import KeyHolderKey
from veilmatch.crypto.secret_access import SecretHolder
from veilmatch.server.installation.files import sync_folder
from veilmatch.server.installation.sealed import Sealing, old_file, waiting_file


class KeyFiles(SecretHolder):
    """One key holder's key files. Not for two threads at once; blocks."""

    def __init__(self, path: Path, key: KeyHolderKey, sealing: Sealing) -> None:
        """path: of the key file, which holds `key`.

        Takes up what a crash left: a key of the next epoch waits on, one of any other epoch is deleted.
        Raises KeyFileError, KeyMismatchError or WrongPassphraseError if the next key's file cannot be read.
        """
        # A link stays what it is: the file that it leads to is replaced.
        self._path = path.resolve()
        self._next_path = waiting_file(path)
        self._old_path = old_file(path)
        self._sealing = sealing
        self.current = key
        self.waiting: KeyHolderKey | None = None
        self._drop_second_names()
        if self._next_path.exists():
            found = sealing.unseal(self._next_path)
            if found.epoch == key.epoch + 1:
                self.waiting = found
            else:
                erase(self._next_path)

    @property
    def public(self) -> PublicFile:
        """The installation's public file."""
        return self._sealing.public

    @property
    def public_key(self) -> PublicKey:
        """The public key of all these keys."""
        return self._sealing.public.public_key

    @property
    def keeps_old(self) -> bool:
        """Whether the key of the epoch before is still here."""
        return self._old_path.exists() and not self._old_path.samefile(self._path)

    def require_refreshable(self) -> None:
        """Raise unless another key can be prepared.

        ParameterError at the last epoch; KeyMismatchError if the file on disk is not what this daemon has, because it
        was replaced or resealed since; KeyFileError if it cannot be read.
        """
        next_epoch(self.current.epoch, self.current.since)
        if self._sealing.unseal(self._path) != self.current:
            party = f"keyholder-{self.current.party}"
            raise KeyMismatchError(
                f"the key file of {party} was replaced since it started", party=party, expected="a restart"
            )

    def prepare(self, key: KeyHolderKey) -> KeyHolderKey:
        """Keep the key of the next epoch, durably, and return it as read back. Raises as `require_refreshable`.

        ConfigurationError if it cannot be written.
        """
        self.require_refreshable()
        if key.epoch != self.current.epoch + 1:
            raise KeyMismatchError("not a key of the next epoch", got=key.epoch, expected=self.current.epoch + 1)
        try:
            self._require_links()
            self._sealing.seal(self._next_path, key)
        except OSError as error:
            raise ConfigurationError(
                "the next key file cannot be written", got=error.strerror, expected=str(self._next_path)
            ) from None
        self.waiting = self._sealing.unseal(self._next_path, epoch=key.epoch)
        if self.waiting != key:
            raise KeyFileError("the next key file does not hold what was written", got=str(self._next_path))
        return self.waiting

    def _require_links(self) -> None:
        """Raise OSError if a file can have no second name here, which `commit` needs when it is too late to refuse."""
        probe = self._path.with_name(f".{self._path.name}.{secrets.token_hex(4)}")
        os.link(self._path, probe)
        probe.unlink()

    def discard(self) -> None:
        """Delete the key that waits, if there is one."""
        self.waiting = None
        if self._next_path.exists():
            erase(self._next_path)

    def commit(self) -> KeyHolderKey:
        """Make the key that waits the current one, durably, and return it; the one before is kept as the old one.

        Raises OSError if it cannot be renamed; it waits on then.
        """
        if self.waiting is None:
            raise KeyMismatchError("no key of another epoch waits here", got=self.current.epoch)
        self._old_path.unlink(missing_ok=True)
        # Another name first, so that at no time the old key has none.
        os.link(self._path, self._old_path)
        sync_folder(self._path.parent)
        try:
            self._next_path.replace(self._path)
        except OSError:
            self._drop_second_names()
            raise
        self.current, self.waiting = self.waiting, None
        # If it fails, a power cut may undo the renaming: the key then waits again, and the decision is on record.
        with suppress(OSError):
            sync_folder(self._path.parent)
        return self.current

    def go_back(self) -> KeyHolderKey:
        """Make the old key the current one again, durably, and return it; the newer one waits as the next one.

        Raises KeyFileError if there is no old key, or what `Sealing.unseal` raises if it cannot be read; OSError if it
        cannot be renamed. The newer one stays in use then.
        """
        if not self.keeps_old:
            raise KeyFileError("there is no key of the epoch before", expected=str(self._old_path))
        old = self._sealing.unseal(self._old_path, epoch=self.current.epoch - 1)
        # Another name first, so that at no time the newer key has none.
        os.link(self._path, self._next_path)
        sync_folder(self._path.parent)
        try:
            self._old_path.replace(self._path)
        except OSError:
            self._drop_second_names()
            raise
        self.current, self.waiting = old, self.current
        # If it fails, a power cut may undo the renaming: that this holder is going back is on record.
        with suppress(OSError):
            sync_folder(self._path.parent)
        return old

    def _drop_second_names(self) -> None:
        """Delete a name beside the current file if it leads to it: it was made for a switch that did not happen.

        Overwriting by it what it leads to would destroy the key in use.
        """
        for second in (self._old_path, self._next_path):
            if second.exists() and second.samefile(self._path):
                second.unlink()
                sync_folder(self._path.parent)

    def erase_old(self) -> None:
        """Overwrite and delete the key of the epoch before."""
        self._drop_second_names()
        if self._old_path.exists():
            erase(self._old_path)


def erase(path: Path) -> None:
    """Overwrite a file in place with random bytes, durably, and delete it.

    On a file system that copies on write, on flash storage and in snapshots the old bytes may still be there: sealed,
    but for whoever has the passphrase (docs/limitations.md).
    """
    # A renaming that a power cut undoes must not bring back a name for what is overwritten here.
    sync_folder(path.parent)
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        file.write(secrets.token_bytes(size))
        file.flush()
        os.fsync(file.fileno())
    path.unlink()
    sync_folder(path.parent)
