"""`veilmatch key check`: what anybody can find out about a public key."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from veilmatch.common.output import say, show_json, show_tables


def register(app: typer.Typer) -> None:
    """Add the command."""
    key = typer.Typer(help="Public keys of installations.", no_args_is_help=True)
    key.callback()(_group)
    key.command()(check)
    app.add_typer(key, name="key")


def _group() -> None:
    """Public keys of installations."""


def check(
    public: Annotated[Path, typer.Argument(help="public.json of an installation.", readable=False)],
    transcript: Annotated[
        Path | None, typer.Option(help="ceremony.json, which the three organisations have signed.", readable=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Check a public key, and say what that proves and what it does not. Exit status 7: it is unsound.

    How a key was made cannot be seen from it. Whether an installation converts with it: `veilmatch canary`.
    """
    from veilmatch.server.check.public_key import check_public_key

    file, found = check_public_key(public, transcript)
    key_id = file.public_key.key_id.hex()
    if as_json:
        checks = [{"holds": one.what, "proves": one.proves, "leaves_open": one.leaves} for one in found]
        document = {"key_id": key_id, "parameter_set": file.public_key.parameters.name, "checks": checks}
        show_json(document, done="the key was checked")
        return
    table = Table("holds", "what it proves", "what it leaves open", title=f"key {key_id}")
    for one in found:
        table.add_row(one.what, one.proves, one.leaves)
    show_tables(table, done="the key was checked")
    if transcript is None:
        say("with --transcript ceremony.json: whether three organisations have signed that they made it together")
