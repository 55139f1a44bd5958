"""`veilmatch reseal`: give a key holder's sealed key file another passphrase."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(reseal)


def reseal(
    config: Annotated[Path, typer.Option(help="keyholder.toml of the key holder.")] = Path("keyholder.toml"),
    passphrase_file: Annotated[
        Path | None,
        typer.Option(help="File with the present passphrase; else as the daemon reads it."),
    ] = None,
    new_passphrase_file: Annotated[
        Path | None,
        typer.Option(help="File with the new passphrase; else VEILMATCH_NEW_PASSPHRASE, else a prompt."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Seal the key file of a key holder under a new passphrase. The key in it stays what it is.

    An interruption leaves the old file. Copies made before still open with the old passphrase: destroy them.
    """
    from veilmatch.server.config import KeyHolderSettings
    from veilmatch.server.installation.passphrase import NEW_VARIABLE, read_passphrase
    from veilmatch.server.installation.public_file import read_public_file
    from veilmatch.server.installation.sealed import reseal as seal_again

    settings = KeyHolderSettings.load(config)
    public = read_public_file(settings.public_key)
    old = read_passphrase(passphrase_file or settings.passphrase_file)
    new = read_passphrase(new_passphrase_file, confirm=True, variable=NEW_VARIABLE, name="New passphrase")
    seal_again(settings.key_file, settings.party, public, old, new)
    if as_json:
        sys.stdout.write(json.dumps({"party": settings.party_name, "key_file": str(settings.key_file)}) + "\n")
        return
    for line in (
        f"{settings.key_file} opens with the new passphrase from now on",
        "give it to the daemon before its next start, and destroy copies of the old file",
    ):
        Console(stderr=True).print(line, soft_wrap=True, highlight=False, markup=False)
