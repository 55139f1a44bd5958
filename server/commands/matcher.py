"""`veilmatch matcher`: run a matcher."""

from __future__ import annotations

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
        """Run a matcher until SIGTERM. What it says is JSON, one line each, on standard error."""
        with daemon("matcher") as named:
            from veilmatch.common.public_file import read_public_file
            from veilmatch.server.matcher.daemon import run_matcher

            settings = MatcherSettings.load(config)
            named(settings.party_name)
            raise typer.Exit(run_matcher(settings, read_public_file(settings.public_key)))
