"""`veilmatch retain`: erase what is not to be kept any longer, as a timer runs it."""

from __future__ import annotations

import typer

from veilmatch.client.commands.base.options import DEFAULT_CONFIG, Config, Json, Timeout, open_client
from veilmatch.common.output import messages, show, show_json


def register(app: typer.Typer) -> None:
    """Add the command to app."""
    app.command("retain")(retain)


def retain(config: Config = DEFAULT_CONFIG, timeout: Timeout = None, as_json: Json = False) -> None:
    """Erase every template that is due by the configuration and the clock of both organisations of a pair.

    For a device that has the right `retain` and no other. It may run anywhere, and as often as one likes; what would be
    erased, `veilmatch gallery retention` shows at each matcher.
    """
    with open_client(config) as client, messages().status("Erasing what is due"):
        result = client.retain(timeout_s=timeout)
    done = f"erased what was due (templates: {result.templates})"
    if as_json:
        document = {"templates": result.templates, "sequence": result.sequence, "request_id": result.request_id}
        show_json(document, done=done)
    else:
        show(done, done=done)
