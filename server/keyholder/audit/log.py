"""Writing the audit log: an entry is on disk, with fsync, before `append` returns; until then nothing is served.

Entries that come together are written together, with one fsync (ground/gathering.py).

    <data_dir>/audit/audit-000000000000.jsonl, audit-000000004711.jsonl, ...

What a crash leaves. An entry counts as acknowledged once `append` has returned: all of its line, line feed
included, was written and synced by then. So a last line without a line feed was never acknowledged, and nothing was
served for it: it is cut off at the next start, and the "open" entry written then says how many bytes went. A last
line that is complete stays, whether acknowledged or not. A complete line that is no entry is damage, and the daemon
does not start. After an error of the disk the file is cut back to what was acknowledged before the next attempt.
A file gets its name once its first entry is on disk. So no crash leaves one without an entry: it was emptied, and the
daemon does not start either.

What others do to it. The file has to be in its place before an entry and after it (place.py): one that was deleted,
moved, replaced, cut or written to by somebody else would be read by no auditor, so nothing is served until it is back,
or the daemon was restarted. One that was deleted is put back when its operator asks for it (`put_back`). A start that
finds no file begins a new log, and says so; who deletes the log and restarts is found by `audit verify --against`
another organisation's, and by nothing in this folder.
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog

from veilmatch.crypto.errors import AuditLogError, IntegrityError, StorageError
from veilmatch.crypto.keys.parties import Party, pairs_without
from veilmatch.server.ground.gathering import Gathered, Outcome
from veilmatch.server.ground.own_failures import said
from veilmatch.server.keyholder.audit.chain import (
    MAX_LINE_BYTES,
    START,
    Entry,
    decode,
    encode,
    file_name,
    files_in,
)
from veilmatch.server.keyholder.audit.place import astray

#: Of the entries; in every "open" entry. Those after an entry of format 1 name no recipient, whether there was one or
#: not; those after one of format 2 name it (`recipient`, `recipient_id`) or had none.
FORMAT = 2
#: End of the name of a file that has no entry yet.
_UNFINISHED = ".new"

_log = structlog.get_logger(__name__)


class AuditLog:
    """The log of one key holder, in `audit/` of its data directory. Used from several threads.

    file_bytes: a file that has reached this size is followed by another. Opening raises AuditLogError if the log
    cannot be written, IntegrityError if its last entry is damaged or its last file was emptied.
    """

    def __init__(
        self, data_dir: Path, party: Party, key_id: bytes, file_bytes: int, now: Callable[[], float] = time.time
    ) -> None:
        self._folder = data_dir / "audit"
        self._party: Party = party
        self._opening: dict[str, Any] = {
            "event": "open", "party": f"keyholder-{party}", "key_id": key_id.hex(), "format": FORMAT,
        }  # fmt: skip
        self._file_bytes = file_bytes
        self._now = now
        self._lock = threading.Lock()
        self._descriptor = -1
        self._path = self._folder / file_name(0)
        #: Bytes of the current file that hold acknowledged entries; what follows is cut off.
        self._size = 0
        self._broken = False
        #: What has become of the current file, as it was last said in the log of the daemon.
        self._astray: str | None = None
        #: When an entry was written last by this process, Unix time.
        self.written_at_s = 0.0
        self._next, self._last = 0, START
        self._gathered: Gathered[Mapping[str, Any]] = Gathered("audit log", self._append)
        with self._lock:
            try:
                self._open()
            except AuditLogError:
                self._shut()
                raise
            except OSError as error:
                self._shut()
                raise self._unwritten(error) from None

    @property
    def head(self) -> tuple[int, str]:
        """How many entries there are, and the hash of the last one."""
        return self._next, self._last

    def append(self, fields: Mapping[str, Any]) -> None:
        """Note an entry durably. fields: JSON values; number, time and hashes are added.

        Raises AuditLogError if that cannot be done; the log is then as before.
        """
        self.enter(fields).result()

    def enter(self, fields: Mapping[str, Any]) -> Future[None]:
        """Begin to `append`; the future is done once the entry is on disk, or has the error."""
        try:
            return self._gathered.put(fields)
        except StorageError as error:
            raise self._not_written(error.available) from None

    def _append(self, batch: Sequence[Mapping[str, Any]]) -> Sequence[Outcome]:
        with self._lock:
            try:
                self._require_in_place(self._broken)
            except OSError as error:
                raise self._unwritten(error) from None
            try:
                if self._broken:
                    self._cut_back()
                if self._size >= self._file_bytes:
                    self._shut()
                    self._create()
                return self._write(*batch)
            except AuditLogError:
                self._broken = True
                raise
            except OSError as error:
                self._broken = True
                raise self._unwritten(error) from None

    def put_back(self) -> None:
        """Give a current file that was deleted its place again, with all that was acknowledged; do nothing otherwise.

        For an operator who asks for it: the alert has been said, and stays. Raises AuditLogError if it cannot be done.
        """
        with self._lock:
            try:
                if self._descriptor < 0 or os.fstat(self._descriptor).st_nlink or self._path.exists():
                    return
                self._copy_back()
                self._write(self._opening | {"put_back_bytes": self._size})
            except OSError as error:
                self._broken = True
                raise self._unwritten(error) from None

    def _copy_back(self) -> None:
        place = self._path
        self._folder.mkdir(mode=0o700, exist_ok=True)
        unfinished = place.with_name(place.name + _UNFINISHED)
        descriptor = self._locked(unfinished)
        try:
            os.ftruncate(descriptor, 0)
            with Path(f"/proc/self/fd/{self._descriptor}").open("rb") as deleted:
                left = self._size
                while left and (part := deleted.read(min(left, 1 << 20))):
                    left -= os.write(descriptor, part)
            if left:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            os.fsync(descriptor)
            unfinished.rename(place)
            _sync_folder(self._folder)
        except BaseException:
            os.close(descriptor)
            raise
        os.close(self._descriptor)
        self._descriptor, self._broken, self._astray = descriptor, False, None
        _log.warning("audit log put back", file=place.name, bytes=self._size)

    def close(self) -> None:
        """Write what waits, and close the file."""
        self._gathered.close()
        with self._lock:
            self._shut()

    # -- opening --------------------------------------------------------------------------------

    def _open(self) -> None:
        if not self._folder.is_dir():
            self._folder.mkdir(parents=True, mode=0o700)
            _sync_folder(self._folder.parent)
        for unfinished in self._folder.glob("audit-*" + _UNFINISHED):
            unfinished.unlink()
        files = files_in(self._folder)
        if not files:
            self._create()
            _log.warning("audit log begins", folder=str(self._folder))
            return
        last, length, torn = _last_entry(files[-1])
        self._next, self._last = last.number + 1, last.hash
        self._descriptor, self._path, self._size = self._locked(files[-1]), files[-1], length - torn
        self._cut_back()
        self._write(self._opening | ({"dropped_bytes": torn} if torn else {}))

    def _create(self) -> None:
        """Go on in another file: it has its name, in which nothing was acknowledged yet, once it has an entry."""
        place, before = self._folder / file_name(self._next), (self._next, self._last)
        self._path = place.with_name(place.name + _UNFINISHED)
        try:
            self._descriptor = self._locked(self._path)
            os.ftruncate(self._descriptor, 0)
            self._size = 0
            self._write(self._opening)
            self._path = self._path.rename(place)
            _sync_folder(self._folder)
        except (AuditLogError, OSError):
            self._shut()
            self._next, self._last = before
            raise

    @staticmethod
    def _locked(path: Path) -> int:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    # -- writing --------------------------------------------------------------------------------

    def _write(self, *batch: Mapping[str, Any]) -> Sequence[Outcome]:
        """Write entries with one sync. Returns the outcome of each: what is no JSON is refused without the others."""
        at = datetime.fromtimestamp(self._now(), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        number, last, lines, outcomes = self._next, self._last, b"", list[Outcome]()
        for fields in batch:
            try:
                line, last = encode({**fields, "at": at}, number, last)
            except (TypeError, ValueError) as error:
                outcomes.append(error)
            else:
                number, lines = number + 1, lines + line
                outcomes.append(None)
        if os.write(self._descriptor, lines) != len(lines):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(self._descriptor)
        self._require_in_place(may_be_longer=False, more=len(lines))
        self._size += len(lines)
        self._next, self._last, self.written_at_s = number, last, self._now()
        return outcomes

    def _require_in_place(self, may_be_longer: bool, more: int = 0) -> None:
        """Raise AuditLogError unless the current file is in its place. more: bytes beside those acknowledged."""
        if self._descriptor < 0:
            return
        found = astray(self._descriptor, self._path, self._size + more, may_be_longer=may_be_longer)
        if found is not None and found != self._astray:
            _log.error("alert", what="the audit log is not in its place: nothing is served", reason=found)
        elif found is None and self._astray is not None:
            _log.info("audit log back in its place", file=self._path.name)
        self._astray = found
        if found is not None:
            raise said(
                AuditLogError(
                    "the audit log is not in its place, so nothing is served",
                    party=f"keyholder-{self._party}",
                    needed="the file put back, or a restart: docs/operations.md, audit log",
                    available=found,
                    alternatives=pairs_without(self._party),
                )
            )

    def _cut_back(self) -> None:
        """Take away what follows the acknowledged entries."""
        if self._descriptor < 0:
            self._create()
        os.ftruncate(self._descriptor, self._size)
        os.fsync(self._descriptor)
        self._broken = False

    def _shut(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def _unwritten(self, error: OSError) -> AuditLogError:
        return self._not_written(os.strerror(error.errno) if error.errno else type(error).__name__)

    def _not_written(self, why: str | None) -> AuditLogError:
        return AuditLogError(
            "the audit log cannot be written, so nothing is served",
            party=f"keyholder-{self._party}",
            needed="an audit log that can be written",
            available=why,
            alternatives=pairs_without(self._party),
        )


def _last_entry(path: Path) -> tuple[Entry, int, int]:
    """Return a file's last entry, the file's length, and how many bytes follow its last line feed.

    Raises IntegrityError if it has none, or a damaged one.
    """
    with path.open("rb") as file:
        length = file.seek(0, os.SEEK_END)
        file.seek(max(0, length - 2 * MAX_LINE_BYTES))
        tail = file.read()
    complete, feed, torn = tail.rpartition(b"\n")
    if not feed:
        if len(tail) > MAX_LINE_BYTES:
            raise IntegrityError("the audit log is damaged at its end", got=path.name)
        raise IntegrityError(
            "the audit log was emptied: no entry in its last file",
            got=path.name,
            expected="an entry; keep the folder as evidence, and see docs/operations.md, audit log",
        )
    try:
        return decode(complete.rpartition(b"\n")[2]), length, len(torn)
    except ValueError as error:
        raise IntegrityError(
            "the last entry of the audit log is damaged", got=f"{path.name}: {error}", expected="an entry"
        ) from None


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
