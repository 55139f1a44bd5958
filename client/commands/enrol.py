"""`veilmatch enrol`: add templates of one subject, or of a whole folder at once.

In a folder, a file is one photo of the subject it is named after, and a sub-folder holds the photos of the
subject that it is named after. Files that are not images by their name are left alone.
"""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from veilmatch.client.commands._options import DEFAULT_CONFIG, Config, Json, Timeout, open_client
from veilmatch.client.commands._output import error_document, messages, show, show_json
from veilmatch.crypto.errors import InvalidInputError, VeilmatchError

_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm"}
_STAGES = {"capture": "Finding faces", "encrypt": "Encrypting"}


def register(app: typer.Typer) -> None:
    """Add the command to app."""
    app.command("enrol")(enrol)


def enrol(
    subject: Annotated[str | None, typer.Argument(help="Who is enrolled.")] = None,
    photos: Annotated[list[Path] | None, typer.Argument(help="Photos with one face each.")] = None,
    folder: Annotated[
        Path | None,
        typer.Option("--folder", help="Enrol everyone in this folder in one change of the gallery."),
    ] = None,
    skip_unusable: Annotated[
        bool, typer.Option("--skip-unusable", help="With --folder: leave out photos that cannot be used.")
    ] = False,
    config: Config = DEFAULT_CONFIG,
    timeout: Timeout = None,
    as_json: Json = False,
) -> None:
    """Enrol SUBJECT with one or more photos, or with --folder a whole folder.

    In a folder, a photo or a sub-folder of photos is named after its subject.
    """
    if folder is not None and subject is None:
        _enrol_folder(folder, skip_unusable, config, timeout, as_json)
    elif folder is None and subject is not None and photos and not skip_unusable:
        _enrol_one(subject, photos, config, timeout, as_json)
    else:
        raise typer.BadParameter("give SUBJECT and PHOTO..., or --folder DIR [--skip-unusable]")


def photos_in(folder: Path) -> list[tuple[str, Path]]:
    """Return (subject, photo) of every photo in a folder, in order of names.

    Raises InvalidInputError if there is none, or no such folder.
    """
    if not folder.is_dir():
        raise InvalidInputError("there is no such folder", got=folder)
    found = []
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and not entry.name.startswith("."):
            found += [(_subject(entry.name), photo) for photo in sorted(entry.iterdir()) if _is_photo(photo)]
        elif _is_photo(entry):
            found.append((_subject(entry.stem), entry))
    if not found:
        raise InvalidInputError("there is no photo in the folder", got=folder, expected="NAME.jpg or NAME/*.jpg")
    return found


def _enrol_one(subject: str, photos: list[Path], config: Path, timeout: float | None, as_json: bool) -> None:
    with open_client(config) as client, messages().status("Enrolling"):
        result = client.enrol(subject, *photos, timeout_s=timeout)
    if as_json:
        show_json(
            {
                "subject": subject,
                "templates": result.templates,
                "sequence": result.sequence,
                "request_id": result.request_id,
            }
        )
    else:
        show(f"enrolled: {subject} (templates: {result.templates})")


def _enrol_folder(folder: Path, skip: bool, config: Path, timeout: float | None, as_json: bool) -> None:
    photos = photos_in(folder)
    skipped: list[tuple[str, VeilmatchError]] = []
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with open_client(config) as client, Progress(*columns, console=messages()) as bars:
        stages = {name: bars.add_task(text, total=None, visible=False) for name, text in _STAGES.items()}

        def show_progress(stage: str, done: int, total: int) -> None:
            bars.update(stages[stage], completed=done, total=total, visible=True)

        def note_skipped(subject: str, error: VeilmatchError) -> None:
            skipped.append((subject, error))

        result = client.enrol_many(
            photos, progress=show_progress, skipped=note_skipped if skip else None, timeout_s=timeout
        )
    if as_json:
        left_out = [{"subject": subject, "error": error_document(error)} for subject, error in skipped]
        show_json(
            {
                "templates": result.templates,
                "sequence": result.sequence,
                "skipped": left_out,
                "request_id": result.request_id,
            }
        )
        return
    for subject, error in skipped:
        messages().print(f"left out: {subject}: {error}", markup=False)
    show(f"enrolled: {result.templates} templates from {folder} (left out: {len(skipped)})")


def _is_photo(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in _SUFFIXES and not path.name.startswith(".")


def _subject(name: str) -> str:
    """Some file systems store names decomposed; subjects are NFC."""
    return unicodedata.normalize("NFC", name)
