"""Making a backup of one party, while its daemon serves: a folder that is complete, durable and verified, or not there.

made = make(settings, Path("matcher.toml"), Path("/media/backups"))
"""

from __future__ import annotations

import datetime
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from veilmatch.common.public_file import read_public_file
from veilmatch.crypto.encryption.public_key_format import PublicFile
from veilmatch.crypto.errors import ConfigurationError, IntegrityError, StorageError
from veilmatch.server.backup.galleries import take
from veilmatch.server.backup.last import note_backup
from veilmatch.server.backup.manifest import FILE_NAME, FORMAT, AuditEntry, GalleryEntry, Manifest, entries_of, stamp
from veilmatch.server.backup.parts import AUDIT, left_out, parts_of
from veilmatch.server.backup.verifying import Verified, verify
from veilmatch.server.config import KeyHolderSettings, MatcherSettings
from veilmatch.server.installation.files import FOLDER_MODE, SECRET_MODE, appearing, write_file
from veilmatch.server.installation.sealed import require_sealed, unfinished_files
from veilmatch.server.keyholder.audit.chain import files_in
from veilmatch.server.keyholder.audit.check import check_log

#: The end of a log that is looked at for the last whole line; the longest entry has some 1,500 bytes.
_TAIL_BYTES = 1 << 17


@dataclass(frozen=True, slots=True)
class Made:
    """A backup that was made. path: its folder. noted: whether the daemon's metrics can tell of it."""

    path: Path
    verified: Verified
    noted: bool


def make(
    settings: KeyHolderSettings | MatcherSettings,
    config: Path,
    into: Path,
    *,
    with_audit: bool = True,
    now: Callable[[], datetime.datetime] = lambda: datetime.datetime.now(datetime.UTC),
) -> Made:
    """Write a folder PARTY-TIME into the folder `into`. config: the file that the settings came from.

    Nothing that is damaged is taken: all is verified before the folder gets its name. Raises ConfigurationError if a
    file is missing, the place cannot be written or a refresh of the shares is not finished; IntegrityError if what is
    there is damaged; StorageError, KeyFileError, KeyMismatchError as reading it does.
    """
    public = read_public_file(settings.public_key)
    _require_settled(settings)
    at = now()
    place = into / f"{settings.party_name}-{stamp(at)}"
    with appearing(place) as partial:
        partial.mkdir(mode=FOLDER_MODE)
        for part in parts_of(settings, config):
            _copied(part.path, partial / part.name)
        galleries: list[GalleryEntry] = []
        audit, epoch = None, None
        if isinstance(settings, MatcherSettings):
            galleries = take(settings.galleries_in, public.public_key, partial)
        else:
            epoch = require_sealed(partial / "share.key", settings.party, public)
            if with_audit:
                audit = _take_audit(settings.data_dir / AUDIT, partial / AUDIT)
        _require_settled(settings)
        manifest = _manifest(settings, public, at, partial, galleries, audit, epoch)
        _sync(partial)
        write_file(partial / FILE_NAME, manifest.encode(), secret=True)
        verified = verify(partial)
        if verified.report.findings:
            first = verified.report.findings[0]
            raise IntegrityError(
                "what is there is damaged, and no backup was made",
                got=f"{Path(first.file).name}{': ' * bool(first.where)}{first.where}: {first.what}",
                hint="`veilmatch check` names every damage and what to do about it.",
            )
    return Made(place, verified, note_backup(settings.data_dir, at))


def _manifest(
    settings: KeyHolderSettings | MatcherSettings,
    public: PublicFile,
    at: datetime.datetime,
    folder: Path,
    galleries: list[GalleryEntry],
    audit: AuditEntry | None,
    epoch: int | None,
) -> Manifest:
    return Manifest(
        format=FORMAT,
        version=version("veilmatch"),
        party=settings.party_name,
        installation=public.installation.hex(),
        key_id=public.public_key.key_id.hex(),
        parameters=public.public_key.parameters.name,
        made_at=at,
        epoch=epoch,
        galleries=galleries,
        audit=audit,
        files=entries_of(folder),
        left_out=left_out(settings),
    )


def _require_settled(settings: KeyHolderSettings | MatcherSettings) -> None:
    """Raise ConfigurationError while a refresh or recovery is unfinished: whichever share was taken might be wrong."""
    if isinstance(settings, KeyHolderSettings):
        for beside in unfinished_files(settings.key_file):
            raise ConfigurationError(
                "a refresh or a recovery of the shares is not finished", got=str(beside),
                expected="another backup when it is",
                hint="`veilmatch keyholder refresh --status`, or `recover --status`, says how far it is.",
            )  # fmt: skip


def _copied(source: Path, target: Path, count: int | None = None) -> None:
    """Copy a file, or its first `count` bytes; of mode 0600."""
    target.parent.mkdir(mode=FOLDER_MODE, exist_ok=True)
    try:
        with source.open("rb") as opened, os.fdopen(_made(target), "wb") as copy:
            if count is None:
                shutil.copyfileobj(opened, copy)
            while count:
                part = opened.read(min(count, 1 << 20))
                if not part:
                    raise StorageError("a file became shorter while it was read", available=str(source))
                copy.write(part)
                count -= len(part)
    except OSError as error:
        raise ConfigurationError("a file cannot be taken", got=f"{error.filename}: {error.strerror}") from None


def _made(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, SECRET_MODE)


def _take_audit(source: Path, target: Path) -> AuditEntry:
    """Copy a log that is being written: whole lines. The last file first, so that those before it are complete."""
    target.mkdir(mode=FOLDER_MODE)
    for path in reversed(files_in(source) if source.is_dir() else []):
        if count := _whole_lines(path):
            _copied(path, target / path.name, count)
    if not files_in(target):
        raise ConfigurationError("there is no audit log to take", got=str(source), expected="a log, or --without-audit")
    checked = check_log(target)
    return AuditEntry(entries=checked.entries, head=checked.head)


def _whole_lines(path: Path) -> int:
    """Return how many bytes of a log are whole lines."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        start = file.seek(max(0, size - _TAIL_BYTES))
        return start + file.read(size - start).rfind(b"\n") + 1


def _sync(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
