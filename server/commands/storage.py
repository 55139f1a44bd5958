"""`veilmatch storage status`: what the databases of a daemon are, before an upgrade and after it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from veilmatch.common.output import show_json, show_tables

if TYPE_CHECKING:
    from veilmatch.server.check.revisions import Found

_DONE, _REFUSED = 0, 7
_WORDS = {
    "current": "as this version has it",
    "earlier": "the next start of the daemon brings it up",
    "not there yet": "made at the next start of the daemon",
}


def register(app: typer.Typer) -> None:
    """Add the commands."""
    storage = typer.Typer(help="The databases of a daemon.", no_args_is_help=True)
    storage.command()(status)
    # With one command alone, typer would leave its name out.
    storage.callback()(lambda: None)
    app.add_typer(storage, name="storage")


def status(
    target: Annotated[
        Path, typer.Argument(help="keyholder.toml or matcher.toml, or the folder that it is in.", readable=False)
    ] = Path(),
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Show the revision of every database of a daemon, and the one that this version of Veilmatch has.

    The daemon may run; nothing is written. Exit status: 0 this version can open all of them; 3 no configuration there;
    7 one is newer than this version, or cannot be read, and the reason is shown.
    """
    from veilmatch.crypto.errors import ConfigurationError
    from veilmatch.server.check.party import find_configuration, load_configuration
    from veilmatch.server.check.revisions import revisions_of

    path = find_configuration(target)
    if path is None:
        raise ConfigurationError("a data directory alone", got=str(target), expected="keyholder.toml or matcher.toml")
    settings = load_configuration(path)
    found = revisions_of(settings)
    done = "the databases were looked at"
    if as_json:
        document = {"party": settings.party_name, "databases": [one.document() for one in found]}
        show_json(document, done=done)
    else:
        show_tables(_table(settings.party_name, found), done=done)
    raise typer.Exit(_REFUSED if any(one.state == "refused" for one in found) else _DONE)


def _table(party: str, found: list[Found]) -> Table:
    table = Table("database", "revision", "this version has", "", title=f"databases of {party}")
    for one in found:
        none = "-" if one.state == "not there yet" else "before revisions"
        words = Text(one.why or _WORDS[one.state])
        table.add_row(Text(one.place), one.revision or none, one.known, words)
    return table
