"""`veilmatch issue SUBJECT PHOTO`: a card for its person to carry; nobody is enrolled."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from veilmatch.client.commands.base.consent import End, Reference, Version, given_consent
from veilmatch.client.commands.base.options import (
    DEFAULT_CONFIG,
    Config,
    Depth,
    Face,
    Infrared,
    Json,
    Photo,
    Timeout,
    given_shot,
    open_client,
)
from veilmatch.common.output import messages, show, show_json


def register(app: typer.Typer) -> None:
    """Add the command to app."""
    app.command("issue")(issue)


def issue(
    subject: Annotated[str, typer.Argument(help="Whose card it is.")],
    photo: Photo,
    days: Annotated[float, typer.Option(help="Days that the card is good for.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Where the card goes.", readable=False)],
    any_quality: Annotated[
        bool, typer.Option("--accept-any", help="Take a photo whose quality is below the floors of [capture], too.")
    ] = False,
    consent: Reference = None,
    consent_version: Version = None,
    consent_end: End = None,
    config: Config = DEFAULT_CONFIG,
    face: Face = None,
    infrared: Infrared = None,
    depth: Depth = None,
    timeout: Timeout = None,
    as_json: Json = False,
) -> None:
    """Issue a card for the face in a photo. The servers keep its serial and a digest, and no template."""
    from veilmatch.client.commands.card import document

    under = given_consent(consent, consent_version, consent_end)
    with open_client(config, face) as client, messages().status("Issuing"):
        card = client.issue(
            subject, given_shot(photo, infrared, depth), days=days, consent=under, accept_any=any_quality,
            timeout_s=timeout,
        )  # fmt: skip
    card.save(out)
    done = f"issued: a card for {card.subject}, serial {card.serial}, until {card.expires_at:%Y-%m-%d %H:%M} UTC"
    if as_json:
        show_json(document(card), done=done)
    else:
        show(done, done=done)
