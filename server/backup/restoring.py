"""Putting a party back from its backup: its keys, configuration and certificates, and a matcher's galleries.

Nothing is written over, and nothing goes into the data directory of a key holder: it begins with a fresh stock. The
galleries of a matcher come back as a copy that has to meet the others before it takes part (`galleries.put`).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from veilmatch.common.public_file import read_public_file
from veilmatch.crypto.errors import ConfigurationError, IntegrityError, KeyMismatchError
from veilmatch.server.backup.galleries import put, require_none
from veilmatch.server.backup.manifest import Manifest
from veilmatch.server.backup.parts import AUDIT, DEVICES, GALLERIES, PUBLIC, REVOKED, Part, fixed_parts
from veilmatch.server.backup.verifying import verify
from veilmatch.server.config import KeyHolderSettings, MatcherSettings
from veilmatch.server.installation.files import FOLDER_MODE, appearing, write_file
from veilmatch.server.supervisor import load_daemon
from veilmatch.server.transport.daemon import sole_owner

_CONFIGURATIONS = ("keyholder.toml", "matcher.toml")
#: Of a daemon that has run: what a key holder must not find again, and a matcher may keep.
_DATA = ("stock.db", "ledger.db", "refresh.db", "pace.db", "replay.db", "budgets.db", AUDIT)


@dataclass
class Restored:
    """What was done. written, kept: names of files; kept ones were there. elsewhere: what is configured to be outside
    the folder, and was not written. notes: what to do next, in order."""

    party: str
    folder: Path
    written: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """Return it for `--json`."""
        lists = {name: getattr(self, name) for name in ("written", "kept", "elsewhere", "notes")}
        return {"party": self.party, "folder": str(self.folder), **lists}


def restore(backup: Path, folder: Path, *, digest: str | None = None) -> Restored:
    """Put what is missing in a party's folder back from a backup; a folder that is not there appears whole.

    digest: as it was said when the backup was made. Raises IntegrityError if the backup is damaged or newer than this
    program; ConfigurationError if the folder is another party's, in use, or has data of the kind that is not written
    over; KeyMismatchError if it is of another installation.
    """
    verified = verify(backup, digest=digest)
    if verified.report.findings:
        first = verified.report.findings[0]
        raise IntegrityError("the backup is damaged, and nothing was restored", got=f"{first.file}: {first.what}")
    manifest = verified.manifest
    config = _configuration(manifest)
    if not folder.exists() or not any(folder.iterdir()):
        with appearing(folder) as partial:
            partial.mkdir(mode=FOLDER_MODE)
            _write(backup / config, partial / config)
            found = _restored(backup, manifest, partial)
        found.folder, found.written = folder, [config, *found.written]
        found.kept.remove(config)
        return found
    _require_own(manifest, backup, folder)
    if not (folder / config).exists():
        raise ConfigurationError(
            "the folder is not empty, and has no configuration of this party",
            got=str(folder), expected=f"a new folder, or {config} in it",
        )  # fmt: skip
    return _restored(backup, manifest, folder)


def _configuration(manifest: Manifest) -> str:
    return f"{manifest.party.partition('-')[0]}.toml"


def _require_own(manifest: Manifest, backup: Path, folder: Path) -> None:
    """Raise unless a folder is the one of this party, or of nobody yet."""
    for name in _CONFIGURATIONS:
        if (folder / name).exists() and (found := load_daemon(folder / name).party_name) != manifest.party:
            raise ConfigurationError(
                "the backup of another party", got=f"{manifest.party}, into the folder of {found}", expected=found
            )
    if not (folder / PUBLIC).exists():
        return
    own, theirs = read_public_file(folder / PUBLIC), read_public_file(backup / PUBLIC)
    if own.installation != theirs.installation:
        raise KeyMismatchError(
            "the backup of another installation", got=manifest.installation, expected=own.installation.hex()
        )
    # What is in it was verified with its own keys: of one that was made up, whoever made it up has those.
    if own.encode() != theirs.encode():
        raise KeyMismatchError("the backup has another public.json than the folder", expected="the same keys in both")


def _restored(backup: Path, manifest: Manifest, folder: Path) -> Restored:
    config = folder / _configuration(manifest)
    settings = load_daemon(config)
    found = Restored(manifest.party, folder)
    with ExitStack() as stack:
        stack.enter_context(sole_owner(settings.data_dir))
        _require_fresh(settings)
        for part in _parts(settings, config, manifest):
            _put_back(backup / part.name, part, folder, found)
        for inner in (settings.devices_dir, settings.revoked_dir):
            inner.mkdir(mode=FOLDER_MODE, exist_ok=True)
        if isinstance(settings, MatcherSettings):
            put(backup, read_public_file(backup / PUBLIC).public_key, settings)
            found.written.append(GALLERIES)
    if not settings.tls.key.exists():
        found.notes.append(
            f"{settings.tls.key.name} is in no backup: have the certificate renewed where the authority is"
            f" (`veilmatch authority renew {manifest.party}`), and put the four files here"
        )
    found.notes += _next(settings, manifest)
    return found


def _require_fresh(settings: KeyHolderSettings | MatcherSettings) -> None:
    """Raise ConfigurationError if there is data that restoring would go beside."""
    if isinstance(settings, MatcherSettings):
        require_none(settings.galleries_in)
        return
    there = [name for name in _DATA if (settings.data_dir / name).exists()]
    if there:
        raise ConfigurationError(
            "a key holder that is restored begins with an empty data directory",
            got=f"{settings.data_dir}: {', '.join(there)}", expected="nothing in it",
            hint="Move what is in it away. If only a key file is damaged, and this data was never copied or put back,"
            " copy that file from the backup instead.",
        )  # fmt: skip


def _parts(settings: KeyHolderSettings | MatcherSettings, config: Path, manifest: Manifest) -> list[Part]:
    """Return where each file of the backup goes, but for galleries and audit log."""
    fixed = {part.name: part for part in fixed_parts(settings, config)}
    found = []
    for name in sorted(manifest.names):
        kind, _, inner = name.partition("/")
        if name in fixed:
            found.append(fixed[name])
        elif kind in (DEVICES, REVOKED):
            found.append(Part(name, (settings.devices_dir if kind == DEVICES else settings.revoked_dir) / inner))
    return found


def _put_back(source: Path, part: Part, folder: Path, found: Restored) -> None:
    if part.path.exists():
        found.kept.append(part.name)
    elif not part.path.resolve().is_relative_to(folder.resolve()):
        # Another system may provide it, and a backup says nothing of what else is there.
        found.elsewhere.append(f"{part.name}: {part.path}")
    else:
        _write(source, part.path, secret=part.is_secret)
        found.written.append(part.name)


def _write(source: Path, target: Path, *, secret: bool = False) -> None:
    try:
        target.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        write_file(target, source.read_bytes(), secret=secret)
    except OSError as error:
        raise ConfigurationError("a file cannot be restored", got=f"{target}: {error.strerror}") from None


def _next(settings: KeyHolderSettings | MatcherSettings, manifest: Manifest) -> Sequence[str]:
    """Return what is to be done before the daemon starts."""
    wait_s = settings.max_request_lifetime_s + settings.max_clock_skew_s
    waiting = f"start it {wait_s:.0f} s or more after the one before it has stopped"
    current = f"bring {DEVICES}/ and {REVOKED}/ up to date from your other daemon: the backup has those of its time"
    if isinstance(settings, MatcherSettings):
        others = " and ".join(f"matcher-{party}" for party in sorted(settings.peers))
        return [
            current,
            waiting,
            f"it takes part when it has met {others}, and what is missing comes from them by itself; `veilmatch gallery"
            " fetch` takes it sooner",
        ]
    return [
        current,
        f"{settings.key_file.name} is of epoch {manifest.epoch}, and is of use if the other key holders are in it, too:"
        " `veilmatch keyholder refresh --status` there",
        waiting,
        "it deals a new stock, and begins new budgets and a new audit log: tell the other organisations",
    ]


__all__ = ["Restored", "restore"]
