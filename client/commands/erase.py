"""`veilmatch erase SUBJECT`: remove all templates of a subject from the gallery, or that of one enrolment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from veilmatch.client.commands.base.options import DEFAULT_CONFIG, Config, Json, Timeout, open_client
from veilmatch.client.commands.receipt import write
from veilmatch.common.output import messages, show, show_json
from veilmatch.crypto.errors import InvalidInputError, VeilmatchError


def register(app: typer.Typer) -> None:
    """Add the command to app."""
    app.command("erase")(erase)


def erase(
    subject: Annotated[str, typer.Argument(help="Whose templates to remove.")],
    enrolment: Annotated[
        str | None,
        typer.Option(
            metavar="TOKEN", help="Take back one enrolment of this device alone, as an error about it names it."
        ),
    ] = None,
    receipt: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Where the receipt goes, signed by two organisations.",
            readable=False,
        ),
    ] = None,
    config: Config = DEFAULT_CONFIG,
    timeout: Timeout = None,
    as_json: Json = False,
) -> None:
    """Remove all templates of a subject from the gallery, at all organisations."""
    with open_client(config) as client, messages().status("Erasing"):
        if enrolment is None:
            result = client.erase(subject, timeout_s=timeout)
        else:
            result = client.take_back(subject, _token(enrolment), timeout_s=timeout)
    if receipt is not None:
        if result.receipt is None:
            raise VeilmatchError(
                "the templates are erased, and the servers gave no receipt", expected="servers that do"
            )
        write(receipt, result.receipt.encode())
    done = f"erased: {subject} (templates: {result.templates})"
    if as_json:
        document = {
            "subject": subject,
            "templates": result.templates,
            "sequence": result.sequence,
            "request_id": result.request_id,
        }
        show_json(document, done=done)
    else:
        show(done, done=done)


def _token(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise InvalidInputError(
            "the token of an enrolment is hexadecimal",
            got=f"{len(text)} characters, not all of them hexadecimal",
            expected="32 digits",
        ) from None
