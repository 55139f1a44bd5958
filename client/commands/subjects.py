"""`veilmatch subjects`: who is enrolled, and with how many templates."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from veilmatch.client.commands.base.options import DEFAULT_CONFIG, Config, Json, Timeout, open_client
from veilmatch.client.commands.subject import consent_document, enrolled_at
from veilmatch.common.output import messages, say, show, show_json


def register(app: typer.Typer) -> None:
    """Add the command to app."""
    app.command("subjects")(subjects)


def subjects(
    consent: Annotated[
        bool, typer.Option("--consent", help="Each template, with its time and the consent that it is kept under.")
    ] = False,
    config: Config = DEFAULT_CONFIG,
    timeout: Timeout = None,
    as_json: Json = False,
) -> None:
    """List the subjects of the gallery with their number of templates."""
    if consent:
        _with_consent(config, timeout, as_json)
        return
    with open_client(config) as client, messages().status("Asking"):
        entries = client.subjects(timeout_s=timeout)
    done = "the list of subjects was read"
    if as_json:
        document = {"subjects": [asdict(entry) for entry in entries], "request_id": entries.request_id}
        show_json(document, done=done)
        return
    if not entries:
        say("nobody is enrolled in this gallery")
    for entry in entries:
        show(f"{entry.subject}\t{entry.templates}", done=done)


def _with_consent(config: Path, timeout: float | None, as_json: bool) -> None:
    with open_client(config) as client, messages().status("Asking"):
        entries = client.templates(timeout_s=timeout)
    done = "the list of templates was read"
    documents = [
        {"subject": entry.subject, "enrolled_at": enrolled_at(entry), "consent": consent_document(entry.consent)}
        for entry in entries
    ]
    if as_json:
        show_json({"templates": documents}, done=done)
        return
    if not entries:
        say("nobody is enrolled in this gallery")
    for entry in entries:
        under = consent_document(entry.consent) or {"reference": None, "version": None, "expires_at": None}
        words = entry.subject, enrolled_at(entry), *under.values()
        show("\t".join(word or "-" for word in words), done=done)
