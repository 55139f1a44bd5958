"""`veilmatch demo`: real people, real processes, every decision compared with the plaintext one."""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from veilmatch.common.output import messages, show_json, show_tables
from veilmatch.crypto.errors import IntegrityError


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(demo)


def demo(
    people: Annotated[int, typer.Option(min=2, max=40, help="How many people of the AT&T/ORL photos.")] = 40,
    parameters: Annotated[str, typer.Option(help="Parameter set of the ceremony.")] = "d128-s126-c38-l46-n3072",
    dealerless: Annotated[
        bool, typer.Option(help="Hold the ceremony as three organisations do: no machine ever has the key. Slower.")
    ] = False,
    json_file: Annotated[Path | None, typer.Option(help="Also write the figures to this file.", readable=False)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON instead of the report.")] = False,
) -> None:
    """Hold a key ceremony, start a matcher and a key holder of each organisation, enrol, verify and search real faces.

    Exit status 0 only if every encrypted decision equals the plaintext one.
    """
    from veilmatch.client import extras
    from veilmatch.client.demo.parties import all_parties, fresh_passphrase, hold_ceremony
    from veilmatch.client.demo.report import report
    from veilmatch.client.demo.story import as_json as figures_of
    from veilmatch.client.demo.story import live_through
    from veilmatch.client.models import install_models, install_photos
    from veilmatch.crypto.parameters import ParameterSet

    extras.require("device", "server")
    console = messages()
    chosen = ParameterSet.from_name(parameters)
    install_models(console.print)
    install_photos(console.print)
    passphrase = fresh_passphrase()
    with tempfile.TemporaryDirectory(prefix="veilmatch-demo-") as scratch:
        directory = Path(scratch) / "installation"
        made = hold_ceremony(directory, chosen.name, passphrase, jointly=dealerless)
        columns = TextColumn("{task.description:>8}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        with all_parties(directory, passphrase), Progress(*columns, console=console) as bar:
            tasks: dict[str, object] = {}

            def progress(stage: str, done: int, total: int) -> None:
                if stage not in tasks:
                    tasks[stage] = bar.add_task(stage, total=total)
                bar.update(tasks[stage], completed=done + 1)  # type: ignore[arg-type]

            story = asyncio.run(live_through(directory / "device-1" / "device.toml", people, chosen, progress))
    figures = figures_of(story, chosen.name, made["ceremony_s"])
    if json_file is not None:
        json_file.write_text(json.dumps(figures, indent=1) + "\n")
    done = "the demonstration was run"
    if as_json:
        show_json(figures, done=done)
    else:
        show_tables(*report(story, chosen.name, made["ceremony_s"]), done=done)
    if not story.exact:
        raise IntegrityError("encrypted answers differ from the plaintext decisions")
