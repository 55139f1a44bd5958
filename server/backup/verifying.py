"""Is a backup what was made, whole, and sound? Asked when it is made, before it is put back, and whenever one likes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from veilmatch.common.public_file import read_public_file
from veilmatch.common.toml_file import read_toml
from veilmatch.crypto.encryption.public_key_format import PublicFile
from veilmatch.crypto.errors import IntegrityError, KeyMismatchError
from veilmatch.server.backup.galleries import as_this_version, entries_of
from veilmatch.server.backup.manifest import Manifest, files_in, measured, read
from veilmatch.server.backup.parts import AUDIT, CERTIFIER, GALLERIES, ORGANISATION, PUBLIC, SHARE, is_allowed
from veilmatch.server.check.history import verify_history
from veilmatch.server.check.report import Report
from veilmatch.server.installation.certifying.certifier_file import require_sealed_certifier, unseal_certifier
from veilmatch.server.installation.organisation_file import require_sealed_organisation, unseal_organisation
from veilmatch.server.installation.sealed import require_sealed, unseal
from veilmatch.server.keyholder.audit.check import check_log

REMEDY = "do not restore it: take an earlier backup, or another copy of this one"


@dataclass(frozen=True, slots=True)
class Verified:
    """What was found. digest: of the manifest, in hex; it stands for the whole backup."""

    manifest: Manifest
    digest: str
    report: Report

    def document(self) -> dict[str, Any]:
        """Return it for `--json`."""
        manifest = self.manifest.model_dump(mode="json", exclude={"files"})
        counted = {"files": len(self.manifest.files), "bytes": sum(file.bytes for file in self.manifest.files)}
        return {"digest": self.digest} | manifest | counted | self.report.document()


def verify(folder: Path, *, digest: str | None = None, passphrase: str | None = None) -> Verified:
    """Look at every file of a backup, and at what is in it: keys, certificates of changes, chains.

    digest: as it was said when the backup was made, to find out also what was altered on purpose. passphrase: of the
    sealed files, to open these. Raises ConfigurationError if it is no backup, IntegrityError if it is newer than this
    program or does not say what it is; everything else is in the report.
    """
    manifest, found = read(folder)
    report = Report(manifest.party)
    if digest is not None and digest.lower() != found:
        report.found(folder, "", f"another backup than the one that was noted: digest {found}", REMEDY)
    _check_files(folder, manifest, report)
    if not report.findings:
        public: PublicFile | None = None
        with report.finding(folder / PUBLIC, REMEDY):
            public = read_public_file(folder / PUBLIC)
            _require_same(public, manifest)
        if public is not None:
            _check_keys(folder, manifest, public, passphrase, report)
            if manifest.party.startswith("matcher-"):
                _check_galleries(folder, manifest, public, report)
        _check_audit(folder, manifest, report)
    return Verified(manifest, found, report)


def _check_files(folder: Path, manifest: Manifest, report: Report) -> None:
    with report.finding(folder, REMEDY):
        for name in sorted(set(files_in(folder)) - manifest.names):
            report.found(folder / name, "", "it is not part of the backup", "remove it: nobody restores it")
    if len(manifest.names) != len(manifest.files):
        report.found(folder, "", "a file is named twice", REMEDY)
    for file in manifest.files:
        path = folder / file.name
        if not is_allowed(manifest.party, file.name):
            report.found(path, "", "no backup of such a party has this file", REMEDY)
            continue
        with report.finding(path, REMEDY):
            if path.is_symlink() or not path.is_file():
                raise IntegrityError("it is missing, or not a file")
            if measured(folder, file.name) != file:
                raise IntegrityError("it is not what was written")
    report.saw(folder, f"{len(manifest.files)} files, {sum(file.bytes for file in manifest.files)} bytes")
    kind, _, _ = manifest.party.partition("-")
    needed = {f"{kind}.toml", PUBLIC, ORGANISATION, SHARE if kind == "keyholder" else GALLERIES}
    for name in sorted(needed - manifest.names):
        report.found(folder / name, "", "it is missing", REMEDY)
    if f"{kind}.toml" in manifest.names and not report.findings:
        with report.finding(folder / f"{kind}.toml", REMEDY):
            got = read_toml(folder / f"{kind}.toml")[0].get("party")
            if got != manifest.letter:
                raise IntegrityError("the configuration of another party", got=got, expected=manifest.letter)


def _require_same(public: PublicFile, manifest: Manifest) -> None:
    for what, got, expected in (
        ("installation", public.installation.hex(), manifest.installation),
        ("key", public.public_key.key_id.hex(), manifest.key_id),
        ("parameter set", public.public_key.parameters.name, manifest.parameters),
    ):
        if got != expected:
            raise KeyMismatchError(f"public.json is of another {what}", got=got, expected=expected)


def _check_keys(folder: Path, manifest: Manifest, public: PublicFile, passphrase: str | None, report: Report) -> None:
    party = manifest.letter
    path = folder / ORGANISATION
    with report.finding(path, REMEDY):
        if passphrase is None:
            require_sealed_organisation(path, party, public)
        else:
            unseal_organisation(path, party, public, passphrase)
        report.saw(path, "opened" if passphrase else "not opened: that takes the passphrase")
    if SHARE in manifest.names:
        path = folder / SHARE
        with report.finding(path, REMEDY):
            sealed = require_sealed(path, party, public)
            if sealed != manifest.epoch:
                raise IntegrityError("the share is of another epoch", got=sealed, expected=manifest.epoch)
            if passphrase is not None:
                unseal(path, party, public, passphrase, epoch=sealed)
            report.saw(path, f"epoch {sealed}, {'opened' if passphrase else 'not opened'}")
    if CERTIFIER in manifest.names:
        path = folder / CERTIFIER
        with report.finding(path, REMEDY):
            if passphrase is None:
                require_sealed_certifier(path, party, public)
            else:
                unseal_certifier(path, party, public, passphrase)


def _check_galleries(folder: Path, manifest: Manifest, public: PublicFile, report: Report) -> None:
    path = folder / GALLERIES
    with report.finding(path, REMEDY), as_this_version(folder, public.public_key) as current:
        if entries_of(current) != manifest.galleries:
            raise IntegrityError("it holds other galleries than the backup says")
        for history in verify_history(current, public.public_key, public.signer):
            if history.broken is not None:
                report.found(path, f"gallery {history.gallery}, change {history.broken_at}", history.broken, REMEDY)
            report.saw(
                path,
                f"gallery {history.gallery}: {history.sequence} changes, {history.templates} templates, chain "
                f"{history.chain.hex()[:16]}",
            )
            for liar in history.accused:
                report.notes.append(f"{path}: a proof is in it that organisation {liar} has lied")


def _check_audit(folder: Path, manifest: Manifest, report: Report) -> None:
    if manifest.audit is None:
        return
    path = folder / AUDIT
    with report.finding(path, REMEDY):
        checked = check_log(path)
        if checked.broken is not None:
            where = f"{checked.broken.file}, line {checked.broken.line}"
            report.found(path, where, checked.broken.why, REMEDY)
        elif (checked.entries, checked.head) != (manifest.audit.entries, manifest.audit.head):
            raise IntegrityError("another log than the backup says", got=checked.entries)
        report.saw(path, f"{checked.entries} entries, head {checked.head[:16]}")
