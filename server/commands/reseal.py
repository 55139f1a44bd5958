"""`veilmatch reseal`: give the sealed files of a daemon another passphrase."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from veilmatch.common.output import say, show_json


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(reseal)


def reseal(
    config: Annotated[Path, typer.Option(help="keyholder.toml or matcher.toml.", readable=False)] = Path(
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
    """Seal the keys of a key holder or of a matcher under a new passphrase. The keys stay the same.

    An interruption leaves old files: run it again. Copies made before still open with the old passphrase: destroy them.
    """
    from veilmatch.common.public_file import read_public_file
    from veilmatch.server.check.party import load_configuration
    from veilmatch.server.config import KeyHolderSettings
    from veilmatch.server.installation.certifying.certifier_file import reseal_certifier
    from veilmatch.server.installation.organisation_file import reseal_organisation
    from veilmatch.server.installation.passphrase import NEW_VARIABLE, read_passphrase
    from veilmatch.server.installation.sealed import reseal as seal_again

    settings = load_configuration(config)
    public = read_public_file(settings.public_key)
    old = read_passphrase(passphrase_file or settings.passphrase_file)
    new = read_passphrase(new_passphrase_file, confirm=True, variable=NEW_VARIABLE, name="New passphrase")
    party, files = settings.party, [settings.organisation_key]
    # The key share last, so that the whole can be repeated.
    if isinstance(settings, KeyHolderSettings):
        # It may be kept elsewhere: the daemon does not need it.
        if settings.certifier_key.exists():
            reseal_certifier(settings.certifier_key, party, public, old, new)
            files.insert(0, settings.certifier_key)
        files.insert(0, settings.key_file)
    reseal_organisation(settings.organisation_key, party, public, old, new)
    if isinstance(settings, KeyHolderSettings):
        seal_again(settings.key_file, party, public, old, new)
    if as_json:
        document = {"party": settings.party_name, "files": list(map(str, files))}
        show_json(document, done="the files open with the new passphrase from now on")
        return
    for line in (
        *(f"{file} opens with the new passphrase from now on" for file in files),
        "give it to the daemon before its next start, and destroy copies of the old files",
    ):
        say(line)
