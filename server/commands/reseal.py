"""`veilmatch reseal`: give the sealed files of a key holder's organisation another passphrase."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from veilmatch.common.output import say, show_json


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(reseal)


def reseal(
    config: Annotated[Path, typer.Option(help="keyholder.toml of the key holder.", readable=False)] = Path(
        "keyholder.toml"
    ),
    passphrase_file: Annotated[
        Path | None,
        typer.Option(help="File with the present passphrase; else as the daemon reads it.", readable=False),
    ] = None,
    new_passphrase_file: Annotated[
        Path | None,
        typer.Option(
            help="File with the new passphrase; else VEILMATCH_NEW_PASSPHRASE, else a prompt.", readable=False
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Seal the key file of a key holder, and its certification key, under a new passphrase. The keys stay the same.

    An interruption leaves old files: run it again. Copies made before still open with the old passphrase: destroy them.
    """
    from veilmatch.common.public_file import read_public_file
    from veilmatch.server.config import KeyHolderSettings
    from veilmatch.server.installation.certifier_file import reseal_certifier
    from veilmatch.server.installation.passphrase import NEW_VARIABLE, read_passphrase
    from veilmatch.server.installation.sealed import reseal as seal_again

    settings = KeyHolderSettings.load(config)
    public = read_public_file(settings.public_key)
    old = read_passphrase(passphrase_file or settings.passphrase_file)
    new = read_passphrase(new_passphrase_file, confirm=True, variable=NEW_VARIABLE, name="New passphrase")
    files = [settings.key_file]
    # It may be kept elsewhere: the daemon does not need it. First, so that the whole can be repeated.
    if settings.certifier_key.exists():
        reseal_certifier(settings.certifier_key, settings.party, public, old, new)
        files.append(settings.certifier_key)
    seal_again(settings.key_file, settings.party, public, old, new)
    if as_json:
        document = {"party": settings.party_name, "files": list(map(str, files))}
        show_json(document, done="the files open with the new passphrase from now on")
        return
    for line in (
        *(f"{file} opens with the new passphrase from now on" for file in files),
        "give it to the daemon before its next start, and destroy copies of the old files",
    ):
        say(line)
