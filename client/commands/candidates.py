"""`veilmatch candidates PHOTO`: who could this be? Exit status 0 if anyone, 1 if nobody."""

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
    app.command("candidates")(candidates)


def candidates(
    photo: Photo,
    config: Config = DEFAULT_CONFIG,
    threshold: Threshold = None,
    timeout: Timeout = None,
    as_json: Json = False,
) -> None:
    """List every subject that the face in a photo matches; exit status 0 if there is any, 1 if none."""
    with open_client(config) as client, messages().status("Searching"):
        result = client.candidates(*given_photos([photo]), threshold=threshold, timeout_s=timeout)
    done = "the gallery was searched"
    if as_json:
        document = {"subjects": list(result), "compared": result.compared}
        show_json(document | match_document(result), done=done)
    else:
        for subject in result:
            show(subject, done=done)
        found = f"{len(result)} found among {result.compared} templates"
        messages().print(f"{found} ({result.timings.total_s:.2f} s)")
    raise typer.Exit(0 if result else 1)
