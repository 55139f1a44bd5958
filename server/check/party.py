"""All of a party's files: from its configuration, or what is in a data directory alone."""

from __future__ import annotations

from pathlib import Path

from veilmatch.common.public_file import read_public_file, read_public_key
from veilmatch.crypto.encryption.paillier import PublicKey
from veilmatch.crypto.encryption.public_key_format import PublicFile
from veilmatch.crypto.errors import ConfigurationError
from veilmatch.crypto.keys.shares import KeyHolderKey
from veilmatch.server.check.cluster import check_cluster
from veilmatch.server.check.databases import REMEDIES, check_database
from veilmatch.server.check.gallery import check_galleries
from veilmatch.server.check.keys import (
    check_devices,
    check_organisation_key,
    check_passphrase_file,
    check_revoked,
    check_sealed_keys,
    check_tls,
)
from veilmatch.server.check.report import Report
from veilmatch.server.check.stock import check_stock_db
from veilmatch.server.config import GalleriesIn, KeyHolderSettings, MatcherSettings
from veilmatch.server.keyholder.audit.chain import files_in
from veilmatch.server.keyholder.audit.check import check_log
from veilmatch.server.matcher.follow.staging_file import FOLDER as CATCHING_UP
from veilmatch.server.matcher.gallery.disk.database import is_there, place_of
from veilmatch.server.supervisor import load_daemon

KEY_HOLDER, MATCHER = "keyholder.toml", "matcher.toml"
_AUDIT_REMEDY = (
    "keep the folder as evidence, compare with the logs of the others (`veilmatch audit verify --against`), and "
    "start with a new one: docs/operations.md, audit log"
)
_AUDIT_GONE_REMEDY = (
    "do not restart the key holder: move the file back if it was moved; if it was deleted, a running daemon still "
    "holds it and it can be saved from there (docs/operations.md, audit log)"
)
_SERVER_REMEDY = "see that the database's server runs, and that this machine may use it: docs/storage.md"
_CATCHING_UP_REMEDY = "stop the matcher, delete it with its -wal and -shm, start it: what is missing is fetched again"
_PUBLIC_REMEDY = "copy public.json from another party: it is the same at all, and not secret"


def find_configuration(target: Path) -> Path | None:
    """Return the configuration file that `target` is or holds; None if it is a data directory.

    Raises ConfigurationError if it is neither.
    """
    if target.is_file():
        return target
    found = [target / name for name in (KEY_HOLDER, MATCHER) if (target / name).is_file()]
    if len(found) == 1:
        return found[0]
    if found or not target.is_dir() or not _is_data(target):
        raise ConfigurationError(
            "nothing to check here", got=str(target), expected="keyholder.toml, matcher.toml, or a data directory"
        )
    return None


def load_configuration(path: Path) -> KeyHolderSettings | MatcherSettings:
    """Return the settings of a daemon: of the kind that the file's name says, else of the one that it fits.

    Raises ConfigurationError.
    """
    if path.name in (KEY_HOLDER, MATCHER):
        return load_daemon(path)
    try:
        return KeyHolderSettings.load(path)
    except ConfigurationError:
        return MatcherSettings.load(path)


def check_party(settings: KeyHolderSettings | MatcherSettings, passphrase: str | None = None) -> Report:
    """Look at everything that a daemon reads. passphrase: of its sealed files, to look into these too."""
    report = Report(settings.party_name)
    public: PublicFile | None = None
    with report.finding(settings.public_key, _PUBLIC_REMEDY):
        public = read_public_file(settings.public_key)
        report.saw(settings.public_key, f"key {public.public_key.key_id.hex()}, {public.public_key.parameters.name}")
    key: KeyHolderKey | None = None
    if settings.passphrase_file is not None:
        check_passphrase_file(settings.passphrase_file, report)
    if public is not None:
        if isinstance(settings, KeyHolderSettings):
            key = check_sealed_keys(settings, public, passphrase, report)
        check_organisation_key(settings, public, passphrase, report)
    check_tls(settings.tls, settings.party_name, report)
    if public is not None:
        check_devices(settings, public, report)
        check_revoked(settings, public, report)
    names = settings.galleries if isinstance(settings, MatcherSettings) else ()
    public_key = None if public is None else public.public_key
    where = settings.galleries_in if isinstance(settings, MatcherSettings) else settings.data_dir
    _check_data(settings.data_dir, where, public_key, key, names, report)
    if isinstance(settings, MatcherSettings) and settings.cluster is not None:
        check_cluster(settings.cluster, report)
    if isinstance(settings, MatcherSettings) and settings.rotation is not None:
        with report.finding(settings.rotation.public_key, _PUBLIC_REMEDY):
            new_key = read_public_key(settings.rotation.public_key)
            rotation = settings.rotation
            _check_data(rotation.data_dir, rotation.galleries_in, new_key, None, names, report)
    return report


def check_data(folder: Path) -> Report:
    """Look at what is in a data directory, as far as can be told without the files beside it."""
    report = Report()
    _check_data(folder, folder, None, None, (), report)
    return report


def _check_data(
    folder: Path,
    where: GalleriesIn,
    public_key: PublicKey | None,
    key: KeyHolderKey | None,
    galleries: tuple[str, ...] | list[str],
    report: Report,
) -> None:
    with report.finding(place_of(where), _SERVER_REMEDY):
        if is_there(where):
            check_galleries(where, public_key, galleries, report)
        elif galleries:
            note = "is not there: a matcher that was never started, or one that lost it"
            report.notes.append(f"{place_of(where)} {note}")
    if (path := folder / "stock.db").exists():
        check_stock_db(path, key, report)
    for name, remedy in REMEDIES.items():
        if (path := folder / name).exists():
            check_database(path, remedy, report)
    for path in sorted((folder / CATCHING_UP).glob("*.db")):
        check_database(path, _CATCHING_UP_REMEDY, report)
    # Who has stock has been started, and has had a log since.
    if (path := folder / "audit").is_dir() or (folder / "stock.db").exists():
        _check_audit(path, report)


def _check_audit(folder: Path, report: Report) -> None:
    if not folder.is_dir() or not files_in(folder):
        report.found(folder, "", "no audit log: it was moved or deleted", _AUDIT_GONE_REMEDY)
        return
    with report.finding(folder, _AUDIT_REMEDY):
        checked = check_log(folder)
        report.saw(folder, f"{checked.entries} entries in {len(checked.files)} files, head {checked.head[:16]}")
        if checked.broken is not None:
            where = f"{checked.broken.file}, line {checked.broken.line}"
            report.found(folder, where, checked.broken.why, _AUDIT_REMEDY)


def _is_data(folder: Path) -> bool:
    names = ("gallery.db", "stock.db", "audit", *REMEDIES)
    return any((folder / name).exists() for name in names)
