"""`veilmatch canary`: ask every pair a question whose answer is known; for a timer. See docs/monitoring.md."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from veilmatch.client.commands.base.options import DEFAULT_CONFIG, Config, Json
from veilmatch.common.output import error_document, show, show_json
from veilmatch.crypto.errors import ConfigurationError, IntegrityError

if TYPE_CHECKING:
    from veilmatch.client.operations.canary import Run

_DONE = "every pair was asked"


def register(app: typer.Typer) -> None:
    """Add the command to app."""
    app.command("canary")(canary)


def canary(
    config: Config = DEFAULT_CONFIG,
    textfile: Annotated[
        Path | None,
        typer.Option(help="NAME.prom in the folder of node_exporter's textfile collector: written.", readable=False),
    ] = None,
    enrol: Annotated[
        bool, typer.Option("--enrol", help="Enrol the canaries, once; takes a device that may enrol in this gallery.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Ask every pair of organisations two questions whose answers are known, and say whether they were right.

    The device's gallery must be one of canaries alone. Exit status: 0 all were right; 7 one was wrong; otherwise that
    of the first error: 6 a party is missing, for example.
    """
    from veilmatch.client.config import DeviceSettings
    from veilmatch.client.operations.canary import enrol_canaries, run_canary

    settings = DeviceSettings.load(config)
    if settings.gallery == "main":
        raise ConfigurationError(
            "canaries have a gallery of their own", got="main", expected='gallery = "canary" in device.toml'
        )
    if enrol:
        count = asyncio.run(enrol_canaries(settings))
        done = f"{count} canaries are in gallery {settings.gallery}"
        show_json({"canaries": count}, done=done) if as_json else show(done, done=done)
        return
    runs = run_canary(settings)
    if textfile is not None:
        _write(textfile, runs)
    if as_json:
        show_json({"pairs": {run.pair: _document(run) for run in runs}}, done=_DONE)
    else:
        for run in runs:
            show(f"pair {run.pair}: {run.error.claim if run.error else 'right'} ({run.seconds:.2f} s)", done=_DONE)
    raise typer.Exit(_status(runs))


def _status(runs: Sequence[Run]) -> int:
    """Return the exit status: a wrong answer first, then whatever failed first."""
    errors = [run.error for run in runs if run.error is not None]
    wrong = [error for error in errors if isinstance(error, IntegrityError)]
    return next((error.exit_status for error in (*wrong, *errors)), 0)


def _document(run: Run) -> dict[str, object]:
    error = None if run.error is None else error_document(run.error)
    return {"right": run.error is None, "seconds": round(run.seconds, 3), "error": error}


def _write(path: Path, runs: Sequence[Run]) -> None:
    """Write the metrics in one, so that the collector reads all of them or those of the last run."""
    lines = [
        "# HELP veilmatch_canary_right Whether a pair answered the canary's questions rightly.",
        "# TYPE veilmatch_canary_right gauge",
        *(f'veilmatch_canary_right{{pair="{run.pair}"}} {int(run.error is None)}' for run in runs),
        "# HELP veilmatch_canary_seconds How long both answers of a pair took.",
        "# TYPE veilmatch_canary_seconds gauge",
        *(f'veilmatch_canary_seconds{{pair="{run.pair}"}} {run.seconds:.3f}' for run in runs),
        "# HELP veilmatch_canary_timestamp_seconds When the canary asked last.",
        "# TYPE veilmatch_canary_timestamp_seconds gauge",
        f"veilmatch_canary_timestamp_seconds {time.time():.0f}",
    ]
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_text("\n".join([*lines, ""]))
        beside.replace(path)
    except OSError as error:
        raise ConfigurationError(
            "the metrics of the canary cannot be written", got=f"{path}: {error.strerror}", expected="a folder"
        ) from None
