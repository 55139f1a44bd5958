"""`veilmatch subjects`: who is enrolled, and with how many templates."""

from __future__ import annotations

from dataclasses import asdict

import typer

from veilmatch.client.commands.base.options import DEFAULT_CONFIG, Config, Json, Timeout, open_client
from veilmatch.common.output import messages, say, show, show_json


def register(app: typer.Typer) -> None:
    """Add the command to app."""
    app.command("subjects")(subjects)


def subjects(config: Config = DEFAULT_CONFIG, timeout: Timeout = None, as_json: Json = False) -> None:
    """List the subjects of the gallery with their number of templates."""
    with open_client(config) as client, messages().status("Asking"):
        entries = client.subjects(timeout_s=timeout)
    done = "the list of subjects was read"
    if as_json:
        document = {"subjects": [asdict(entry) for entry in entries], "request_id": entries.request_id}
        show_json(document, done=done)
        return
    if not entries:
        say("nobody is enrolled in this gallery")
    for entry in entries:
        show(f"{entry.subject}\t{entry.templates}", done=done)
