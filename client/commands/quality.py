"""`veilmatch quality PHOTO`: is the face in it good enough to enrol? Exit status 0 if so, 3 if not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer
from rich.table import Table

from veilmatch.client.commands.base.options import (
    DEFAULT_CONFIG,
    Config,
    Json,
    Photo,
    capture_settings,
    given_photos,
    quality_document,
)
from veilmatch.common.output import show_json, show_tables
from veilmatch.crypto.errors import LowQualityError

if TYPE_CHECKING:
    from veilmatch.client.capture.quality.assessment import Quality
    from veilmatch.client.capture.settings import CaptureSettings


def register(app: typer.Typer) -> None:
    """Add the command to app."""
    app.command("quality")(quality)


def quality(photo: Photo, config: Config = DEFAULT_CONFIG, as_json: Json = False) -> None:
    """Say how good the face in a photo is, from 0 to 100, and what to do about it; exit status 3 if it is not enough.

    Asks no server. Without a configuration the floors are those of an empty [capture].
    """
    from veilmatch.client.capture.pipeline import CapturePipeline

    (given,) = given_photos([photo])
    settings = capture_settings(config)
    found = CapturePipeline.default(settings).quality(given)
    if as_json:
        show_json(quality_document(found), done="the photo was looked at")
    else:
        _print(found, settings)
    raise typer.Exit(0 if found else LowQualityError.exit_status)


def _print(found: Quality, settings: CaptureSettings) -> None:
    done = "the photo was looked at"
    table = Table("component", "score", "at least", "")
    lacking = {reason.component: reason.problem for reason in found.reasons}
    for component, score in found.scores.items():
        floor = getattr(settings.floors, component)
        table.add_row(component, str(score), str(floor) if floor else "", lacking.get(component, ""))
    show_tables(table, done=done)
    lines = [f"{reason.problem}: {reason.advice}" for reason in found.reasons]
    show_tables("\n".join(lines) if lines else "good enough to enrol", done=done)
