"""`veilmatch erase SUBJECT`: remove all templates of a subject from the gallery."""

from __future__ import annotations

from typing import Annotated

import typer

from veilmatch.client.commands._options import DEFAULT_CONFIG, Config, Json, Timeout, open_client
from veilmatch.client.commands._output import messages, show, show_json


def register(app: typer.Typer) -> None:
    """Add the command to app."""
    app.command("erase")(erase)


def erase(
    subject: Annotated[str, typer.Argument(help="Whose templates to remove.")],
    config: Config = DEFAULT_CONFIG,
    timeout: Timeout = None,
    as_json: Json = False,
) -> None:
    """Remove all templates of a subject from the gallery, at both matchers."""
    with open_client(config) as client, messages().status("Erasing"):
        result = client.erase(subject, timeout_s=timeout)
    if as_json:
        show_json({"subject": subject, "templates": result.templates, "sequence": result.sequence})
    else:
        show(f"erased: {subject} (templates: {result.templates})")
