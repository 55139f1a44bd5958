"""`veilmatch models`: fetch the face models (and test photos), and say what is installed.

`--json` prints one JSON document on standard output; everything meant for people goes to standard error.
"""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from veilmatch.client.models import (
    EVALUATION,
    MODELS,
    PHOTOS,
    cache_dir,
    install_evaluation_model,
    install_models,
    install_photos,
    is_installed,
)
from veilmatch.common.output import messages, say, say_tables, show_json

Evaluation = Annotated[
    bool, typer.Option("--evaluation", help="Also the second embedder, which only `veilmatch eval` uses.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]


def register(app: typer.Typer) -> None:
    """Add the sub-commands `models install` and `models list` to app."""
    models = typer.Typer(no_args_is_help=True, help="Face models and test photos.")
    models.command("install")(install)
    models.command("list")(list_installed)
    app.add_typer(models, name="models")


def install(
    photos: Annotated[bool, typer.Option("--photos", help="Also fetch the test photos.")] = False,
    evaluation: Evaluation = False,
    as_json: Json = False,
) -> None:
    """Download, verify and repair the face models. Does nothing if they are installed."""
    console = messages()
    with console.status("Looking at the cache") as status:

        def show(line: str) -> None:
            status.update(line)
            console.print(line)

        install_models(show)
        if photos:
            install_photos(show)
        if evaluation:
            install_evaluation_model(show)
    _report(evaluation, as_json)


def list_installed(evaluation: Evaluation = False, as_json: Json = False) -> None:
    """Say what is installed, verifying every file."""
    _report(evaluation, as_json)


def _report(evaluation: bool, as_json: bool) -> None:
    bundles = [
        {
            "name": bundle.name,
            "installed": is_installed(bundle),
            "directory": str(cache_dir() / bundle.directory),
            "source": f"{bundle.archive.project}=={bundle.archive.version} ({bundle.archive.kind})",
            "sha256": bundle.archive.sha256,
            "licence": bundle.licence,
        }
        for bundle in (MODELS, *PHOTOS, *([EVALUATION] if evaluation else []))
    ]
    if as_json:
        show_json({"cache": str(cache_dir()), "bundles": bundles}, done="the cache was looked at")
        return
    table = Table("name", "installed", "source", "licence")
    for bundle in bundles:
        table.add_row(
            str(bundle["name"]),
            "yes" if bundle["installed"] else "no",
            str(bundle["source"]),
            str(bundle["licence"]),
        )
    say_tables(table)
    say(f"cache: {cache_dir()}")
