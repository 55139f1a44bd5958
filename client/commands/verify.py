"""`veilmatch verify SUBJECT PHOTO`: is this the subject? Exit status 0 if so, 1 if not."""

from __future__ import annotations

from typing import Annotated

import typer

from veilmatch.client.commands.base.options import (
    DEFAULT_CONFIG,
    Assured,
    Config,
    Json,
    Photo,
    Threshold,
    Timeout,
    given_photos,
    match_document,
    open_client,
)
from veilmatch.client.commands.base.recipient import Challenge, Out, Recipient, ask_for, require_recipient
from veilmatch.common.output import messages, show, show_json


def register(app: typer.Typer) -> None:
    """Add the command to app."""
    app.command("verify")(verify)


def verify(
    subject: Annotated[str, typer.Argument(help="Who it is said to be.")],
    photo: Photo,
    config: Config = DEFAULT_CONFIG,
    threshold: Threshold = None,
    assured: Assured = False,
    timeout: Timeout = None,
    recipient: Recipient = None,
    challenge: Challenge = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Compare the face in a photo with an enrolled subject; exit status 0 is a match, 1 is none."""
    if recipient is not None:
        (face,) = given_photos([photo])
        with open_client(config) as client:
            ask_for(
                client, recipient, challenge, out,
                lambda for_, given: for_.verify(
                    subject, face, challenge=given, threshold=threshold, assured=assured or None, timeout_s=timeout
                ),
                as_json=as_json,
            )  # fmt: skip
    require_recipient(challenge, out)
    with open_client(config) as client, messages().status("Verifying"):
        result = client.verify(
            subject, *given_photos([photo]), threshold=threshold, assured=assured or None, timeout_s=timeout
        )
    done = f"{subject} was compared"
    if as_json:
        show_json({"match": result.decision, "subject": subject} | match_document(result), done=done)
    else:
        show(f"{'match' if result else 'no match'}: {subject} ({result.timings.total_s:.2f} s)", done=done)
    raise typer.Exit(0 if result else 1)
