"""`veilmatch models`: fetch the face models (and test photos), and say what is installed.

`--json` prints one JSON document on standard output; everything meant for people goes to standard error.
"""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from veilmatch.client.commands.base.options import DEFAULT_CONFIG, Config, Json, capture_settings
from veilmatch.client.models import (
    EVALUATION,
    MESH,
    MODELS,
    PHOTOS,
    cache_dir,
    install_evaluation_model,
    install_mesh,
    install_models,
    install_photos,
    is_installed,
)
from veilmatch.client.models.own import install_own, own_model
from veilmatch.common.output import messages, say, say_tables, show, show_json, show_tables
from veilmatch.crypto.errors import ModelError

if TYPE_CHECKING:
    from veilmatch.client.evaluation.model_check import ModelCheck

Evaluation = Annotated[
    bool, typer.Option("--evaluation", help="Also the second embedder, which only `veilmatch eval` uses.")
]

#: Sides of what a model takes and gives.
_IMAGES, _MATRIX, _COLOURS = 4, 2, 3


def register(app: typer.Typer) -> None:
    """Add the sub-commands `models install`, `models check` and `models list` to app."""
    models = typer.Typer(no_args_is_help=True, help="Face models and test photos.")
    models.command("install")(install)
    models.command("check")(check)
    models.command("list")(list_installed)
    app.add_typer(models, name="models")


def install(
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            help="A face model of your own, ONNX: it is pinned, and nothing else is installed.",
            readable=False,
        ),
    ] = None,
    photos: Annotated[bool, typer.Option("--photos", help="Also fetch the test photos.")] = False,
    mesh: Annotated[
        bool, typer.Option("--mesh", help="Also the face mesh, for the quality of eyes and mouth ([capture] mesh).")
    ] = False,
    evaluation: Evaluation = False,
    as_json: Json = False,
) -> None:
    """Download, verify and repair the face models. Does nothing if they are installed.

    With --file nothing is downloaded: the file is copied into the cache, and what to write into device.toml is printed.
    """
    if file is not None:
        if photos or evaluation or mesh:
            raise typer.BadParameter("--file stands alone")
        _install_own(file, as_json)
        return
    console = messages()
    with console.status("Looking at the cache") as status:

        def show(line: str) -> None:
            status.update(line)
            console.print(line)

        install_models(show)
        if photos:
            install_photos(show)
        if mesh:
            install_mesh(show)
        if evaluation:
            install_evaluation_model(show)
    _report(evaluation, as_json)


def _install_own(file: Path, as_json: bool) -> None:
    """Pin a model of the user's, and say what is known of it and what has to be filled in."""
    from veilmatch.client.capture.runtime import OnnxModel

    digest = install_own(file)
    model = OnnxModel(own_model(None, digest))
    taken, given = model.input_shape, model.output_shapes
    done = f"{file} was installed"
    if as_json:
        shapes = {"input": list(taken), "outputs": [list(shape) for shape in given]}
        show_json({"sha256": digest, "shapes": shapes}, done=done)
        return
    say(f"installed: takes {_shape(taken)}, gives {', '.join(map(_shape, given))}")
    say("For device.toml; channels, mean, scale and template are in the model's own documentation:")
    name = re.sub(r"[^a-z0-9.-]+", "-", file.stem.lower())[:48]
    lines = ["[capture.embedder]", f'name = "{name}"', f'sha256 = "{digest}"']
    if len(given) == 1 and len(given[0]) == _MATRIX and given[0][1]:
        lines.append(f"dimension = {given[0][1]}")
    if len(taken) == _IMAGES and taken[2]:
        layout = "nhwc" if taken[3] == _COLOURS else "nchw"
        lines += [f"size = {taken[2]}", f'layout = "{layout}"']
    for line in (*lines, 'channels = "rgb"', "mean = 127.5", "scale = 127.5", 'template = "arcface"'):
        show(line, done=done)


def _shape(shape: tuple[int | None, ...]) -> str:
    return "[" + ", ".join("?" if side is None else str(side) for side in shape) + "]"


def check(config: Config = DEFAULT_CONFIG, as_json: Json = False) -> None:
    """Embed photos of the test set with the configured model, and say whether it gets what it was trained on.

    Exit status 8 if people cannot be told apart, or another order of channels or scaling does it clearly better.
    """
    from veilmatch.client.capture.detector import YuNetDetector
    from veilmatch.client.capture.embedder import SFaceEmbedder
    from veilmatch.client.capture.own_embedder import own_embedder
    from veilmatch.client.evaluation.model_check import check_model

    settings = capture_settings(config)
    embedder = SFaceEmbedder.installed() if settings.embedder is None else own_embedder(settings.embedder)
    with messages().status("Embedding the test photos"):
        found = check_model(YuNetDetector.installed(settings.detector), embedder)
    done = f"{embedder.model_id} was checked"
    if as_json:
        ways = {"configured": asdict(found.configured), "others": [asdict(way) for way in found.others]}
        show_json({"model": embedder.model_id, "right": bool(found), "photos": found.photos} | ways, done=done)
    else:
        _print_check(embedder.model_id, found, done)
    raise typer.Exit(0 if found else ModelError.exit_status)


def _print_check(model: str, found: ModelCheck, done: str) -> None:
    table = Table("way", "same person", "others", "lowest, highest", "apart by", title=f"{model}, cosines")
    for way in (found.configured, *found.others):
        extremes = f"{way.lowest_genuine:.2f}, {way.highest_impostor:.2f}"
        table.add_row(way.way, f"{way.genuine:.2f}", f"{way.impostor:.2f}", extremes, f"{way.distance:.1f} sd")
    show_tables(table, done=done)
    if found:
        verdict = "The preprocessing looks right: no other way tells people apart clearly better."
    elif found.better is not None:
        verdict = f"WRONG, probably: {found.better.way} tells people apart better."
    else:
        verdict = "WRONG: people cannot be told apart. Look at channels, mean, scale, layout and template."
    show_tables(verdict, done=done, style="bold")


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
        for bundle in (MODELS, MESH, *PHOTOS, *([EVALUATION] if evaluation else []))
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
