"""`veilmatch subject export SUBJECT`: all that the servers hold about a subject, for whoever has a right to know it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from veilmatch.client.commands.base.options import DEFAULT_CONFIG, Config, Timeout, open_client
from veilmatch.common.output import messages, show_json

if TYPE_CHECKING:
    from veilmatch.client.results import TemplateEntry
    from veilmatch.crypto.consent import Consent


def register(app: typer.Typer) -> None:
    """Add the commands to app."""
    group = typer.Typer(help="One subject of the gallery.", no_args_is_help=True)
    group.command("export")(export)
    app.add_typer(group, name="subject")


def export(
    subject: Annotated[str, typer.Argument(help="Whose data.")],
    config: Config = DEFAULT_CONFIG,
    timeout: Timeout = None,
) -> None:
    """Print, as JSON, all that the servers hold about a subject beside ciphertexts, which nobody can decrypt alone."""
    with open_client(config) as client, messages().status("Asking"):
        entries = client.templates(subject, timeout_s=timeout)
    document = {"subject": subject, "templates": [_document(entry) for entry in entries]}
    show_json(document, done="what the servers hold was read")


def _document(entry: TemplateEntry) -> dict[str, Any]:
    return {
        "pack": entry.pack,
        "slot": entry.slot,
        "sequence": entry.sequence,
        "enrolled_at": enrolled_at(entry),
        "consent": consent_document(entry.consent),
        "encrypted_by": "device" if entry.by_device else "matchers",
        "record_bytes": entry.record_bytes,
        "last_asked_for": {party: day.isoformat() for party, day in entry.asked.items()},
    }


def enrolled_at(entry: TemplateEntry) -> str | None:
    """Return what JSON says of when a template was enrolled."""
    return None if entry.enrolled_at is None else entry.enrolled_at.isoformat()


def consent_document(consent: Consent | None) -> dict[str, Any] | None:
    """Return what JSON says of the consent of a template or a card."""
    from datetime import UTC, datetime

    if consent is None:
        return None
    end = consent.expires_s
    try:
        expires_at = datetime.fromtimestamp(end, UTC).isoformat() if end else None
    except (ValueError, OverflowError, OSError):
        # Whoever enrols chooses it, and does not keep the rest of a list from being read by one beyond all calendars.
        expires_at = f"@{end}"
    return {"reference": consent.reference, "version": consent.version, "expires_at": expires_at}
