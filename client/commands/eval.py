"""`veilmatch eval`: how often the face model and a threshold err, and that encryption changes no decision."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from veilmatch.client import extras
from veilmatch.client.commands.base.options import Json
from veilmatch.client.given.photo_folder import read_folder
from veilmatch.common.output import messages, show_json, show_tables
from veilmatch.crypto.errors import IntegrityError, InvalidInputError
from veilmatch.crypto.parameters import ParameterSet

if TYPE_CHECKING:
    from veilmatch.client.capture.image import ImageSource
    from veilmatch.client.evaluation.data import faces
    from veilmatch.client.evaluation.study import Evaluation, Settings
    from veilmatch.client.evaluation.sweep import SweepPoint
    from veilmatch.client.evaluation.thresholds import Target


def register(app: typer.Typer) -> None:
    """Add the command to app."""
    app.command("eval")(evaluate)


def evaluate(
    data: Annotated[
        Path | None,
        typer.Argument(
            help="Folder of SUBJECT/PHOTO files, or .npz with `embeddings` [n, D] and `subjects` [n].", readable=False
        ),
    ] = None,
    orl: Annotated[bool, typer.Option("--orl", help="The AT&T/ORL test photos in place of DATA.")] = False,
    hard: Annotated[
        bool, typer.Option("--hard", help="Make every photo bad first: 24 pixels across, grain, strong JPEG.")
    ] = False,
    degrade: Annotated[
        bool, typer.Option("--degrade", help="Also compare degraded photos: 12 kinds, 3 or 4 strengths, some minutes.")
    ] = False,
    parameters: Annotated[
        str, typer.Option(help="Parameter set. Photos with 512 dimensions: `models install --evaluation`.")
    ] = "d128-s126-c38-l46-n3072",
    fmr: Annotated[float, typer.Option(help="False match rate to choose the threshold for, between 0 and 1.")] = 1e-3,
    write_threshold: Annotated[
        Path | None,
        typer.Option("--write-threshold", help="Write the chosen threshold to this device.toml.", readable=False),
    ] = None,
    encrypted: Annotated[
        bool, typer.Option("--encrypted/--no-encrypted", help="Decide every comparison under encryption as well.")
    ] = True,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the report.", readable=False)] = Path(
        "evaluation"
    ),
    replicates: Annotated[int, typer.Option(min=100, help="Resamples of the subjects, for the intervals.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of resamples and degradations.")] = 1,
    as_json: Json = False,
) -> None:
    """Measure error rates on photos or embeddings, and compare encrypted decisions with plaintext ones.

    Exit status 3, and no threshold is written, if the device may not use the measured one; 7 if an encrypted decision
    differs from the one of the same integers in clear.
    """
    from veilmatch.client.evaluation.figures import report
    from veilmatch.client.evaluation.study import Settings
    from veilmatch.client.evaluation.study import evaluate as run
    from veilmatch.client.evaluation.thresholds import Target

    if (data is None) != orl:
        raise typer.BadParameter("give DATA or --orl")
    if (hard and degrade) or ((hard or degrade) and data is not None and data.is_file()):
        raise typer.BadParameter("--hard and --degrade take photos, and not each other's")
    if not 0 < fmr < 1:
        raise InvalidInputError("a false match rate is above 0 and below 1", got=fmr)
    extras.require("eval", *([] if data is not None and data.is_file() else ["device"]))
    settings = Settings(ParameterSet.from_name(parameters), fmr, replicates, seed, encrypted)
    # Measuring takes minutes: what the result is for is looked at before.
    target = None if write_threshold is None else Target.read(write_threshold, settings.parameters)
    report.prepare(output)
    points: list[SweepPoint] = []
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=messages()) as bars:
        show = _Stages(bars)
        if data is not None and data.is_file():
            from veilmatch.client.evaluation.data.faces import from_file

            evaluation = run(from_file(data, settings.parameters), settings, show)
        else:
            evaluation, points = _with_photos(data, settings, hard, degrade, show)
    files = report.write(output, evaluation, points)
    done = f"the report was written to {output}"
    if as_json:
        show_json(report.document(evaluation, points), done=done)
    else:
        _print(evaluation, points, done)
    messages().print(f"report: {output / 'report.html'}, and {len(files) - 1} files beside it", soft_wrap=True)
    agreement = evaluation.figures.agreement
    if agreement is not None and agreement.different:
        raise IntegrityError(report.verdict(evaluation.figures))
    if target is not None:
        _write(target, evaluation)


def _with_photos(
    folder: Path | None, settings: Settings, hard: bool, degrade: bool, show: faces.Progress
) -> tuple[Evaluation, list[SweepPoint]]:
    """Evaluate the photos of a folder, or the ORL photos without one."""
    from veilmatch.client.capture.detector import YuNetDetector
    from veilmatch.client.evaluation.data.capture import capture, installed_embedder, orl_photos
    from veilmatch.client.evaluation.study import evaluate as run
    from veilmatch.client.evaluation.sweep import SweepSettings, sweep

    photos = orl_photos() if folder is None else _photos_of(folder)
    detector, embedder = YuNetDetector.installed(), installed_embedder(settings.parameters)
    found = capture(photos, detector, embedder, settings.parameters, show, settings.seed if hard else None)
    evaluation = run(found, settings, show)
    if not degrade:
        return evaluation, []
    at = SweepSettings(settings.parameters, evaluation.figures.choice.t, settings.seed, settings.replicates)
    return evaluation, sweep(photos, found, detector, embedder, at, show)


def _photos_of(folder: Path) -> list[tuple[str, ImageSource]]:
    """Return the photos of a folder, and say what else is in it."""
    found = read_folder(folder)
    for entry in found.left_out:
        messages().print(f"left out: {entry}", markup=False, soft_wrap=True)
    return list(found.photos)


class _Stages:
    """Shows progress, one bar a stage; a stage that starts again gets another bar."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._stage = ""

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage != self._stage or done == 0:
            self._stage, self._task = stage, self._bars.add_task(stage, total=total)
        self._bars.update(self._task, completed=done, total=total)


def _print(evaluation: Evaluation, points: list[SweepPoint], done: str) -> None:
    """Print the tables, and last whether encryption changed a decision."""
    from veilmatch.client.evaluation.figures import report

    for table in report.tables(evaluation.figures, points):
        shown = Table(*table.header, title=table.title, show_header=any(table.header))
        for row in table.rows:
            shown.add_row(*row)
        show_tables(shown, done=done)
    show_tables(report.verdict(evaluation.figures), done=done, style="bold")


def _write(target: Target, evaluation: Evaluation) -> None:
    """Write the chosen threshold, if the comparisons can show the rate that it stands for."""
    choice, impostors = evaluation.figures.choice, evaluation.figures.impostors
    if not choice.shown:
        raise InvalidInputError(
            "too few impostor comparisons to show this false match rate; the threshold was not written",
            got=f"{impostors:,}",
            expected=f"3/FMR, that is {3 / choice.fmr:,.0f}",
        )
    cosine = target.write(choice.t)
    messages().print(f"threshold = {cosine:g} written to {target.path}", soft_wrap=True, markup=False)
