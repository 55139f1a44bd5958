"""`veilmatch keyholder`: run a key holder; `veilmatch keyholder refresh`: have its daemon refresh the key shares."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from veilmatch.server.config import KeyHolderSettings

Config = Annotated[Path, typer.Option(help="keyholder.toml of this key holder.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    keyholder = typer.Typer(invoke_without_command=True)
    keyholder.callback()(run)
    keyholder.command()(refresh)
    app.add_typer(keyholder, name="keyholder")


def run(ctx: typer.Context, config: Config = Path("keyholder.toml")) -> None:
    """Run a key holder until SIGTERM.

    The passphrase of its key file comes from the configured file, from VEILMATCH_PASSPHRASE or from a prompt.
    """
    if ctx.invoked_subcommand is not None:
        ctx.obj = config
        return
    from veilmatch.server.keyholder.daemon import run_keyholder
    from veilmatch.server.keyholder.refresh.opening import open_key_files

    settings = KeyHolderSettings.load(config)
    raise typer.Exit(run_keyholder(settings, open_key_files(settings)))


def refresh(
    ctx: typer.Context,
    config: Annotated[Path | None, typer.Option(help="keyholder.toml of this key holder.")] = None,
    status: Annotated[bool, typer.Option("--status", help="Only say how far this key holder is.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Give all three key holders fresh shares of the same key. Their daemons do it, and go on serving.

    All three have to be up. An interrupted refresh leaves the old shares in use, or is finished by the daemons.
    """
    from veilmatch.server.keyholder.refresh.command import ask_daemon

    settings = KeyHolderSettings.load(config or ctx.obj)
    result = asyncio.run(ask_daemon(settings, refresh=not status))
    if as_json:
        sys.stdout.write(json.dumps(result) + "\n")
        return
    lines = [f"{result['party']} uses the shares of epoch {result['epoch']}"]
    if result["waiting"]:
        lines.append("shares of the next epoch wait: a refresh is not finished, the old shares serve on until it is")
    if result["keeps_old"]:
        lines.append("the shares of the epoch before are still here: not all three are known to have the new ones yet")
    for line in lines:
        Console(stderr=True).print(line, soft_wrap=True, highlight=False, markup=False)
