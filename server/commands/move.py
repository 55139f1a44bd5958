"""`veilmatch move`: from an installation of two matchers to three organisations that are alike."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.table import Table
from rich.text import Text

from veilmatch.common.output import messages, say, say_tables, show_json


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(move)


def move(
    old: Annotated[
        Path, typer.Argument(help="Directory with all folders of an installation of two matchers.", readable=False)
    ],
    new: Annotated[Path, typer.Argument(help="New directory for the same installation.", readable=False)],
    dealer_only: Annotated[
        Literal["c"] | None,
        typer.Option(help="Leave out the matcher of organisation c, which then only deals: pair ab serves alone."),
    ] = None,
    matcher_c: Annotated[
        str | None,
        typer.Option(help="HOST:PORT of the matcher of organisation c; ten ports below its key holder unless said."),
    ] = None,
    passphrase_file: Annotated[
        Path | None,
        typer.Option(help="File with the passphrase; else VEILMATCH_PASSPHRASE, else a prompt.", readable=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Move an installation of two matchers to three organisations that are alike. Nobody is enrolled again.

    All five daemons are stopped. OLD is only read: keep it until the new one serves, then destroy it.
    """
    from veilmatch.server.installation.passphrase import read_passphrase
    from veilmatch.server.moving.installation import move_installation

    passphrase = read_passphrase(passphrase_file)
    with messages().status("moving keys, certificates and galleries"):
        galleries = move_installation(old, new, passphrase, dealer_only=dealer_only is not None, address_c=matcher_c)
    if as_json:
        document = {name: {"templates": of.templates, "sequence": of.sequence} for name, of in galleries.items()}
        show_json({"directory": str(new), "galleries": document}, done=f"the installation is in {new}")
        return
    table = Table("gallery", "templates", "changes")
    for name, moved in galleries.items():
        table.add_row(Text(name), str(moved.templates), str(moved.sequence))
    say_tables(table)
    say(f"The installation is in {new}. Copy each daemon's folder to its machine, and public.json to every device.")
