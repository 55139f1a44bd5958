"""`veilmatch candidates PHOTO`: who could this be? Exit status 0 if anyone, 1 if nobody."""

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
    app.command("candidates")(candidates)


def candidates(
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
    """List every subject that the face in a photo matches; exit status 0 if there is any, 1 if none."""
    if recipient is not None:
        views = given_views(photo, view)
        shown = given_shot(photo, infrared, depth)
        with open_client(config, face) as client:
            ask_for(
                client, recipient, challenge, out,
                lambda for_, given: for_.candidates(
                    shown, views=views, mirror=mirror, challenge=given, threshold=threshold,
                    assured=assured or None, timeout_s=timeout,
                ),
                as_json=as_json,
            )  # fmt: skip
    require_recipient(challenge, out)
    with open_client(config, face) as client, messages().status("Searching"):
        result = client.candidates(
            given_shot(photo, infrared, depth), views=given_views(photo, view), mirror=mirror,
            threshold=threshold, assured=assured or None, timeout_s=timeout,
        )  # fmt: skip
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
