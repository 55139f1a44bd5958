"""`veilmatch backup make`, `verify` and `restore`: what of a party may be put back, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from veilmatch.common.output import say, show, show_json

if TYPE_CHECKING:
    from veilmatch.server.backup.verifying import Verified

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Backup = Annotated[Path, typer.Argument(help="Folder of a backup.", readable=False)]
Digest = Annotated[
    str | None, typer.Option(help="As it was said when the backup was made: finds what was altered on purpose, too.")
]
_INTACT, _DAMAGED = 0, 7


def register(app: typer.Typer) -> None:
    """Add the commands."""
    backup = typer.Typer(help="Backups of a party, without what must never be put back.", no_args_is_help=True)
    backup.command()(make)
    backup.command()(verify)
    backup.command()(restore)
    app.add_typer(backup, name="backup")


def make(
    into: Annotated[Path, typer.Argument(help="Folder in which the backup appears, as PARTY-TIME.", readable=False)],
    config: Annotated[
        Path, typer.Option(help="keyholder.toml or matcher.toml, or the folder that it is in.", readable=False)
    ] = Path(),
    without_audit: Annotated[
        bool, typer.Option("--without-audit", help="Leave the audit log out: it is kept elsewhere anyway.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Take of a party what may be taken: sealed keys, configuration, certificates; galleries; the audit log.

    Its daemon may run. Never taken: stock, nonces, budgets, unencrypted keys, passphrases. Everything is verified
    before the backup appears. Exit status: 7 what is there is damaged, and there is no backup.
    """
    from veilmatch.crypto.errors import ConfigurationError
    from veilmatch.server.backup.making import make as make_backup
    from veilmatch.server.check.party import find_configuration, load_configuration

    path = find_configuration(config)
    if path is None:
        raise ConfigurationError("a data directory alone", got=str(config), expected="keyholder.toml or matcher.toml")
    made = make_backup(load_configuration(path), path, into, with_audit=not without_audit)
    done = f"the backup was made: {made.path}"
    if as_json:
        show_json({"path": str(made.path)} | made.verified.document(), done=done)
        return
    show(f"{made.path}: {_said(made.verified)}", done=done)
    say(f"digest {made.verified.digest}: note it elsewhere, for `veilmatch backup verify --digest`")
    for what, why in made.verified.manifest.left_out.items():
        say(f"not taken: {what}: {why}")
    if not made.noted:
        say("metrics will not tell of it: the data directory cannot be written by this user; run it as the daemon's")


def verify(
    backup: Backup,
    digest: Digest = None,
    passphrase_file: Annotated[
        Path | None, typer.Option(help="Of the sealed files in it, to open these too.", readable=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """See whether a backup is whole and sound: every file, the chain of each gallery and who signed it, the audit log.

    Exit status: 0 it is; 3 it is no backup; 7 it is damaged, and what is wrong is named, or newer than this program.
    """
    from veilmatch.server.backup.verifying import verify as verify_backup
    from veilmatch.server.installation.passphrase import read_passphrase

    passphrase = read_passphrase(passphrase_file) if passphrase_file is not None else None
    verified = verify_backup(backup, digest=digest, passphrase=passphrase)
    findings = verified.report.findings
    done = "the backup was verified"
    if as_json:
        show_json(verified.document(), done=done)
    else:
        show(f"{_said(verified)}: {f'{len(findings)} damaged' if findings else 'nothing is damaged'}", done=done)
        say(f"digest {verified.digest}")
        for file, what in verified.report.looked_at:
            say(f"looked at {file}: {what}")
        for finding in findings:
            say(f"DAMAGED {finding.file}{': ' * bool(finding.where)}{finding.where}: {finding.what}")
            say(f"  what to do: {finding.remedy}")
    raise typer.Exit(_DAMAGED if findings else _INTACT)


def restore(
    backup: Backup,
    folder: Annotated[Path, typer.Argument(help="The party's folder: a new one, or the one it has.", readable=False)],
    digest: Digest = None,
    as_json: AsJson = False,
) -> None:
    """Put what is missing in a party's folder back, with its daemon stopped. Nothing is written over.

    A key holder begins with a fresh stock. Galleries come back as an old copy: their matcher takes part when it has met
    the others. Exit status: 3 the folder is another party's, in use, or has data already; 5 it is of another
    installation; 7 the backup is damaged, or newer than this program.
    """
    from veilmatch.server.backup.restoring import restore as restore_backup

    done = restore_backup(backup, folder, digest=digest)
    if as_json:
        show_json(done.document(), done=f"{done.party} was restored")
        return
    show(f"{done.party} is in {done.folder}: {len(done.written)} files put back", done=f"{done.party} was restored")
    if done.kept:
        say(f"there already, and left as they are: {', '.join(done.kept)}")
    for line in done.elsewhere:
        say(f"outside of the folder, so put it there yourself: {line}")
    for number, line in enumerate(done.notes, 1):
        say(f"{number}. {line}")


def _said(verified: Verified) -> str:
    manifest = verified.manifest
    what = [f"gallery {one.name} at change {one.sequence}" for one in manifest.galleries]
    what += [f"shares of epoch {manifest.epoch}"] if manifest.epoch is not None else []
    what += [f"{manifest.audit.entries} audit entries"] if manifest.audit is not None else []
    return f"{manifest.party} as of {manifest.made_at:%Y-%m-%d %H:%M} UTC, {', '.join(what)}"
