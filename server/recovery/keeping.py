"""How new shares come into use at all three key holders or at none, whenever one of them is killed.

Beside the key file:

    share.key.recovered        the new share, sealed, until it is in use
    share.key.replaced         the share of before, until all three are known to use their new ones
    recovery.json.pending      the record (record.py): there is a new share, and not all three are known to have it
    recovery.json.unconfirmed  it is in use here, and not all three are known to use theirs
    recovery.json              all three do

Each step is one rename or deletion, made durable before the next, and the record says how far it is. Until it is in
use the share of before serves, and a daemon may start. It is deleted on the word of both others, one of whom is
honest: nobody takes a share into use that not all three have said to have on disk, and nobody gives it up after that.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from veilmatch.crypto.encryption.public_key_format import PublicFile
from veilmatch.crypto.errors import StorageError
from veilmatch.crypto.keys.parties import Party
from veilmatch.server.ceremony.meeting import Standing
from veilmatch.server.installation.files import sync_folder, write_file
from veilmatch.server.installation.sealed import old_file, recovered_file, replaced_file, require_sealed, waiting_file
from veilmatch.server.keyholder.refresh.key_files import erase
from veilmatch.server.keyholder.stock.store import FILE_NAME as STOCK
from veilmatch.server.recovery.record import RecoveryRecord

FILE = "recovery.json"


class Keeper:
    """The key files of one key holder, whose daemon does not run. Blocks; methods raise StorageError for the disk's."""

    def __init__(self, key_file: Path, data_dir: Path, party: Party, public: PublicFile) -> None:
        # A link stays what it is: the file that it leads to is replaced.
        self._path = key_file.resolve()
        self._data_dir, self._party, self._public = data_dir, party, public
        self._new, self._old = recovered_file(key_file), replaced_file(key_file)
        self._settled = self._path.with_name(FILE)
        self._pending = self._path.with_name(f"{FILE}.pending")
        self._unconfirmed = self._path.with_name(f"{FILE}.unconfirmed")

    @property
    def epoch(self) -> int:
        """The epoch of the share in use, 0 if there is none. Raises KeyFileError or KeyMismatchError if it is none."""
        return require_sealed(self._path, self._party, self._public) if self._path.exists() else 0

    @property
    def record(self) -> RecoveryRecord | None:
        """The record of the last recovery, finished or not."""
        path = next((path for path in (self._pending, self._unconfirmed, self._settled) if path.exists()), None)
        return RecoveryRecord.read(path) if path else None

    @property
    def seen(self) -> Standing:
        """What is here of the last recovery, as it lies there."""
        if self._pending.exists():
            return Standing.PENDING
        record = self.record
        if record is None or record.epoch != self.epoch:
            # Another refresh, or a backup, came after it.
            return Standing.NOTHING
        return Standing.KEPT if self._unconfirmed.exists() else Standing.SETTLED

    def standing(self) -> tuple[Standing, bytes]:
        """Return what is here of the last recovery, and its session. Finishes what needs nobody else."""
        self.tidy()
        seen, record = self.seen, self.record
        return seen, record.session if record and seen is not Standing.NOTHING else b""

    def tidy(self) -> None:
        """Finish what a crash left, as far as that needs nobody else."""
        with _storing():
            if self._pending.exists():
                record = RecoveryRecord.read(self._pending)
                if not self._new.exists() and self.epoch == record.epoch:
                    self._confirm_use()
                elif not self._new.exists() or self.epoch >= record.epoch:
                    self._discard()
            elif self._new.exists():
                self._discard()
            if self._unconfirmed.exists() and self.epoch > RecoveryRecord.read(self._unconfirmed).epoch:
                # There was a refresh since, for which all three need their new shares.
                self._settle()

    def write_pending(self, record: RecoveryRecord, write: Callable[[Path], None]) -> None:
        """Keep a new share and its record. write: seals it at a path, and reads it back."""
        with _storing():
            self._discard()
            write(self._new)
            write_file(self._pending, record.encode())

    def discard(self) -> bool:
        """Delete a new share that is not in use; return whether there was one."""
        with _storing():
            found = self._pending.exists()
            self._discard()
        return found

    def keep(self) -> None:
        """Take the new share into use, if that has not been done; the one before is kept."""
        with _storing():
            if not self._pending.exists():
                return
            if RecoveryRecord.read(self._pending).lost == self._party:
                # Its storage begins anew with its share; what is left of another stock could not be opened.
                for end in ("", "-wal", "-shm"):
                    (self._data_dir / f"{STOCK}{end}").unlink(missing_ok=True)
            if self._new.exists():
                self._take_into_use()
            self._confirm_use()

    def settle(self) -> None:
        """All three use their new shares: overwrite and delete what is of before."""
        with _storing():
            if self._unconfirmed.exists():
                self._settle()

    def go_back(self) -> int:
        """Use the share of before again, and return its epoch. Raises StorageError if there is none any more."""
        with _storing():
            if not self._unconfirmed.exists() or not self._old.exists():
                raise OSError(0, "the share of before is not here")
            self._old.replace(self._path)
            sync_folder(self._path.parent)
            self._unconfirmed.unlink()
            sync_folder(self._path.parent)
        return self.epoch

    def _take_into_use(self) -> None:
        if self._path.exists():
            # Another name first, so that at no time the share in use has none.
            self._old.unlink(missing_ok=True)
            os.link(self._path, self._old)
            sync_folder(self._path.parent)
        self._new.replace(self._path)
        sync_folder(self._path.parent)

    def _confirm_use(self) -> None:
        self._pending.replace(self._unconfirmed)
        sync_folder(self._path.parent)

    def _settle(self) -> None:
        # What an interrupted refresh of the old shares has left goes as well.
        for path in (self._old, waiting_file(self._path), old_file(self._path)):
            if path.exists():
                if path.samefile(self._path):
                    path.unlink()
                else:
                    erase(path)
        self._unconfirmed.replace(self._settled)
        sync_folder(self._path.parent)

    def _discard(self) -> None:
        """The record goes first: without it nothing is taken for a new share."""
        self._pending.unlink(missing_ok=True)
        sync_folder(self._path.parent)
        if self._new.exists():
            erase(self._new)


@contextmanager
def _storing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            "the files of a recovery cannot be written", available=error.strerror,
            needed="a folder of the key file that can be written",
        ) from None  # fmt: skip
