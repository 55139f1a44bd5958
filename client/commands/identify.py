"""`veilmatch identify PHOTO`: who is this, if anyone? Exit status 0 if somebody, 1 if nobody."""

from __future__ import annotations

import typer

from veilmatch.client.commands.base.options import (
    DEFAULT_CONFIG,
    Assured,
    Config,
    Depth,
    Face,
    Infrared,
    Json,
    Mirror,
    Photo,
    Threshold,
    Timeout,
    View,
    given_shot,
    given_views,
    match_document,
    open_client,
)
from veilmatch.client.commands.base.recipient import Challenge, Out, Recipient, ask_for, require_recipient
from veilmatch.common.output import messages, show, show_json


def register(app: typer.Typer) -> None:
    """Add the command to app."""
    app.command("identify")(identify)


def identify(
    photo: Photo,
    view: View = None,
    mirror: Mirror = False,
    config: Config = DEFAULT_CONFIG,
    threshold: Threshold = None,
    assured: Assured = False,
    face: Face = None,
    infrared: Infrared = None,
    depth: Depth = None,
    timeout: Timeout = None,
    recipient: Recipient = None,
    challenge: Challenge = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Name the one subject that the face in a photo matches best; exit status 0 is somebody, 1 is nobody."""
    if recipient is not None:
        views = given_views(photo, view)
        shown = given_shot(photo, infrared, depth)
        with open_client(config, face) as client:
            ask_for(
                client, recipient, challenge, out,
                lambda for_, given: for_.identify(
                    shown, views=views, mirror=mirror, challenge=given, threshold=threshold,
                    assured=assured or None, timeout_s=timeout,
                ),
                as_json=as_json,
            )  # fmt: skip
    require_recipient(challenge, out)
    with open_client(config, face) as client, messages().status("Identifying"):
        result = client.identify(
            given_shot(photo, infrared, depth), views=given_views(photo, view), mirror=mirror,
            threshold=threshold, assured=assured or None, timeout_s=timeout,
        )  # fmt: skip
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
