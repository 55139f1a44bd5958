"""`veilmatch check`: find what is damaged in a party's files, while its daemon serves."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from veilmatch.common.output import say, show_json

if TYPE_CHECKING:
    from veilmatch.server.check.report import Report

_INTACT, _DAMAGED = 0, 7


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(check)


def check(
    target: Annotated[
        Path,
        typer.Argument(
            help="keyholder.toml or matcher.toml, the folder that it is in, or a data directory.", readable=False
        ),
    ] = Path(),
    passphrase_file: Annotated[
        Path | None,
        typer.Option(help="Of its sealed files, to look into these too; else as the daemon reads it.", readable=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Find what is damaged in the files of a party: databases, audit log, keys, certificates. Changes nothing.

    The daemon may run. Exit status: 0 nothing is damaged; 3 nothing to check there; 7 something is, and is named with
    what to do about it.
    """
    from veilmatch.server.check.party import check_data, check_party, find_configuration, load_configuration
    from veilmatch.server.installation.passphrase import VARIABLE, read_passphrase

    path = find_configuration(target)
    if path is None:
        report = check_data(target)
    else:
        settings, passphrase = load_configuration(path), None
        file = passphrase_file or settings.passphrase_file
        # Nobody is asked: a check runs by a timer.
        if passphrase_file is not None or VARIABLE in os.environ or (file is not None and file.exists()):
            passphrase = read_passphrase(file)
        report = check_party(settings, passphrase)
    if as_json:
        show_json(report.document(), done="the files were looked at")
    else:
        _show(report)
    raise typer.Exit(_DAMAGED if report.findings else _INTACT)


def _show(report: Report) -> None:
    for file, what in report.looked_at:
        say(f"looked at {file}: {what}")
    for note in report.notes:
        say(f"note: {note}")
    for finding in report.findings:
        say(f"DAMAGED {finding.file}{': ' * bool(finding.where)}{finding.where}: {finding.what}")
        say(f"  what to do: {finding.remedy}")
    say(f"{len(report.findings)} damaged" if report.findings else "nothing is damaged")
