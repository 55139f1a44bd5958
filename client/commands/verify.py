"""`veilmatch verify SUBJECT PHOTO`, or `--record CARD PHOTO`: is this the subject? Exit status 0 if so, 1 if not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
from veilmatch.crypto.errors import InvalidInputError

if TYPE_CHECKING:
    from veilmatch.client.card import Card


def register(app: typer.Typer) -> None:
    """Add the command to app."""
    app.command("verify")(verify)


def verify(
    subject: Annotated[str, typer.Argument(help="Who it is said to be; a card says that itself.")],
    photo: Annotated[
        str | None, typer.Argument(help="A photo with one face; - for standard input.", show_default=False)
    ] = None,
    record: Annotated[
        Path | None,
        typer.Option(metavar="CARD", help="Compare with this card, not with who is enrolled.", readable=False),
    ] = None,
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
    """Compare the face in a photo with an enrolled subject, or with a card; exit status 0 is a match, 1 is none."""
    claimed, subject, photo = _claimed(subject, photo, record)
    if recipient is not None:
        views = given_views(photo, view)
        shown = given_shot(photo, infrared, depth)
        with open_client(config, face) as client:
            ask_for(
                client, recipient, challenge, out,
                lambda for_, given: for_.verify(
                    claimed, shown, views=views, mirror=mirror, challenge=given, threshold=threshold,
                    assured=assured or None, timeout_s=timeout,
                ),
                as_json=as_json,
            )  # fmt: skip
    require_recipient(challenge, out)
    with open_client(config, face) as client, messages().status("Verifying"):
        result = client.verify(
            claimed, given_shot(photo, infrared, depth), views=given_views(photo, view), mirror=mirror,
            threshold=threshold, assured=assured or None, timeout_s=timeout,
        )  # fmt: skip
    done = f"{subject} was compared"
    if as_json:
        show_json({"match": result.decision, "subject": subject} | match_document(result), done=done)
    else:
        show(f"{'match' if result else 'no match'}: {subject} ({result.timings.total_s:.2f} s)", done=done)
    raise typer.Exit(0 if result else 1)


def _claimed(subject: str, photo: str | None, record: Path | None) -> tuple[str | Card, str, str]:
    """Return who is claimed to be there, the name, and the photo: with a card it may stand alone."""
    if record is None:
        if photo is None:
            raise typer.BadParameter("SUBJECT and PHOTO, or --record CARD and PHOTO", param_hint="PHOTO")
        return subject, subject, photo
    from veilmatch.client.card import Card

    card = Card.load(record)
    if photo is None:
        return card, card.subject, subject
    if subject != card.subject:
        raise InvalidInputError("the card is for another subject", got=subject[:60], expected="the name on the card")
    return card, card.subject, photo
