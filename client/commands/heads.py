"""`veilmatch heads`: classes in place of people. Train a classifier, enrol it as ciphertexts, ask it with a photo."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from veilmatch.client import extras
from veilmatch.client.commands.base.options import DEFAULT_CONFIG, Assured, Config, Face, Json, Timeout
from veilmatch.client.commands.base.stages import Stages, progress_bars
from veilmatch.common.output import messages, show, show_json, show_tables
from veilmatch.crypto.errors import IntegrityError
from veilmatch.crypto.parameters import ParameterSet

if TYPE_CHECKING:
    from veilmatch.client.capture.settings import CaptureSettings
    from veilmatch.client.evaluation.data.faces import Progress
    from veilmatch.client.evaluation.heads.sets import Labelled, MadeClasses
    from veilmatch.client.evaluation.heads.study import HeadFigures

Name = Annotated[
    str, typer.Option("--name", help="Name of the head, up to 24 characters; the same wherever it is asked.")
]
HeadThreshold = Annotated[
    float, typer.Option("--threshold", help="Cosine that probes ask with; the same in training and in asking.")
]
_KINDS: tuple[MadeClasses, ...] = ("condition", "mask")
_THRESHOLD = 0.40


def register(app: typer.Typer) -> None:
    """Add the sub-commands `heads train`, `heads enrol` and `heads classify` to app."""
    heads = typer.Typer(no_args_is_help=True, help="Classes in place of people: encrypted linear classifiers.")
    heads.command("train")(train)
    heads.command("enrol")(enrol)
    heads.command("classify")(classify)
    app.add_typer(heads, name="heads")


def train(
    data: Annotated[
        Path | None,
        typer.Argument(
            help="Folder of CLASS/PERSON/PHOTO or CLASS/PHOTO, or .npz with `embeddings`, `classes`, maybe `people`.",
            readable=False,
        ),
    ] = None,
    name: Name = "head",
    orl: Annotated[
        str | None, typer.Option("--orl", help="In place of DATA the test photos, made into classes: condition, mask.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the head, trained on everything.", readable=False)
    ] = None,
    parameters: Annotated[str, typer.Option(help="Parameter set of the installation.")] = ParameterSet().name,
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="A device.toml whose [capture] is used.", readable=False),
    ] = None,
    mean: Annotated[
        int, typer.Option("--mean", min=1, max=64, help="Photos of a person that are one example, by their mean.")
    ] = 1,
    threshold: HeadThreshold = _THRESHOLD,
    regularisation: Annotated[
        float, typer.Option(min=1e-6, help="Inverse strength of the L2 penalty: smaller where photos are few.")
    ] = 30.0,
    folds: Annotated[int, typer.Option(min=2, help="Parts of the cross-validation, by people.")] = 5,
    encrypted: Annotated[
        bool, typer.Option("--encrypted/--no-encrypted", help="Classify every photo under encryption as well.")
    ] = True,
    replicates: Annotated[int, typer.Option(min=100, help="Resamples of the people, for the intervals.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of folds, resamples and made classes.")] = 1,
    as_json: Json = False,
) -> None:
    """Train a linear classifier on face embeddings, and measure how often it errs on people it was not trained on.

    Exit status 7 if an encrypted decision differs from the one of the same integers in clear.
    """
    from veilmatch.client.config import DeviceSettings
    from veilmatch.client.evaluation.heads.sets import in_means
    from veilmatch.client.evaluation.heads.study import HeadSettings, measure_head
    from veilmatch.client.evaluation.heads.training import train as fit

    if (data is None) == (orl is None):
        raise typer.BadParameter("give DATA or --orl")
    if orl is not None and orl not in _KINDS:
        raise typer.BadParameter(f"--orl is one of {', '.join(_KINDS)}")
    extras.require("eval", *([] if data is not None and data.is_file() else ["device"]))
    chosen, own = ParameterSet.from_name(parameters), None if config is None else DeviceSettings.load(config).capture
    settings = HeadSettings(chosen, threshold, regularisation, folds, replicates, seed, encrypted)
    with progress_bars() as bars:
        stages = Stages(bars)
        found = in_means(_labelled(data, orl, chosen, own, seed, stages), mean)
        figures = measure_head(found, settings, stages)
    done = f"the head was measured on {figures.photos} {'photos' if mean == 1 else 'means of photos'}"
    if output is not None:
        fit(found, name, chosen, threshold, regularisation).save(output)
        done = f"{done} and written to {output}"
    if as_json:
        show_json(asdict(figures), done=done)
    else:
        _print(figures, done)
    if output is not None:
        messages().print(f"head: {output}, for its owner alone", soft_wrap=True, markup=False)
    if figures.different:
        raise IntegrityError(f"{figures.different} encrypted decisions differ from those of the integers")


def _labelled(
    data: Path | None, orl: str | None, parameters: ParameterSet, own: CaptureSettings | None, seed: int, show: Progress
) -> Labelled:
    from veilmatch.client.evaluation.heads import sets

    if data is not None and data.is_file():
        return sets.of_file(data)
    from veilmatch.client.capture.detector import YuNetDetector
    from veilmatch.client.capture.pipeline import CapturePipeline
    from veilmatch.client.evaluation.data.capture import installed_embedder, orl_photos

    detector = YuNetDetector.installed(None if own is None else own.detector)
    pipeline = CapturePipeline(detector, installed_embedder(parameters, own), own)
    if data is None:
        kind = next(kind for kind in _KINDS if kind == orl)
        return sets.of_test_photos(kind, orl_photos(), detector, pipeline, seed, show)
    photos, left_out = sets.read_class_folder(data)
    for entry in left_out:
        messages().print(f"left out: {entry}", markup=False, soft_wrap=True)
    return sets.of_photos(photos, pipeline, show)


def _print(f: HeadFigures, done: str) -> None:
    table = Table(
        "decider", "errors", "95 %", title=f"{f.photos} photos of {f.people} people, {f.folds} folds by people"
    )
    table.add_row("always the largest class", f"{100 * f.baseline:.2f} %", "")
    for name, rate in f.errors.items():
        low, high = 100 * rate.interval.low, 100 * rate.interval.high
        table.add_row(name, f"{100 * rate.rate:.2f} %", f"{low:.2f} to {high:.2f} %")
    show_tables(table, done=done)
    confusion = Table("class", *f.classes, title="decisions of the integers, by class")
    for row, counts in zip(f.classes, f.confusion, strict=True):
        confusion.add_row(row, *(str(count) for count in counts))
    show_tables(confusion, done=done)
    said = f"Rounding changes {f.rounded} decisions; {f.none} photos reach no class. "
    if f.different is None:
        said += "Not compared: the encrypted decider was not run."
    elif f.different:
        said += f"NOT EXACT: {f.different} of {f.photos} encrypted decisions differ from those of the integers."
    else:
        said += f"Exact: all {f.photos:,} encrypted decisions equal those of the integers."
    show_tables(said, done=done, style="bold")


def enrol(
    head: Annotated[Path, typer.Argument(help="A file of `heads train --output`.", readable=False)],
    config: Config = DEFAULT_CONFIG,
    as_json: Json = False,
) -> None:
    """Enrol the classes of a head, encrypted, in the gallery of the configuration, which is for this head alone."""
    from veilmatch.client.commands.base.options import open_client
    from veilmatch.client.vectors.head import Head

    loaded = Head.load(head)
    with open_client(config) as client, messages().status("Enrolling"):
        sequence = loaded.enrol(client)
    done = f"enrolled: {len(loaded.classes)} classes of {loaded.name} (change {sequence})"
    if as_json:
        document = {"name": loaded.name, "classes": list(loaded.classes), "model": loaded.model, "sequence": sequence}
        show_json(document, done=done)
    else:
        show(done, done=done)


def classify(
    photos: Annotated[
        list[str], typer.Argument(metavar="PHOTO...", help="Photos of one face, as their mean; - for standard input.")
    ],
    name: Name = "head",
    threshold: HeadThreshold = _THRESHOLD,
    config: Config = DEFAULT_CONFIG,
    assured: Assured = False,
    face: Face = None,
    timeout: Timeout = None,
    as_json: Json = False,
) -> None:
    """Say the class of the face in a photo, or in several together: to this device alone.

    Exit status 0 is a class, 1 is none. Where [liveness] asks for a check before `identify`, one photo is taken.
    """
    from veilmatch.client.client import Client
    from veilmatch.client.commands.base.options import configured, given_photos, match_document
    from veilmatch.client.vectors.captures import ClassCapture

    settings = configured(config, face)
    given = given_photos(photos)
    capture = ClassCapture.of_device(settings, name, threshold)
    with Client(settings, capture=capture) as client, messages().status("Classifying"):
        if len(given) == 1:
            result = client.identify(given[0], threshold=threshold, assured=assured or None, timeout_s=timeout)
        else:
            result = client.identify_embedding(
                capture.embed_photos(given), model=capture.model_id,
                threshold=threshold, assured=assured or None, timeout_s=timeout,
            )  # fmt: skip
    done = "the classes were compared"
    if as_json:
        show_json({"class": result.subject, "compared": result.compared} | match_document(result), done=done)
    else:
        if result.subject is not None:
            show(result.subject, done=done)
        messages().print(f"of {result.compared} classes ({result.timings.total_s:.2f} s)")
    raise typer.Exit(0 if result else 1)
