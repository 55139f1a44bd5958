"""`veilmatch compare PHOTO OTHER`: do two photos show one person? On this device, without a server."""

from __future__ import annotations

from typing import Annotated

import typer

from veilmatch.client.commands.base.options import Json, given_photos
from veilmatch.client.operations.comparing import DEFAULT_THRESHOLD
from veilmatch.client.operations.comparing import compare as compared
from veilmatch.common.output import messages, show, show_json


def register(app: typer.Typer) -> None:
    """Add the command to app."""
    app.command("compare")(compare)


def compare(
    photo: Annotated[str, typer.Argument(help="A photo with one face; - for standard input.")],
    other: Annotated[str, typer.Argument(help="Another one.")],
    threshold: Annotated[
        float, typer.Option("--threshold", help="Cosine from which two faces match, above 0 up to 1.")
    ] = DEFAULT_THRESHOLD,
    as_json: Json = False,
) -> None:
    """Compare the faces in two photos on this device, in clear; exit status 0 is a match, 1 is none.

    Asks no server and needs no installation: to see whether photos are good enough. `verify` asks servers, which see no
    face.
    """
    with messages().status("Comparing on this device"):
        result = compared(*given_photos([photo, other]), threshold=threshold)
    done = "the photos were compared on this device"
    if as_json:
        document = {"match": result.decision, "threshold": result.threshold, "model": result.model}
        show_json(document | {"total_s": round(result.total_s, 6)}, done=done)
    else:
        show(f"{'match' if result else 'no match'}: on this device ({result.total_s:.2f} s)", done=done)
    raise typer.Exit(0 if result else 1)
