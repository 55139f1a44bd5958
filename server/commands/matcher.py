"""`veilmatch matcher`: run a matcher."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from veilmatch.server.commands._daemon import daemon
from veilmatch.server.config import MatcherSettings


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def matcher(
        config: Annotated[Path, typer.Option(help="matcher.toml of this matcher.", readable=False)] = Path(
            "matcher.toml"
        ),
    ) -> None:
        """Run a matcher until SIGTERM. What it says is JSON, one line each, on standard error.

        The passphrase of its signing key comes from the configured file, from VEILMATCH_PASSPHRASE or from a prompt.
        """
        with daemon("matcher") as named:
            from veilmatch.common.public_file import read_public_file
            from veilmatch.server.installation.organisation_file import unseal_organisation
            from veilmatch.server.installation.passphrase import read_passphrase
            from veilmatch.server.matcher.daemon import run_matcher

            settings = MatcherSettings.load(config)
            named(settings.party_name)
            public = read_public_file(settings.public_key)
            passphrase = read_passphrase(settings.passphrase_file)
            own = unseal_organisation(settings.organisation_key, settings.party, public, passphrase)
            new = None
            if settings.rotation is not None:
                new_public = read_public_file(settings.rotation.public_key)
                new_own = unseal_organisation(settings.rotation.signing_key, settings.party, new_public, passphrase)
                new = new_public, new_own
            raise typer.Exit(run_matcher(settings, public, own, partial(MatcherSettings.load, config), new))
