"""`veilmatch keyholder`: run a key holder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from veilmatch.server.config import KeyHolderSettings


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def keyholder(
        config: Annotated[Path, typer.Option(help="keyholder.toml of this key holder.")] = Path("keyholder.toml"),
    ) -> None:
        """Run a key holder until SIGTERM.

        The passphrase of its key file comes from the configured file, from VEILMATCH_PASSPHRASE or from a prompt.
        """
        from veilmatch.server.keyholder.daemon import run_keyholder
        from veilmatch.server.keyholder.opening import open_key

        settings = KeyHolderSettings.load(config)
        public, key = open_key(settings)
        raise typer.Exit(run_keyholder(settings, public, key))
