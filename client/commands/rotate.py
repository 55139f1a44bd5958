"""`veilmatch rotate NEW`: bring the gallery under the key of a new installation, with the service running."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from veilmatch.client.commands.base.options import DEFAULT_CONFIG, Config, Json, Timeout, open_client
from veilmatch.common.output import messages, show, show_json
from veilmatch.common.public_file import read_public_key


def register(app: typer.Typer) -> None:
    """Add the command to app."""
    app.command("rotate")(rotate)


def rotate(
    new_key: Annotated[
        Path, typer.Argument(metavar="NEW", help="public.json of the new installation.", readable=False)
    ],
    config: Config = DEFAULT_CONFIG,
    timeout: Timeout = None,
    as_json: Json = False,
) -> None:
    """Bring the gallery under the key of a new installation, with the service running.

    Repeat it after an error: it goes on where it stopped. At the end the gallery is closed to changes.
    """
    key_id = read_public_key(new_key).key_id
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with open_client(config) as client, Progress(*columns, console=messages()) as bars:
        task = bars.add_task("Converting", total=None)

        def show_progress(stage: str, done: int, total: int) -> None:
            bars.update(task, completed=done, total=total)

        result = client.rotate(key_id, progress=show_progress, timeout_s=timeout)
    done = f"rotated: {result.templates} templates to key {key_id.hex()} (empty: {len(result.empty)})"
    if as_json:
        show_json(
            {
                "key_id": key_id.hex(),
                "templates": result.templates,
                "sequence": result.sequence,
                "empty": list(result.empty),
                "request_id": result.request_id,
            },
            done=done,
        )
        return
    for subject in result.empty:
        messages().print(f"empty now, its record was no valid vector: {subject}", markup=False)
    show(done, done=done)
