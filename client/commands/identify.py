"""`veilmatch identify PHOTO`: who is this, if anyone? Exit status 0 if somebody, 1 if nobody."""

from __future__ import annotations

import typer

from veilmatch.client.commands._options import (
    DEFAULT_CONFIG,
    Config,
    Json,
    Photo,
    Threshold,
    Timeout,
    given_photos,
    match_document,
    open_client,
)
from veilmatch.common.output import messages, show, show_json


def register(app: typer.Typer) -> None:
    """Add the command to app."""
    app.command("identify")(identify)


def identify(
    photo: Photo,
    config: Config = DEFAULT_CONFIG,
    threshold: Threshold = None,
    timeout: Timeout = None,
    as_json: Json = False,
) -> None:
    """Name the one subject that the face in a photo matches best; exit status 0 is somebody, 1 is nobody."""
    with open_client(config) as client, messages().status("Identifying"):
        result = client.identify(*given_photos([photo]), threshold=threshold, timeout_s=timeout)
    done = "the gallery was searched"
    if as_json:
        document = {"match": result.decision, "subject": result.subject, "compared": result.compared}
        show_json(document | match_document(result), done=done)
    else:
        # A subject may be called "nobody": standard output has a line only if there is one.
        if result.subject is not None:
            show(result.subject, done=done)
        found = "best match" if result else "nobody"
        messages().print(f"{found} among {result.compared} templates ({result.timings.total_s:.2f} s)")
    raise typer.Exit(0 if result else 1)
