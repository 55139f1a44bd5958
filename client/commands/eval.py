"""`veilmatch eval`: how often the face model and a threshold err, and that encryption changes no decision."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer
from rich.table import Table

from veilmatch.client import extras
from veilmatch.client.commands.base.options import Json
from veilmatch.client.commands.base.stages import Stages, progress_bars
from veilmatch.client.given.photo_folder import read_folder
from veilmatch.common.output import messages, show, show_json, show_tables
from veilmatch.crypto.errors import IntegrityError, InvalidInputError
from veilmatch.crypto.parameters import ParameterSet

if TYPE_CHECKING:
    from veilmatch.client.capture.detector import Detector
    from veilmatch.client.capture.embedder import Embedder
    from veilmatch.client.capture.image import ImageSource
    from veilmatch.client.config import DeviceSettings
    from veilmatch.client.evaluation.attacks import AttackFigures
    from veilmatch.client.evaluation.data import faces
    from veilmatch.client.evaluation.figures.pictures import Pictures
    from veilmatch.client.evaluation.figures.report import Extra
    from veilmatch.client.evaluation.fusion import Parts
    from veilmatch.client.evaluation.study import Evaluation, Settings
    from veilmatch.client.evaluation.sweep import Sweep, SweepPoint
    from veilmatch.client.evaluation.thresholds import Target
    from veilmatch.client.evaluation.views import ViewFigures

#: The name of the second embedder as an argument of --fuse.
_SECOND = "second"


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
    attacks: Annotated[
        Path | None,
        typer.Option(
            "--attacks", help="Folder of SPECIES/SUBJECT/PHOTO: presentation attacks on these people.", readable=False
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="A device.toml whose [capture] and [liveness] are used.", readable=False),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the report.", readable=False)] = Path(
        "evaluation"
    ),
    gallery_size: Annotated[
        int | None,
        typer.Option("--gallery-size", min=1, help="Size of your gallery, for what the report says of searches in it."),
    ] = None,
    groups: Annotated[
        Path | None,
        typer.Option(
            "--groups",
            help="CSV: `subject`, maybe `photo`, and a column for each attribute to tell rates by.",
            readable=False,
        ),
    ] = None,
    pictures: Annotated[
        bool, typer.Option("--pictures", help="Show photos in the report: the worst comparisons, and degraded ones.")
    ] = False,
    fuse: Annotated[
        list[str] | None,
        typer.Option(
            "--fuse",
            help="Another .npz of the same photos, to fuse DATA with; for photos: second, the second embedder. May be"
            " repeated.",
        ),
    ] = None,
    views: Annotated[
        bool, typer.Option("--views", help="Also compare what to enrol: several photos, views, their means; minutes.")
    ] = False,
    replicates: Annotated[int, typer.Option(min=100, help="Resamples of the subjects, for the intervals.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of resamples and degradations.")] = 1,
    as_json: Json = False,
) -> None:
    """Measure error rates on photos or embeddings, and compare encrypted decisions with plaintext ones.

    Exit status 3, and no threshold is written, if the device may not use the measured one; 7 if an encrypted decision
    differs from the one of the same integers in clear.
    """
    from veilmatch.client.config import DeviceSettings
    from veilmatch.client.evaluation.figures import report
    from veilmatch.client.evaluation.figures.groups import by_group, read_groups
    from veilmatch.client.evaluation.figures.summary import summary
    from veilmatch.client.evaluation.study import Settings
    from veilmatch.client.evaluation.study import evaluate as run
    from veilmatch.client.evaluation.sweep import Sweep
    from veilmatch.client.evaluation.thresholds import Target

    if (data is None) != orl:
        raise typer.BadParameter("give DATA or --orl")
    if (hard and degrade) or ((hard or degrade) and data is not None and data.is_file()):
        raise typer.BadParameter("--hard and --degrade take photos, and not each other's")
    if fuse and (degrade or pictures or views or attacks is not None or config is not None):
        raise typer.BadParameter("--fuse goes with none of --degrade, --pictures, --views, --attacks and --config")
    if views and (hard or (data is not None and data.is_file())):
        raise typer.BadParameter("--views takes photos, and makes them worse itself")
    if (pictures or attacks is not None) and data is not None and data.is_file():
        raise typer.BadParameter("--pictures and --attacks take photos")
    if not 0 < fmr < 1:
        raise InvalidInputError("a false match rate is above 0 and below 1", got=fmr)
    extras.require("eval", *([] if data is not None and data.is_file() else ["device"]))
    settings = Settings(ParameterSet.from_name(parameters), fmr, replicates, seed, encrypted)
    # Measuring takes minutes: what the result is for is looked at before.
    target = None if write_threshold is None else Target.read(write_threshold, settings.parameters)
    attributes = None if groups is None else read_groups(groups)
    report.prepare(output)
    swept, of_attacks, fused, viewed, names = Sweep(), None, None, None, None
    with progress_bars() as bars:
        stages = Stages(bars)
        if fuse:
            from veilmatch.client.evaluation.fusion import fusion

            found, fused = fusion(_parts(data, fuse, settings, hard, stages), settings)
            evaluation, shown = run(found, settings, stages), None
        elif data is not None and data.is_file():
            from veilmatch.client.evaluation.data.faces import from_file

            found = from_file(data, settings.parameters)
            evaluation, shown = run(found, settings, stages), None
        else:
            from veilmatch.client.evaluation.data.capture import orl_photos

            own = None if config is None else DeviceSettings.load(config)
            how = _How(hard, degrade, pictures, views, attacks, own)
            photos = orl_photos() if data is None else _photos_of(data)
            found, evaluation, swept, shown, viewed, of_attacks = _with_photos(photos, settings, how, stages)
            names = [Path(str(photos[number][1])).name for number in found.photos]
    told = () if attributes is None else by_group(evaluation, found.subjects, attributes, names)
    extra = report.Extra(gallery_size, told, shown, swept.discard, of_attacks, fused, viewed)
    files = report.write(output, evaluation, swept.points, extra)
    done = f"the report was written to {output}"
    if as_json:
        show_json(report.document(evaluation, swept.points, extra), done=done)
    else:
        show(str(summary(evaluation.figures, gallery_size)), done=done)
        _print(evaluation, swept.points, extra, done)
    messages().print(f"report: {output / 'report.html'}, and {len(files) - 1} files beside it", soft_wrap=True)
    agreement = evaluation.figures.agreement
    if agreement is not None and agreement.different:
        raise IntegrityError(report.verdict(evaluation.figures))
    if viewed is not None and not viewed.exact:
        raise IntegrityError("encrypted decisions about the compared ways to enrol differ from those of the integers")
    if target is not None:
        _write(target, evaluation)


class _How(NamedTuple):
    """What is done with photos beside comparing them. own: the device whose [capture] and [liveness] are used."""

    hard: bool
    degrade: bool
    pictures: bool
    views: bool
    attacks: Path | None
    own: DeviceSettings | None


def _with_photos(
    photos: list[tuple[str, ImageSource]], settings: Settings, how: _How, show: faces.Progress
) -> tuple[faces.FaceSet, Evaluation, Sweep, Pictures | None, ViewFigures | None, AttackFigures | None]:
    """Evaluate (subject, photo) pairs."""
    from veilmatch.client.capture.detector import YuNetDetector
    from veilmatch.client.capture.settings import CaptureSettings
    from veilmatch.client.evaluation.attacks import read_attacks
    from veilmatch.client.evaluation.data.capture import capture, installed_embedder
    from veilmatch.client.evaluation.figures.pictures import Photos
    from veilmatch.client.evaluation.study import evaluate as run
    from veilmatch.client.evaluation.sweep import Sweep, SweepSettings, sweep

    own = CaptureSettings() if how.own is None else how.own.capture
    attacks = None if how.attacks is None else read_attacks(how.attacks)
    detector, embedder = YuNetDetector.installed(own.detector), installed_embedder(settings.parameters, own)
    seed = settings.seed if how.hard else None
    found = capture(photos, detector, embedder, settings.parameters, show, seed, own)
    evaluation = run(found, settings, show)
    t, swept, viewed, of_attacks = evaluation.figures.choice.t, Sweep(), None, None
    if how.degrade:
        at = SweepSettings(settings.parameters, t, settings.seed, settings.replicates, own)
        swept = sweep(photos, found, detector, embedder, at, show)
    if how.views:
        from veilmatch.client.evaluation.views import capture_views, view_study

        viewed = view_study(capture_views(photos, found, detector, embedder, settings, own, show), settings, show)
    if attacks is not None:
        of_attacks = _of_attacks(attacks, photos, found, (settings.parameters, t), how.own, (detector, embedder), show)
    shown = Photos(photos, found, detector).pictures(evaluation, swept.points, settings.seed) if how.pictures else None
    return found, evaluation, swept, shown, viewed, of_attacks


def _parts(data: Path | None, others: list[str], settings: Settings, hard: bool, show: faces.Progress) -> Parts:
    """Return what is fused: of files, or of photos by both installed face models."""
    from veilmatch.client.evaluation.fusion import parts_of_faces, parts_of_files

    if data is not None and data.is_file():
        return parts_of_files([data, *map(Path, others)])
    if others != [_SECOND]:
        raise typer.BadParameter(f"photos are fused with `--fuse {_SECOND}`, files of embeddings with files")
    from veilmatch.client.capture.detector import YuNetDetector
    from veilmatch.client.evaluation.data.capture import capture, installed_embedder, orl_photos
    from veilmatch.crypto.parameters import D512

    photos = orl_photos() if data is None else _photos_of(data)
    detector, seed = YuNetDetector.installed(), settings.seed if hard else None
    return parts_of_faces(
        [capture(photos, detector, installed_embedder(p), p, show, seed) for p in (ParameterSet(), D512)]
    )


def _of_attacks(
    attacks: dict[str, list[tuple[str, ImageSource]]],
    photos: list[tuple[str, ImageSource]],
    found: faces.FaceSet,
    at: tuple[ParameterSet, int],
    own: DeviceSettings | None,
    parts: tuple[Detector, Embedder],
    show: faces.Progress,
) -> AttackFigures:
    """Measure attacks with the detector of [liveness], or without one."""
    from veilmatch.client.capture.pipeline import CapturePipeline
    from veilmatch.client.evaluation.attacks import measure_attacks
    from veilmatch.client.liveness.check import LivenessCheck

    check = None
    if own is not None and own.liveness is not None:
        check = LivenessCheck(own.liveness, own.capture, detector=parts[0])
    pipeline = CapturePipeline(*parts, None if own is None else own.capture)
    live = [photo for _, photo in photos]
    return measure_attacks(
        attacks, live, found, pipeline.embed_photo, None if check is None else check.is_live, at, show
    )


def _photos_of(folder: Path) -> list[tuple[str, ImageSource]]:
    """Return the photos of a folder, and say what else is in it."""
    found = read_folder(folder)
    for entry in found.left_out:
        messages().print(f"left out: {entry}", markup=False, soft_wrap=True)
    return list(found.photos)


def _print(evaluation: Evaluation, points: Sequence[SweepPoint], extra: Extra, done: str) -> None:
    """Print the tables, and last whether encryption changed a decision."""
    from veilmatch.client.evaluation.figures import report

    for table in report.tables(evaluation.figures, points, extra):
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
