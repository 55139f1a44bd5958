"""`veilmatch known PHOTO`: is this anybody who is enrolled? Exit status 0 if so, 1 if not."""

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
    app.command("known")(known)


def known(
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
    """Say whether the face in a photo matches anybody, and not whom; exit status 0 if it does, 1 if not."""
    if recipient is not None:
        views = given_views(photo, view)
        shown = given_shot(photo, infrared, depth)
        with open_client(config, face) as client:
            ask_for(
                client, recipient, challenge, out,
                lambda for_, given: for_.known(
                    shown, views=views, mirror=mirror, challenge=given, threshold=threshold,
                    assured=assured or None, timeout_s=timeout,
                ),
                as_json=as_json,
            )  # fmt: skip
    require_recipient(challenge, out)
    with open_client(config, face) as client, messages().status("Searching"):
        result = client.known(
            given_shot(photo, infrared, depth), views=given_views(photo, view), mirror=mirror,
            threshold=threshold, assured=assured or None, timeout_s=timeout,
        )  # fmt: skip
    done = "the gallery was searched"
    if as_json:
        show_json({"known": result.decision} | match_document(result), done=done)
    else:
        show(f"{'known' if result else 'not known'} ({result.timings.total_s:.2f} s)", done=done)
    raise typer.Exit(0 if result else 1)
