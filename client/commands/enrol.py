"""`veilmatch enrol`: add templates of one subject, or of a whole folder at once.

In a folder, a file is one photo of the subject it is named after, and a sub-folder holds the photos of the
subject that it is named after (`photo_folder.py`). The same photos are enrolled once, however often the command runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from veilmatch.client.commands.base.consent import End, Reference, Version, given_consent
from veilmatch.client.commands.base.options import (
    DEFAULT_CONFIG,
    Config,
    Face,
    Json,
    Timeout,
    given_photos,
    open_client,
)
from veilmatch.client.given.photo_folder import PhotoFolder, read_folder
from veilmatch.client.results import Enrolment
from veilmatch.common.output import error_document, messages, show, show_json
from veilmatch.crypto.consent import Consent
from veilmatch.crypto.errors import InvalidInputError, VeilmatchError

_STAGES = {"capture": "Finding faces", "encrypt": "Encrypting"}
#: So many of what is left out are named in an error.
_NAMED = 10


def register(app: typer.Typer) -> None:
    """Add the command to app."""
    app.command("enrol")(enrol)


def enrol(
    subject: Annotated[str | None, typer.Argument(help="Who is enrolled.")] = None,
    photos: Annotated[list[str] | None, typer.Argument(help="Photos with one face each; - for standard input.")] = None,
    folder: Annotated[
        Path | None,
        typer.Option("--folder", help="Enrol everyone in this folder in one change of the gallery.", readable=False),
    ] = None,
    skip_unusable: Annotated[
        bool,
        typer.Option(
            "--skip-unusable", help="With --folder: enrol the rest if something cannot be; exit status 3 says so."
        ),
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Add templates of photos that are enrolled already once more.")
    ] = False,
    mean: Annotated[
        bool, typer.Option("--mean", help="One template of all photos, their mean, in place of one for each.")
    ] = False,
    consent: Reference = None,
    consent_version: Version = None,
    consent_end: End = None,
    accept_any: Annotated[
        bool, typer.Option("--accept-any", help="Also photos of low quality, which match their own person less often.")
    ] = False,
    unless_known: Annotated[
        bool,
        typer.Option(
            "--unless-known", help="Enrol the one photo only if it matches nobody; exit status 1 says that it does."
        ),
    ] = False,
    threshold: Annotated[
        float | None,
        typer.Option("--threshold", help="With --unless-known: cosine from which two faces match."),
    ] = None,
    keep_empty: Annotated[
        bool,
        typer.Option(
            "--keep-empty",
            help="With --unless-known: leave the empty template of a known face, as erasing tells of it.",
        ),
    ] = False,
    face: Face = None,
    config: Config = DEFAULT_CONFIG,
    timeout: Timeout = None,
    as_json: Json = False,
) -> None:
    """Enrol SUBJECT with one or more photos, or with --folder a whole folder.

    In a folder, a photo or a sub-folder of photos is named after its subject.
    """
    under = given_consent(consent, consent_version, consent_end)
    if mean and folder is not None:
        raise typer.BadParameter("--mean takes SUBJECT and PHOTO...")
    how = _How(not again, under, accept_any, mean, config, face, timeout, as_json)
    if not unless_known and (keep_empty or threshold is not None):
        raise typer.BadParameter("--threshold and --keep-empty go with --unless-known")
    if unless_known:
        if subject is None or not photos or folder is not None or skip_unusable or mean:
            raise typer.BadParameter("give SUBJECT and PHOTO with --unless-known, and no --mean")
        _enrol_unless_known(subject, photos, threshold, keep_empty, how)
        return
    if folder is not None and subject is None:
        _enrol_folder(folder, skip_unusable, how)
    elif folder is None and subject is not None and photos and not skip_unusable:
        _enrol_one(subject, photos, how)
    else:
        raise typer.BadParameter("give SUBJECT and PHOTO..., or --folder DIR [--skip-unusable]")


class _How(NamedTuple):
    """What both ways of enrolling take."""

    once: bool
    consent: Consent | None
    accept_any: bool
    mean: bool
    config: Path
    face: Literal["only", "largest"] | None
    timeout: float | None
    as_json: bool


def _enrol_one(subject: str, photos: list[str], how: _How) -> None:
    with open_client(how.config, how.face) as client, messages().status("Enrolling"):
        result = client.enrol(
            subject,
            *given_photos(photos),
            once=how.once,
            consent=how.consent,
            accept_any=how.accept_any,
            mean=how.mean,
            timeout_s=how.timeout,
        )
    done = f"{_outcome(result)}: {subject} ({_counts(result)})"
    if how.as_json:
        show_json({"subject": subject} | _document(result), done=done)
    else:
        show(done, done=done)


def _enrol_unless_known(subject: str, photos: list[str], threshold: float | None, keep: bool, how: _How) -> None:
    with open_client(how.config, how.face) as client, messages().status("Enrolling"):
        result = client.enrol(
            subject, *given_photos(photos), consent=how.consent, accept_any=how.accept_any, unless_known=True,
            threshold=threshold, keep_empty=keep, timeout_s=how.timeout,
        )  # fmt: skip
    enrolled = f"enrolled: {subject} ({_counts(result)})"
    done = f"known already: {subject} is not enrolled" if result.known else enrolled
    if how.as_json:
        show_json({"subject": subject, "known": result.known} | _document(result), done=done)
    else:
        show(done, done=done)
    raise typer.Exit(int(result.known))


def _enrol_folder(folder: Path, skip: bool, how: _How) -> None:
    found = read_folder(folder)
    if found.left_out and not skip:
        raise _unusable(found)
    skipped: list[tuple[str, VeilmatchError]] = []
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    try:
        with open_client(how.config, how.face) as client, Progress(*columns, console=messages()) as bars:
            stages = {name: bars.add_task(text, total=None, visible=False) for name, text in _STAGES.items()}

            def show_progress(stage: str, done: int, total: int) -> None:
                bars.update(stages[stage], completed=done, total=total, visible=True)

            def note_skipped(subject: str, error: VeilmatchError) -> None:
                skipped.append((subject, error))

            result = client.enrol_many(
                found.photos,
                progress=show_progress,
                skipped=note_skipped if skip else None,
                once=how.once,
                consent=how.consent,
                accept_any=how.accept_any,
                timeout_s=how.timeout,
            )
    finally:
        for line in (*found.left_out, *(error for _, error in skipped)):
            messages().print(f"left out: {line}", markup=False, soft_wrap=True)
    left_out = len(found.left_out) + len(skipped)
    done = f"{_outcome(result)}: {folder} ({_counts(result)}, left out: {left_out})"
    if how.as_json:
        not_used = [{"subject": subject, "error": error_document(error)} for subject, error in skipped]
        not_read = [{"path": entry.path, "reason": entry.reason} for entry in found.left_out]
        show_json(_document(result) | {"skipped": not_used, "left_out": not_read}, done=done)
    else:
        show(done, done=done)
    if left_out:
        raise typer.Exit(InvalidInputError.exit_status)


def _unusable(found: PhotoFolder) -> InvalidInputError:
    names = "; ".join(map(str, found.left_out[:_NAMED]))
    more = f"; and {len(found.left_out) - _NAMED} more" if len(found.left_out) > _NAMED else ""
    return InvalidInputError(
        "nobody is enrolled: the folder holds what cannot be",
        got=f"{len(found.left_out)} of {len(found.left_out) + len(found.photos)}: {names}{more}",
        expected="photos alone, or --skip-unusable to enrol the rest",
    )


def _outcome(result: Enrolment) -> str:
    return "already enrolled" if result.repeated == result.templates else "enrolled"


def _counts(result: Enrolment) -> str:
    partly = 0 < result.repeated < result.templates
    return f"templates: {result.templates}" + (f", already there: {result.repeated}" if partly else "")


def _document(result: Enrolment) -> dict[str, int | str]:
    return {
        "templates": result.templates,
        "repeated": result.repeated,
        "sequence": result.sequence,
        "request_id": result.request_id,
    }
